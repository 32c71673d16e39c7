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


def _absorb(whole: Moments, part: Moments) -> Moments:
    """`merge`, in the memory of the first scatter."""
    n_rows = whole.n_rows + part.n_rows
    delta = part.mean - whole.mean
    total = whole.scatter
    total += part.scatter
    add_outer(total, delta, delta * (whole.n_rows * part.n_rows / n_rows))
    return Moments(n_rows, whole.mean + delta * (part.n_rows / n_rows), total)


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


def _block_moments(rows: Float[np.ndarray, "row d"]) -> Moments:
    """The mean in float64; the scatter about it by one product in the rows' dtype, for which numpy runs SYRK."""
    mean = finite_mean(rows)
    shift = mean.astype(rows.dtype)
    moved, rest = rows - shift, mean - shift  # the rest is what the rows' dtype cannot say of the mean
    scatter: Float[np.ndarray, "d d"] = (moved.T @ moved).astype(np.float64)
    add_outer(scatter, rest, rest * -len(rows))
    return Moments(len(rows), mean, scatter)
