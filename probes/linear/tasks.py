"""What a linear probe is asked: which rows, which labels, which groups are left out, and what chance would be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Int

from cache import ActivationStore
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.seeds import check_seed
from cache.store.view import Where
from geometry.rows.analysed import families_text
from geometry.rows.cells import CONTROL_PREFIX, Balance, CellPlan, balance, complete_controls, plan_cells
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
class ProbeTask:
    """The rows of a probe, and all that it needs besides their activations.

    Attributes:
        target: family, member, number or angle.
        families: in the order of their labels.
        chosen: which rows of the store are used.
        labels: of the chosen rows, from 0: the true ones, then permuted ones, then those of control tasks.
        ordinals: of the members, in the order of their labels.
        folds: which rows are fitted and which are left out.
        groups: the group (member or template) of each row.
        members: the ordinal of each row.
        period: ordinals in a circle.
        n_templates: how many templates.
        controls: the same task with as many other families in place of the families, true labels only.
        ranked: whether the families can be ranked among those (`linear.controls`).
    """

    target: str
    families: tuple[str, ...]
    chosen: Bool[np.ndarray, " store_row"]
    labels: Int[np.ndarray, "draw row"]
    ordinals: Int[np.ndarray, " label"]
    folds: tuple[Fold, ...]
    groups: Int[np.ndarray, " row"]
    members: Int[np.ndarray, " row"]
    period: float
    n_templates: int
    controls: tuple["ProbeTask", ...] = ()
    ranked: bool = False


def plan_probe(
    store: ActivationStore,
    target: str,
    leave_out: str,
    *,
    families: Sequence[str] | None = None,
    where: Where = None,
    strict: bool = False,
    period: float | None = None,
    n_permutations: int = N_PERMUTATIONS,
    n_draws: int = N_CONTROL_DRAWS,
    seed: int = 0,
) -> ProbeTask:
    """The task of a probe over the contexts and members that all its families have without a gap.

    The arguments are those of `probe_by_layer`.

    Raises:
        InputError: no such target, groups or family, or too few families, members or templates; or a member's class
            is asked for with members left out.
    """
    seed = check_seed(seed)
    _check(target, leave_out, n_permutations, n_draws, period)
    names = _families(store, target, families)
    others = [name for name in dict.fromkeys(store.rows["family"]) if name.startswith(CONTROL_PREFIX)]
    plan = plan_cells(store, [*names, *(name for name in others if name not in names)], where)
    common = balance(plan, names)
    period = float(period or _period(names, len(common.members)))
    build = partial(_build, store, plan, common, target=target, leave_out=leave_out, strict=strict, period=period)
    pool = [name for name in complete_controls(plan, common) if name not in names]
    draws, ranked = control_draws(names, pool, n_draws, seed)
    controls = tuple(build(draw, n_permutations=0, n_tasks=0) for draw in draws)
    own = build(names, n_permutations=n_permutations, n_tasks=N_CONTROL_TASKS, seed=seed)
    return replace(own, controls=controls, ranked=ranked)


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


def _build(
    store: ActivationStore,
    plan: CellPlan,
    common: Balance,
    names: Sequence[str],
    *,
    target: str,
    leave_out: str,
    strict: bool,
    period: float,
    n_permutations: int,
    n_tasks: int,
    seed: int = 0,
) -> ProbeTask:
    """The task of some families of a plan at the contexts and members of a balance."""
    family, context, member = np.unravel_index(plan.cell_of_row, plan.counts.shape)
    kept = np.isin(family, [plan.families.index(name) for name in names])
    kept &= np.isin(context, common.contexts) & np.isin(member, common.members)
    chosen = plan.chosen.copy()
    chosen[chosen] = kept
    rows = store.rows[chosen]
    family = np.array([list(names).index(name) for name in rows["family"]])
    member = np.searchsorted(common.members, member[kept])
    template = group_codes((rows["frame"] + "|" + rows["template"].astype(str)).tolist())
    ordinals = np.array([plan.members[i] for i in common.members])
    groups = member if leave_out == "member" else template
    folds = leave_groups_out(groups.tolist())
    if strict and leave_out == "member":
        shown = store.prompts["values"].to_numpy()[rows["prompt"]]
        folds = tuple(_without_shown(fold, shown.tolist(), ordinals[member]) for fold in folds)
    of_family = target == "family"
    labels = family if of_family else member
    # relabelled within these blocks, a label tells nothing of rows that are left out
    blocks = member if of_family else np.zeros_like(member)
    blocks = blocks * (1 + template.max()) + template if leave_out == "template" else blocks
    null = relabelled(labels, blocks, n_draws=n_permutations, seed=(seed, 0))
    control = relabelled(labels, member if of_family else family, n_draws=n_tasks, seed=(seed, 1))
    return ProbeTask(
        target=target,
        families=tuple(names),
        chosen=chosen,
        labels=np.vstack([labels, null, control]),
        ordinals=ordinals,
        folds=folds,
        groups=groups,
        members=ordinals[member],
        period=period,
        n_templates=int(template.max()) + 1,
    )


def _check(target: str, leave_out: str, n_permutations: int, n_draws: int, period: float | None) -> None:
    if target not in TARGETS:
        raise InputError(f"no target {target!r}; there are {', '.join(TARGETS)}")
    if leave_out not in LEAVE_OUT:
        raise InputError(f"no groups {leave_out!r} to leave out; there are {', '.join(LEAVE_OUT)}")
    if (target, leave_out) == ("member", "member"):
        raise InputError("a probe cannot name a member that it never saw; to probe members, leave out templates")
    if not 1 <= n_permutations <= MOST_PERMUTATIONS:
        raise InputError(f"the null takes 1 to {MOST_PERMUTATIONS:,} permutations; got {n_permutations:,}")
    if not N_CONTROL_DRAWS <= n_draws <= MOST_PERMUTATIONS:
        raise InputError(f"a score is ranked among {N_CONTROL_DRAWS} to {MOST_PERMUTATIONS:,} draws; got {n_draws:,}")
    if period is not None and not (math.isfinite(period) and period > 0):
        raise InputError(f"the period of an angle is a number above 0; got {period}")


def _families(store: ActivationStore, target: str, families: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(filter(None, store.rows["family"])))
    wanted = [name for name in known if not name.startswith(CONTROL_PREFIX)] if families is None else families
    names = names_of(wanted)
    if not names:
        raise InputError(
            f"a probe needs families that are not controls; got none from the store: {families_text(store)}"
        )
    if target == "family" and len(names) < 2:
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
