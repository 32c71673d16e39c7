"""What a linear probe is asked: which rows, which labels, which groups are left out, and what chance would be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from cache import ActivationStore
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.repeatable import check_seed
from cache.store.view import View, check_view
from geometry.rows.analysed import families_text
from geometry.rows.cells import Balance, CellPlan, balance, complete_controls, plan_cells
from geometry.rows.names import names_of
from probes.linear.controls import control_draws
from probes.linear.probe import Fold, group_codes, leave_groups_out

TARGETS = ("family", "member", "number", "angle")
LEAVE_OUT = ("member", "template")

N_PERMUTATIONS = 19

MOST_PERMUTATIONS = 10_000

N_CONTROL_TASKS = 5

N_CONTROL_DRAWS = 19
"""So many draws of families take the place of the families; with so many the smallest p is .05."""


@dataclass(frozen=True)
class Question:
    """What a linear probe is asked.

    Attributes:
        target: what is read: family, member, number or angle.
        leave_out: what the probe is scored on and has not seen: member or template (frame and draw of names).
        families: which; None for all but the controls.
        strict: with members left out, leave out of the training rows all prompts that show one of them at all.
        period: ordinals in a circle; None for the length of the cyclic families if they agree, else the number of
            members probed.

    Raises:
        InputError: no such target or groups, no period, or a member's class is asked for with members left out.

    Example:
        >>> Question("number", families="digits").leave_out
        'member'
    """

    target: str = "family"
    leave_out: str = "member"
    families: Sequence[str] | None = None
    strict: bool = False
    period: float | None = None

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise InputError(f"no target {self.target!r}; there are {', '.join(TARGETS)}")
        if self.leave_out not in LEAVE_OUT:
            raise InputError(f"no groups {self.leave_out!r} to leave out; there are {', '.join(LEAVE_OUT)}")
        if (self.target, self.leave_out) == ("member", "member"):
            raise InputError("a probe cannot name a member that it never saw; to probe members, leave out templates")
        if self.period is not None and not (math.isfinite(self.period) and self.period > 0):
            raise InputError(f"the period of an angle is a number above 0; got {self.period}")


@dataclass(frozen=True)
class ProbeTask:
    """The rows of a probe, and all that it needs besides their activations.

    Attributes:
        question: what is asked, with its families in the order of their labels, and its period.
        chosen: which rows of the store are used.
        labels: of the chosen rows, from 0: the true ones, then permuted ones, then those of control tasks.
        ordinals: of the members, in the order of their labels.
        folds: which rows are fitted and which are left out.
        groups: the group (member or template) of each row.
        members: the ordinal of each row.
        n_templates: how many templates.
        controls: the same task with as many other families in place of the families, true labels only.
        ranked: whether the families can be ranked among those (`linear.controls`).
    """

    question: Question
    chosen: Bool[np.ndarray, " store_row"]
    labels: Int[np.ndarray, "draw row"]
    ordinals: Int[np.ndarray, " label"]
    folds: tuple[Fold, ...]
    groups: Int[np.ndarray, " row"]
    members: Int[np.ndarray, " row"]
    n_templates: int
    controls: tuple["ProbeTask", ...] = ()
    ranked: bool = False

    @property
    def families(self) -> tuple[str, ...]:
        """The families that are probed."""
        return tuple(self.question.families or ())

    @property
    def period(self) -> float:
        """Ordinals in a circle."""
        return float(self.question.period or math.nan)


def plan_probe(
    view: View,
    question: Question,
    *,
    n_permutations: int = N_PERMUTATIONS,
    n_draws: int = N_CONTROL_DRAWS,
    seed: int = 0,
) -> ProbeTask:
    """The task of a probe over the contexts and members that all its families have without a gap.

    Args:
        view: the rows; each prompt's last token where it asks for none.
        question: what is asked.
        n_permutations: times that members are permuted.
        n_draws: draws of other families, 19 or more.
        seed: seeds all draws.

    Raises:
        InputError: no such family, too few families, members or templates, or too few permutations or draws.
    """
    seed = check_seed(seed)
    check_view(view)
    _check_draws(n_permutations, n_draws)
    names = _families(view.store, question)
    plan = plan_cells(view, [*names, *(name for name in view.store.controls if name not in names)])
    common = balance(plan, names)
    period = float(question.period or _period(names, len(common.members)))
    asked = replace(question, families=tuple(names), period=period)
    build = partial(_build, view.store, plan, common)
    pool = [name for name in complete_controls(plan, common) if name not in names]
    draws, ranked = control_draws(names, pool, n_draws, seed)
    controls = tuple(build(replace(asked, families=draw)) for draw in draws)
    own = build(asked)
    null, control = _by_chance(own, view.store.rows[own.chosen], n_permutations, seed)
    return replace(own, labels=np.vstack([own.labels, null, control]), controls=controls, ranked=ranked)


def relabelled(
    labels: Int[np.ndarray, " row"], blocks: Int[np.ndarray, " row"], *, n_draws: int, seed: Sequence[int]
) -> Int[np.ndarray, "draw row"]:
    """Labels whose values are exchanged at random, in every block of rows by an order of its own.

    Rows that share block and label keep a common label. With the member as block (for families) or the family (for
    members), each (family, member) type has a random label that is the same in all its rows: a control task.

    Args:
        labels: from 0 up.
        blocks: the block of each row.
        n_draws: how many labellings.
        seed: seeds them.

    References: Hewitt and Liang 2019.
    """
    rng = np.random.default_rng(seed)
    codes = group_codes(blocks.tolist())
    order = np.tile(np.arange(labels.max() + 1), (n_draws, codes.max() + 1, 1))
    return rng.permuted(order, axis=-1)[:, codes, labels]


def _build(store: ActivationStore, plan: CellPlan, common: Balance, question: Question) -> ProbeTask:
    """The task of some families of a plan at the contexts and members of a balance, with true labels only."""
    names = list(question.families or ())
    family, context, member = np.unravel_index(plan.cell_of_row, plan.counts.shape)
    kept = np.isin(family, [plan.families.index(name) for name in names])
    kept &= np.isin(context, common.contexts) & np.isin(member, common.members)
    chosen = plan.chosen.copy()
    chosen[chosen] = kept
    rows = store.rows[chosen]
    member = np.searchsorted(common.members, member[kept])
    template = _templates(rows)
    ordinals = np.array([plan.members[i] for i in common.members])
    groups = member if question.leave_out == "member" else template
    folds = leave_groups_out(groups.tolist())
    if question.strict and question.leave_out == "member":
        shown = store.prompts["values"].to_numpy()[rows["prompt"]]
        folds = tuple(_without_shown(fold, shown.tolist(), ordinals[member]) for fold in folds)
    return ProbeTask(
        question=question,
        chosen=chosen,
        labels=(_numbers(rows, names) if question.target == "family" else member)[None],
        ordinals=ordinals,
        folds=folds,
        groups=groups,
        members=ordinals[member],
        n_templates=int(template.max()) + 1,
    )


def _by_chance(
    task: ProbeTask, rows: pd.DataFrame, n_permutations: int, seed: int
) -> tuple[Int[np.ndarray, "permutation row"], Int[np.ndarray, "control row"]]:
    """Permuted labels, which tell nothing of rows that are left out, and those of control tasks."""
    of_family = task.question.target == "family"
    family, template = _numbers(rows, task.families), _templates(rows)
    member = np.searchsorted(task.ordinals, task.members)
    blocks = member if of_family else np.zeros_like(member)
    blocks = blocks * (1 + template.max()) + template if task.question.leave_out == "template" else blocks
    null = relabelled(task.labels[0], blocks, n_draws=n_permutations, seed=(seed, 0))
    fixed = member if of_family else family
    return null, relabelled(task.labels[0], fixed, n_draws=N_CONTROL_TASKS, seed=(seed, 1))


def _templates(rows: pd.DataFrame) -> Int[np.ndarray, " row"]:
    """The number of each row's template: frame and draw of names."""
    return group_codes((rows["frame"] + "|" + rows["template"].astype(str)).tolist())


