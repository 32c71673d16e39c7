"""Linear probes: what can be read off activations of members and templates that the probe has not seen."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from torch import Tensor

from cache.errors import InputError
from geometry.stats.linalg import RANK_TOLERANCE, check_finite, eigen
from geometry.stats.uncertainty import jackknife

MOST_FOLDS = 10
"""More groups than these are left out several at a time."""

C = 0.01
"""Inverse strength of the L2 penalty of class probes, on standardised activations (scikit-learn's C)."""

PENALTIES = tuple(10.0**power for power in range(-4, 5))
"""Ridge penalties that are tried, as multiples of the mean squared norm of a standardised training row."""

_MAX_ITER = 10_000
_NO_DIRECTION = 1e-9
_TIE = 1e-6


@dataclass(frozen=True)
class Fold:
    """Which rows a probe is fitted on, and which it is scored on; both are row numbers."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]


@dataclass(frozen=True)
class HeldOutValues:
    """What probes say of rows that they have not seen.

    Attributes:
        predicted: the probe's values.
        training_mean: what a probe without any information says: the mean of its training rows.
    """

    predicted: Float[np.ndarray, "draw row output"]
    training_mean: Float[np.ndarray, "draw row output"]


def leave_groups_out(groups: Sequence[Hashable], *, most: int = MOST_FOLDS) -> tuple[Fold, ...]:
    """Folds that leave out one whole group each, or several where there are more groups than `most`.

    Args:
        groups: the group of each row.
        most: most folds.

    Raises:
        InputError: there is 1 group only, or `most` is below 2.
    """
    codes = group_codes(groups)
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < 2 or most < 2:
        raise InputError(f"leaving whole groups out takes 2 groups and 2 folds; got {n_groups} and {most}")
    splits = GroupKFold(n_splits=min(most, n_groups)).split(codes, groups=codes)
    folds = [Fold(train, test) for train, test in splits]
    return tuple(sorted(folds, key=lambda fold: int(codes[fold.test].min())))


def group_codes(groups: Sequence[Hashable]) -> Int[np.ndarray, " row"]:
    """Groups numbered from 0 in the order in which they come."""
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return np.array([number[group] for group in groups], dtype=np.int64)


def predict_classes(
    x: Float[Tensor, "row d"], labels: Int[np.ndarray, "draw row"], folds: Sequence[Fold], *, c: float = C
) -> Int[np.ndarray, "draw row"]:
    """The class of every row according to a probe that did not see the row's group.

    Multinomial logistic regression with an L2 penalty, classes weighted alike. Activations are standardised and
    rotated into the row space of the training rows inside each fold; the rotation leaves the solution as it is,
    since a penalised solution lies in that space.

    Args:
        x: activations.
        labels: classes of the rows; every draw (the true labels, control tasks, permutations) has its own probe.
        folds: from `leave_groups_out`; together they test every row once.
        c: inverse strength of the penalty.

    Raises:
        InputError: a class occurs only in rows that are left out, or a fold's training rows have one class.
        NumbersError: an activation is not finite.
    """
    check_finite(x)
    wide = x.double().numpy()
    predicted = np.full_like(labels, -1)
    for fold in folds:
        _check_classes(labels, fold)
        train, test = row_space_of(wide, fold)
        for draw, mine in enumerate(labels):
            probe = LogisticRegression(C=c, class_weight="balanced", max_iter=_MAX_ITER).fit(train, mine[fold.train])
            predicted[draw, fold.test] = probe.predict(test)
    return predicted


def predict_values(
    x: Float[Tensor, "row d"],
    targets: Float[np.ndarray, "draw row output"],
    folds: Sequence[Fold],
    groups: Int[np.ndarray, " row"],
) -> HeldOutValues:
    """The values of every row according to a ridge regression that did not see the row's group.

    Activations are standardised inside each fold. The penalty is the one of `PENALTIES` that does best when each
    group of the training rows is left out in turn, in closed form: the residuals of a group that is left out are
    `(I - H_gg)^-1 (y - H y)_g`, H being the hat matrix. Of penalties that do equally well the strongest is taken; with
    3 groups of one value each all do.

    Args:
        x: activations.
        targets: what is predicted; every draw has its own probe, and its own penalty for all outputs.
        folds: from `leave_groups_out`; together they test every row once.
        groups: the group of each row.

    Raises:
        InputError: a fold's training rows are of 1 group, so that no penalty can be chosen.
        NumbersError: an activation is not finite.

    References: Hoerl and Kennard 1970; leaving groups out in closed form, Cook and Weisberg 1982, section 2.2.
    """
    check_finite(x)
    wide = x.double().numpy()
    predicted, baseline = np.empty_like(targets), np.empty_like(targets)
    for fold in folds:
        inner = groups[fold.train]
        if len(np.unique(inner)) < 2:
            raise InputError("a regression probe chooses its penalty on left-out groups; it needs 3 groups, got 2")
        train, test = row_space_of(wide, fold)
        y = targets[:, fold.train]
        mean = y.mean(axis=1, keepdims=True)
        norms = np.square(train).sum(axis=0)
        penalties = np.array(PENALTIES) * max(norms.sum() / len(inner), 1e-12)
        blocks = _rows_by_size(inner)
        errors = np.stack([_left_out_error(train, y - mean, blocks, penalty) for penalty in penalties])
        equal = errors <= errors.min(axis=0) * (1 + _TIE)
        best = np.where(equal, penalties[:, None], 0).max(axis=0)
        weights = np.einsum("nr,dno->dro", train, y - mean) / (norms + best[:, None])[:, :, None]
        predicted[:, fold.test] = mean + np.einsum("nr,dro->dno", test, weights)
        baseline[:, fold.test] = mean
    return HeldOutValues(predicted, baseline)


def row_space_of(
    x: Float[np.ndarray, "row d"], fold: Fold
) -> tuple[Float[np.ndarray, "train rank"], Float[np.ndarray, "test rank"]]:
    """Training and test rows, standardised by the training rows and rotated into their row space.

    Features that are constant over the training rows become 0.
    """
    train = x[fold.train]
    mean, scale = train.mean(axis=0), train.std(axis=0)
    varies = scale > RANK_TOLERANCE * np.abs(train).max(axis=0)
    if not varies.any():
        return np.zeros((len(train), 1)), np.zeros((len(fold.test), 1))
    z = (x[:, varies] - mean[varies]) / scale[varies]
    train, test = z[fold.train], z[fold.test]
    tall = len(train) > train.shape[1]
    values, vectors = eigen(train.T @ train if tall else train @ train.T)
    kept = values > RANK_TOLERANCE**2 * values[0]
    axes = vectors[kept] if tall else (vectors[kept] @ train) / np.sqrt(values[kept])[:, None]
    return train @ axes.T, test @ axes.T


def balanced_accuracy(labels: Int[np.ndarray, " row"], predicted: Int[np.ndarray, " row"]) -> float:
    """Share of rows predicted rightly, averaged over classes: 1 / n_classes by chance, 1 at most."""
    hit = labels == predicted
    return float(np.mean([hit[labels == label].mean() for label in np.unique(labels)]))


def r_squared(
    targets: Float[np.ndarray, " row"], predicted: Float[np.ndarray, " row"], training_mean: Float[np.ndarray, " row"]
) -> float:
    """1 minus the squared error over that of predicting the training mean: 0 for no better, 1 at most, no least."""
    total = np.square(targets - training_mean).sum()
    return float(1 - np.square(targets - predicted).sum() / total) if total > 0 else float("nan")


def mean_cosine(angles: Float[np.ndarray, " row"], predicted: Float[np.ndarray, "row 2"]) -> float:
    """Mean cosine between true angles (radians) and the directions of predicted (cos, sin): -1 to 1.

    A prediction without a direction counts as 0.
    """
    length = np.linalg.norm(predicted, axis=1)
    along = predicted[:, 0] * np.cos(angles) + predicted[:, 1] * np.sin(angles)
    return float(np.where(length > _NO_DIRECTION, along / np.maximum(length, _NO_DIRECTION), 0.0).mean())


def member_se(score: Callable[[Bool[np.ndarray, " row"]], float], members: Int[np.ndarray, " row"]) -> float:
    """Standard error of a held-out score over members: the predictions of one member are left out together.

    The probes are not fitted again. nan below 5 members; 0 where no prediction is wrong, which says nothing.

    Args:
        score: the score of the rows that a mask keeps.
        members: the member of each row.
    """
    return float(jackknife(np.array([score(members != member) for member in np.unique(members)])))


def _check_classes(labels: Int[np.ndarray, "draw row"], fold: Fold) -> None:
    for mine in labels:
        seen = set(mine[fold.train].tolist())
        unseen = sorted(set(mine[fold.test].tolist()) - seen)
        if unseen:
            raise InputError(
                f"class {unseen[0]} occurs only in rows that are left out, so that no probe sees it; leave out other "
                "groups"
            )
        if len(seen) < 2:
            raise InputError(f"the rows that a probe is fitted on are all of class {seen.pop()}; a probe needs 2")


def _rows_by_size(groups: Int[np.ndarray, " row"]) -> list[Int[np.ndarray, "group place"]]:
    """The rows of every group, those of groups of one size in one array."""
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [np.stack([one for one in rows if len(one) == size]) for size in sorted({len(one) for one in rows})]


def _left_out_error(
    scores: Float[np.ndarray, "train rank"],
    y: Float[np.ndarray, "draw train output"],
    blocks: Sequence[Int[np.ndarray, "_ _"]],
    penalty: float,
) -> Float[np.ndarray, " draw"]:
    """Squared error of a ridge regression on each group when it is fitted to the others; y is centred."""
    n_draws, n, n_outputs = y.shape
    flat = y.transpose(1, 0, 2).reshape(n, -1)
    shrunk = scores / (np.square(scores).sum(axis=0) + penalty)
    residual = flat - scores @ (shrunk.T @ flat)
    error = np.zeros(n_draws)
    for rows in blocks:
        hat = scores[rows] @ shrunk[rows].swapaxes(1, 2) + 1 / n
        left_out = np.linalg.solve(np.eye(rows.shape[1]) - hat, residual[rows])
        error += np.square(left_out).reshape(-1, n_draws, n_outputs).sum(axis=(0, 2))
    return error
