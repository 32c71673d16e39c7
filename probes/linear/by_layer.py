"""Linear probes at every layer: family, member, number and angle, each beside what chance and a control task give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import ActivationStore, Hook
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.results.dataset import Named, on_sites
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.uncertainty import share_error, share_interval
from probes.linear.probe import (
    PENALTIES,
    C,
    balanced_accuracy,
    mean_cosine,
    member_se,
    predict_classes,
    predict_values,
    r_squared,
)
from probes.linear.tasks import N_CONTROL_DRAWS, N_CONTROL_TASKS, N_PERMUTATIONS, ProbeTask, Question, plan_probe


@dataclass(frozen=True)
class _Scores:
    """Scores of the true labels, the permuted ones and the control tasks, in that order."""

    scores: Float[np.ndarray, " draw"]
    se: float
    chance: float


@dataclass(frozen=True)
class _Found:
    """What one layer gives: the families' scores, and those of control families in their place."""

    own: _Scores
    controls: Float[np.ndarray, " draw"]


def probe_by_layer(
    view: View,
    question: Question | str = "family",
    *,
    n_permutations: int = N_PERMUTATIONS,
    n_draws: int = N_CONTROL_DRAWS,
    seed: int = 0,
    loop: Loop = ALONE,
) -> LayerResult:
    """What a linear probe reads at every layer off members, or templates, that it has not seen.

    - `family`, `member`: balanced accuracy of multinomial logistic regression.
    - `number`: the member's ordinal by ridge regression; R^2 against predicting the training mean.
    - `angle`: the ordinal on a circle; mean cosine between predicted and true angle.

    One probe serves all families. Its contexts and members are those that all of them have without a gap: otherwise
    the ordinals would give the family away, and the family the ordinal. Leaving out a member leaves out its ordinal in
    all families; prompts that show it before their last member stay, unless `strict`.

    Beside the value: `control_task`, the mean score of tasks in which every (family, member) type has a random label
    that is the same in all templates (families are exchanged within a member; ordinals within a family, and with one
    family a member's class is its own control). Such labels can only be learned by heart, so that selectivity, the
    difference, tells what is not; a control task below chance counts as chance in it. With members left out there is
    nothing learned by heart that would help, and a control task is at chance by construction. `null_mean` and
    `null_max`: whole members exchange their labels so that nothing is left to learn, in every template anew if
    templates are left out. They describe, and give no p: members of overlapping windows are not exchangeable.

    Errors are of the members' held-out predictions; probes are not fitted again. Accuracies have an interval, exact
    where every prediction is right or wrong (`geometry.stats.uncertainty.share_interval`); R^2 and cosines have none.

    `p`: the score's rank among the same probe on other families in their place, random subsets of families and controls
    together (`linear.controls`), which share windows and contexts with them; it holds for all layers
    (`rank_p_over_layers`), and is nan with so few controls that they alone would not give 19 draws. `q` counts the
    probes that are joined (`probes.linear.joined`); of one probe it is p. `control_mean` and `control_max` are of the
    draws with no family of ours in them, `n_controls` in number.

    Args:
        view: the sites and rows; each prompt's last token where it asks for none.
        question: what is read, of which families, and what is left out; a target alone, such as `number`, leaves out
            members.
        n_permutations: times that members are permuted.
        n_draws: draws of other families, 19 or more; p is at least 1 / (1 + n_draws).
        seed: seeds the null and the control tasks.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook): `value`, `se` and what stands beside them; `null` over (hook, permutation), `control` over
        (hook, task), `control_families` over (hook, draw).

    Raises:
        InputError: no such target or family, or too few families, members, templates, permutations or draws.

    References: Alain and Bengio 2017; control tasks, Hewitt and Liang 2019.

    Example:
        >>> result = probe_by_layer(view, "family", n_permutations=2)
        >>> bool((result.values("value") <= 1).all()), result.table["layer"].tolist()
        (True, [-1, 0, 1, 2])
    """
    asked = Question(question) if isinstance(question, str) else question
    seed = check_seed(seed)
    (result,) = probes_by_layer(view, [asked], n_permutations=n_permutations, n_draws=n_draws, seed=seed, loop=loop)
    return result


def probes_by_layer(
    view: View,
    questions: Sequence[Question],
    *,
    n_permutations: int = N_PERMUTATIONS,
    n_draws: int = N_CONTROL_DRAWS,
    seed: int = 0,
    loop: Loop = ALONE,
) -> list[LayerResult]:
    """The results of several probes, each as `probe_by_layer` gives it, in one loop over the sites."""
    seed = check_seed(seed)
    tasks = [plan_probe(view, one, n_permutations=n_permutations, n_draws=n_draws, seed=seed) for one in questions]
    noted = [_parameters(view, one, n_permutations, seed) for one in tasks]

    def unit(hook: Hook) -> tuple[_Found, ...]:
        return tuple(_at_hook(view.store, hook, task) for task in tasks)

    analysis = Analysis("probe", {"probes": noted}, view.source, types=(_Found, _Scores))
    found = over(view.hooks, unit, analysis, loop)
    by_task = zip(tasks, noted, zip(*found, strict=True), strict=True)
    return [_result(view, task, parameters, mine) for task, parameters, mine in by_task]


