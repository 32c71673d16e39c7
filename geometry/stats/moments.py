"""Count, mean and (cross-)scatter of rows in one pass, from which PCA, CCA and CKA follow."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg.blas import dger
from torch import Tensor

from cache.errors import InputError, NumbersError
from geometry.stats.linalg import NOT_FINITE


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of rows.

    Attributes:
        n_rows: how many rows.
        mean: their mean.
        scatter: the sum over rows of the outer product of (row - mean) with itself.
    """

    n_rows: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The sample covariance (divided by n_rows - 1), in squared activation units."""
        return self.scatter / max(self.n_rows - 1, 1)


@dataclass(frozen=True)
class JointMoments:
    """Moments of two aligned sets of rows, and the scatter between them.

    Attributes:
        x: moments of the first.
        y: moments of the second; the same rows.
        cross: the sum over rows of the outer product of (x - mean of x) with (y - mean of y).
    """

    x: Moments
    y: Moments
    cross: Float[np.ndarray, "dx dy"]


def moments(blocks: Iterable[Float[Tensor, "_ d"]]) -> Moments:
    """Moments of rows that come in blocks, read once.

    Each block is centred on its own mean before it is multiplied (float32, SYRK), and blocks are merged in
    float64, so that a mean 10,000 times the spread costs no digits.

    Args:
        blocks: pieces of the rows, such as `ActivationStore.blocks` gives.

    Raises:
        InputError: there is no row.
        NumbersError: a value is not finite.

    References: Chan, Golub and LeVeque 1983, eq. 2.1, for covariances.
    """
    whole: Moments | None = None
    for block in blocks:
        if len(block):
            part = _block_moments(block.numpy())
            whole = part if whole is None else _absorb(whole, part)
    if whole is None:
        raise InputError("there is no row to take moments of")
    return whole


def joint_moments(x_blocks: Iterable[Float[Tensor, "_ dx"]], y_blocks: Iterable[Float[Tensor, "_ dy"]]) -> JointMoments:
    """Moments of two aligned sets of rows that come in blocks of equal lengths, read once.

    Raises:
        InputError: there is no row, or the two do not have the same rows.
        NumbersError: a value is not finite.
    """
    whole: JointMoments | None = None
    for x, y in _aligned(x_blocks, y_blocks):
        if len(x):
            part = _block_joint(x.numpy(), y.numpy())
            whole = part if whole is None else _absorb_joint(whole, part)
    if whole is None:
        raise InputError("there is no row to take moments of")
    return whole


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two sets of rows together."""
    return _absorb(Moments(a.n_rows, a.mean, a.scatter.copy()), b)


def without(whole: Moments, part: Moments) -> Moments:
    """Moments of the rows of `whole` that are not in `part`: `merge` undone.

    Raises:
        InputError: nothing is left.
    """
    n_rows = whole.n_rows - part.n_rows
    if n_rows < 1:
        raise InputError(f"{whole.n_rows} rows without {part.n_rows} of them leave none")
    mean = (whole.n_rows * whole.mean - part.n_rows * part.mean) / n_rows
    delta = part.mean - mean
    scatter = whole.scatter - part.scatter
    scatter -= np.outer(delta, delta * (n_rows * part.n_rows / whole.n_rows))
    return Moments(n_rows, mean, scatter)


def merge_joint(a: JointMoments, b: JointMoments) -> JointMoments:
    """Joint moments of two sets of aligned rows together."""
    x, y = (Moments(side.n_rows, side.mean, side.scatter.copy()) for side in (a.x, a.y))
    return _absorb_joint(JointMoments(x, y, a.cross.copy()), b)


def _absorb(whole: Moments, part: Moments) -> Moments:
    """`merge`, in the memory of the first scatter."""
    n_rows = whole.n_rows + part.n_rows
    delta = part.mean - whole.mean
    _add(whole.scatter, part.scatter, delta, delta * (whole.n_rows * part.n_rows / n_rows))
    return Moments(n_rows, whole.mean + delta * (part.n_rows / n_rows), whole.scatter)