def _numbers(rows: pd.DataFrame, names: Sequence[str]) -> Int[np.ndarray, " row"]:
    """The number of each row's family among some."""
    return np.array([list(names).index(name) for name in rows["family"]])


def _check_draws(n_permutations: int, n_draws: int) -> None:
    if not 1 <= n_permutations <= MOST_PERMUTATIONS:
        raise InputError(f"the null takes 1 to {MOST_PERMUTATIONS:,} permutations; got {n_permutations:,}")
    if not N_CONTROL_DRAWS <= n_draws <= MOST_PERMUTATIONS:
        raise InputError(f"a score is ranked among {N_CONTROL_DRAWS} to {MOST_PERMUTATIONS:,} draws; got {n_draws:,}")


def _families(store: ActivationStore, question: Question) -> list[str]:
    names = names_of(store.families if question.families is None else question.families)
    if not names:
        raise InputError(
            f"a probe needs families that are not controls; got none from the store: {families_text(store)}"
        )
    if question.target == "family" and len(names) < 2:
        raise InputError(f"a family probe tells 2 families or more apart; got {', '.join(names)}")
    return names


def _without_shown(fold: Fold, shown: Sequence[Sequence[int]], members: Int[np.ndarray, " row"]) -> Fold:
    """The fold without training rows whose prompts show, anywhere, a member that is left out."""
    left_out = set(members[fold.test].tolist())
    clean = [row for row in fold.train.tolist() if left_out.isdisjoint(shown[row])]
    return Fold(np.array(clean, dtype=np.int64), fold.test)


def _period(names: Sequence[str], n_members: int) -> int:
    """The length of the cyclic families if these agree, else the number of members."""
    lengths = {len(FAMILIES[name].members) for name in names if name in FAMILIES and FAMILIES[name].cyclic}
    return lengths.pop() if len(lengths) == 1 else n_members