def _parameters(view: View, task: ProbeTask, n_permutations: int, seed: int) -> dict[str, Any]:
    """What a probe's values depend on besides the store."""
    return {
        "site": view.site,
        "layers": view.layers,
        "where": view.noted(),
        "families": list(task.families),
        "seed": seed,
        "target": task.question.target,
        "leave_out": task.question.leave_out,
        "members": np.unique(task.members).tolist(),
        "strict": task.question.strict,
        "n_permutations": n_permutations,
        "n_draws": len(task.controls) if task.ranked else 0,
        "n_control_tasks": N_CONTROL_TASKS,
        "period": task.period,
        "c": C,
        "penalties": list(PENALTIES),
    }


def _at_hook(store: ActivationStore, hook: Hook, task: ProbeTask) -> _Found:
    own = _score(store.load(hook, task.chosen), task)
    controls = [float(_score(store.load(hook, one.chosen), one).scores[0]) for one in task.controls]
    return _Found(own, np.array(controls))


def _result(view: View, task: ProbeTask, parameters: dict[str, Any], found: Sequence[_Found]) -> LayerResult:
    draws, n_null = np.stack([one.own.scores for one in found]), 1 + parameters["n_permutations"]
    drawn = np.stack([one.controls for one in found])
    p = rank_p_over_layers(np.column_stack([draws[:, 0], drawn])) if task.ranked else np.full(len(found), np.nan)
    lines = [_line(one, float(one_p), task, parameters["n_permutations"]) for one, one_p in zip(found, p, strict=True)]
    arrays: Named = {
        **{name: ((), np.array(parameters[name])) for name in ("target", "leave_out")},
        **{name: (("hook",), np.array([line[name] for line in lines])) for name in lines[0]},
        "null": (("hook", "permutation"), draws[:, 1:n_null]),
        "control": (("hook", "task"), draws[:, n_null:]),
        "control_families": (("hook", "draw"), drawn),
    }
    return LayerResult("probe", on_sites(view.hooks, view.site, arrays), parameters, view.store.fingerprint)


def _score(x: Float[Tensor, "row d"], task: ProbeTask) -> _Scores:
    """Probes of all draws at one layer."""
    score, said, chance = _held_out(x, task)
    se = member_se(lambda kept: score(*(one[0][kept] for one in said)), task.members)
    return _Scores(np.array([score(*one) for one in zip(*said, strict=True)]), se, chance)


def _held_out(
    x: Float[Tensor, "row d"], task: ProbeTask
) -> tuple[Callable[..., float], Sequence[Shaped[np.ndarray, "draw row ..."]], float]:
    """How a probe is scored, what it is scored on (each by draw and row), and what chance would score."""
    if task.question.target in {"family", "member"}:
        predicted = predict_classes(x, task.labels, task.folds)
        return balanced_accuracy, (task.labels, predicted), 1 / len(np.unique(task.labels))
    y = task.ordinals[task.labels].astype(np.float64)
    if task.question.target == "number":
        held_out = predict_values(x, y[:, :, None], task.folds, task.groups)
        return r_squared, (y, held_out.predicted[..., 0], held_out.training_mean[..., 0]), 0.0
    angles = 2 * np.pi * y / task.period
    held_out = predict_values(x, np.stack([np.cos(angles), np.sin(angles)], axis=2), task.folds, task.groups)
    # members on part of a circle have a mean direction, which scores without any information
    chance = max(0.0, mean_cosine(angles[0], held_out.training_mean[0]))
    return mean_cosine, (angles, held_out.predicted), chance


def _line(found: _Found, p: float, task: ProbeTask, n_permutations: int) -> dict[str, object]:
    one, n_members = found.own, len(np.unique(task.members))
    value, own = float(one.scores[0]), set(task.families)
    pure = [own.isdisjoint(drawn.families) for drawn in task.controls]
    controls = found.controls[np.array(pure, dtype=bool)]
    is_share = task.question.target in {"family", "member"}
    ci_low, ci_high = share_interval(value, one.se, n_members) if is_share else (np.nan, np.nan)
    null, control = one.scores[1 : 1 + n_permutations], float(one.scores[1 + n_permutations :].mean())
    return {
        "value": value,
        "se": share_error(value, one.se) if is_share else one.se,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "chance": one.chance,
        "control_task": control,
        "selectivity": value - max(control, one.chance),
        "null_mean": float(null.mean()),
        "null_max": float(null.max()),
        "p": p,
        "q": p,
        "p_floor": 1 / (1 + len(task.controls)) if task.ranked else np.nan,
        "control_mean": float(controls.mean()) if len(controls) else np.nan,
        "control_max": float(controls.max()) if len(controls) else np.nan,
        "n_controls": len(controls),
        "n_members": n_members,
        "n_templates": task.n_templates,
        "n_rows": task.labels.shape[1],
        "n_classes": len(np.unique(task.labels)),
    }