def _absorb_joint(whole: JointMoments, part: JointMoments) -> JointMoments:
    """`merge_joint`, in the memory of the first scatters."""
    weight = whole.x.n_rows * part.x.n_rows / (whole.x.n_rows + part.x.n_rows)
    _add(whole.cross, part.cross, part.x.mean - whole.x.mean, (part.y.mean - whole.y.mean) * weight)
    return JointMoments(_absorb(whole.x, part.x), _absorb(whole.y, part.y), whole.cross)


def _add(
    total: Float[np.ndarray, "dx dy"],
    part: Float[np.ndarray, "dx dy"],
    left: Float[np.ndarray, " dx"],
    right: Float[np.ndarray, " dy"],
) -> None:
    """Add a matrix and an outer product in place."""
    total += part
    add_outer(total, left, right)


def _aligned(
    x_blocks: Iterable[Float[Tensor, "_ dx"]], y_blocks: Iterable[Float[Tensor, "_ dy"]]
) -> Iterable[tuple[Float[Tensor, "_ dx"], Float[Tensor, "_ dy"]]]:
    left, right = iter(x_blocks), iter(y_blocks)
    while True:
        x, y = next(left, None), next(right, None)
        if x is None and y is None:
            return
        if x is None or y is None or len(x) != len(y):
            raise InputError("the two sets of blocks do not have the same rows; give the same rows in the same blocks")
        yield x, y


def add_outer(
    total: Float[np.ndarray, "dx dy"], left: Float[np.ndarray, " dx"], right: Float[np.ndarray, " dy"]
) -> None:
    """Add the outer product of two vectors to a float64 matrix in place, without a second matrix."""
    dger(1.0, right, left, a=total.T, overwrite_a=True)


def finite_mean(rows: Float[np.ndarray, "row d"]) -> Float[np.ndarray, " d"]:
    """The mean of rows, in float64.

    Raises:
        NumbersError: a value is not finite.
    """
    with np.errstate(invalid="ignore"):
        mean: Float[np.ndarray, " d"] = rows.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise NumbersError(NOT_FINITE)
    return mean


def _centred(
    rows: Float[np.ndarray, "row d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"], Float[np.ndarray, "row d"]]:
    """The mean in float64, what the rows' dtype cannot say of it, and the rows less the rest of it."""
    mean = finite_mean(rows)
    shift = mean.astype(rows.dtype)
    return mean, mean - shift, rows - shift


def _block_moments(rows: Float[np.ndarray, "row d"]) -> Moments:
    mean, rest, moved = _centred(rows)
    return Moments(len(rows), mean, _product(moved, rest, moved, rest))


def _block_joint(x: Float[np.ndarray, "row dx"], y: Float[np.ndarray, "row dy"]) -> JointMoments:
    x_mean, x_rest, x_moved = _centred(x)
    y_mean, y_rest, y_moved = _centred(y)
    return JointMoments(
        Moments(len(x), x_mean, _product(x_moved, x_rest, x_moved, x_rest)),
        Moments(len(y), y_mean, _product(y_moved, y_rest, y_moved, y_rest)),
        _product(x_moved, x_rest, y_moved, y_rest),
    )


def _product(
    x: Float[np.ndarray, "row dx"],
    x_rest: Float[np.ndarray, " dx"],
    y: Float[np.ndarray, "row dy"],
    y_rest: Float[np.ndarray, " dy"],
) -> Float[np.ndarray, "dx dy"]:
    """`(x - x_rest).T @ (y - y_rest)` for rows whose means are the rests, the large product in the rows' dtype.

    numpy runs SYRK where both are the same array.
    """
    product: Float[np.ndarray, "dx dy"] = (x.T @ y).astype(np.float64)
    add_outer(product, x_rest, y_rest * -len(x))
    return product
