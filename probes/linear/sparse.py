"""k-sparse probes: what can be read off the few features of a basis that tell most, chosen without the rows tested."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.feature_selection import f_classif, f_regression
from torch import Tensor

from cache.arrays import ArrayLike, as_rows
from cache.errors import InputError
from cache.store.view import View
from geometry.bases.basis import FeatureBasis
from probes.linear.probe import Fold, balanced_accuracy, member_se, predict_classes, predict_values, r_squared
from probes.linear.tasks import N_CONTROL_TASKS, N_PERMUTATIONS, ProbeTask, Question, plan_probe

MOST_FEATURES = (1, 2, 5)
"""How many features a probe may use."""

SPARSE_C = 1.0
"""Inverse strength of the L2 penalty of class probes on a few standardised features (scikit-learn's default)."""


def sparse_probe(
    view: View,
    question: Question,
    basis: FeatureBasis | None = None,
    *,
    most: Sequence[int] = MOST_FEATURES,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """What probes of k features read off members, or templates, that neither they nor the choice of features saw.

    In every fold the features that tell most of the training rows (largest F of an analysis of variance, or of a
    regression for numbers) are chosen, and a probe is fitted to them. Permuted labels and control tasks choose
    features of their own. Describes, and gives no p: a basis of more features has more to choose from, in the null too.

    Args:
        view: the rows; each prompt's last token where it asks for none. Of its sites the basis's own is read.
        question: `family` or `number`, of which families, and what is left out.
        basis: the features, at a site that it knows; None for the view's one site's own dimensions.
        most: how many features.
        n_permutations: times that labels are permuted.
        seed: seeds the null and the control tasks.

    Returns:
        A row for each of `most`: `k`, `value` (balanced accuracy, or R^2), `se` over members, `chance`, `null_mean`,
        `null_max`, `control_task` (their mean), `features` (those chosen in most folds, space-separated), `n_features`,
        `n_members`, `n_templates`, `n_rows`.

    Raises:
        InputError: another target, no site, or as for `plan_probe`.

    References: Gurnee et al. 2023 (arXiv:2305.01610); control tasks, Hewitt and Liang 2019.

    Example:
        >>> from probes.linear.tasks import Question
        >>> sae = load_sae("sae", store=store)
        >>> table = sparse_probe(store.view(), Question("family", leave_out="template"), sae, n_permutations=2)
        >>> table["k"].tolist(), bool((table["value"] <= 1).all())
        ([1, 2, 5], True)
    """
    if question.target not in {"family", "number"}:
        raise InputError(f"a sparse probe reads family or number; got {question.target!r}")
    if not most or min(most) < 1:
        raise InputError(f"a probe uses 1 feature or more; got {', '.join(map(str, most)) or 'none'}")
    hooks = view.hooks if basis is None else (basis.hook,)
    if len(hooks) != 1 or hooks[0] is None:
        raise InputError("a sparse probe reads one site: that of a basis which knows it, or the only one of the view")
    task = plan_probe(view, question, n_permutations=n_permutations, seed=seed)
    x = view.store.load(hooks[0], task.chosen)
    features = x if basis is None else basis.encode(x)
    return sparse_scores(features, task, most)


def sparse_scores(x: ArrayLike, task: ProbeTask, most: Sequence[int]) -> pd.DataFrame:
    """The table of `sparse_probe` for features (row, feature) of a task's rows."""
    features = as_rows(x)
    most = [k for k in most if k <= features.shape[1]]
    if not most:
        raise InputError(f"there are {features.shape[1]} features; a probe cannot use more")
    labels = task.labels
    told = task.ordinals[labels].astype(np.float64) if task.question.target == "number" else labels
    said = {k: np.empty((*labels.shape, 2)) for k in most}
    used: dict[int, list[Int[np.ndarray, " k"]]] = {k: [] for k in most}
    for fold in task.folds:
        for draw in range(len(labels)):
            order = _telling(features, told[draw], fold, max(most))
            for k in most:
                said[k][draw, fold.test] = _predicted(features[:, np.sort(order[:k])], told[draw], fold, task)
                used[k] += [order[:k]] if draw == 0 else []
    return pd.DataFrame([_line(k, said[k], told, used[k], task) | {"n_features": features.shape[1]} for k in most])


def _telling(x: Float[Tensor, "row feature"], told: np.ndarray, fold: Fold, n: int) -> Int[np.ndarray, " n"]:
    """The features that tell most of the training rows, best first; those that do not vary come last."""
    train = x[torch.from_numpy(fold.train)].double().numpy()
    varies = np.flatnonzero(train.max(axis=0) > train.min(axis=0))
    score = np.full(train.shape[1], -1.0)
    if len(varies):
        with np.errstate(divide="ignore", invalid="ignore"):  # a feature that tells all leaves nothing to divide by
            found = (f_classif if told.dtype.kind == "i" else f_regression)(train[:, varies], told[fold.train])[0]
        score[varies] = np.nan_to_num(found, nan=0.0)
    return np.argsort(-score, kind="stable")[:n]


def _predicted(x: Float[Tensor, "row k"], told: np.ndarray, fold: Fold, task: ProbeTask) -> Float[np.ndarray, "test 2"]:
    """What a probe of these features says of the rows left out; and what one without any would."""
    if told.dtype.kind == "i":
        predicted = predict_classes(x, told[None], [fold], c=SPARSE_C)[0, fold.test]
        return np.stack([predicted, np.zeros(len(predicted))], axis=1)
    held_out = predict_values(x, told[None, :, None], [fold], task.groups)
    return np.stack([held_out.predicted[0, fold.test, 0], held_out.training_mean[0, fold.test, 0]], axis=1)


def _line(
    k: int, said: Float[np.ndarray, "draw row 2"], told: np.ndarray, used: Sequence[np.ndarray], task: ProbeTask
) -> dict[str, object]:
    is_class = told.dtype.kind == "i"

    def score(draw: int, kept: np.ndarray | slice = slice(None)) -> float:
        if is_class:
            return balanced_accuracy(told[draw, kept], said[draw, kept, 0].astype(np.int64))
        return r_squared(told[draw, kept], said[draw, kept, 0], said[draw, kept, 1])

    scores = np.array([score(draw) for draw in range(len(told))])
    null, control = scores[1:-N_CONTROL_TASKS], scores[-N_CONTROL_TASKS:]
    numbers, counts = np.unique(np.concatenate(used), return_counts=True)
    return {
        "k": k,
        "value": scores[0],
        "se": member_se(lambda kept: score(0, kept), task.members),
        "chance": 1 / len(np.unique(told[0])) if is_class else 0.0,
        "null_mean": null.mean(),
        "null_max": null.max(),
        "control_task": control.mean(),
        "features": " ".join(map(str, numbers[np.argsort(-counts, kind="stable")][:k])),
        "n_members": len(np.unique(task.members)),
        "n_templates": task.n_templates,
        "n_rows": told.shape[1],
    }
