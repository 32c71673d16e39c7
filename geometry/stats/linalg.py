"""Linear algebra with its cut-offs stated: float64 throughout, signs fixed."""

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from cache.errors import NumbersError

RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest count as zero: float32 activations carry no more digits."""


NOT_FINITE = "the activations are not all finite; geometry verify says whether the file is sound"


def check_finite(*rows: Float[Tensor, "..."]) -> None:
    """Make sure that every value is finite.

    Raises:
        NumbersError: one is not.
    """
    if not all(torch.isfinite(one).all() for one in rows):
        raise NumbersError(NOT_FINITE)


def eigen(scatter: Float[np.ndarray, "d d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Eigenvalues of a symmetric matrix, falling and never below 0, and unit eigenvectors as rows, signs fixed."""
    values, vectors = np.linalg.eigh(scatter)
    return values[::-1].clip(min=0), fix_signs(vectors.T[::-1])


def leading(
    scatter: Float[np.ndarray, "d d"], k: int
) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, "kept d"]]:
    """The first k of what `eigen` gives, or all d, at a third of the price."""
    values, vectors = scipy.linalg.eigh(scatter, subset_by_index=_last(len(scatter), k))
    return values[::-1].clip(min=0), fix_signs(vectors.T[::-1])


def leading_shares(scatter: Float[np.ndarray, "d d"], k: int) -> Float[np.ndarray, " kept"]:
    """The k largest eigenvalues as shares of them all, falling; of a matrix of zeros 0."""
    total = np.trace(scatter)
    if total <= 0:
        return np.zeros(min(k, len(scatter)))
    values = scipy.linalg.eigh(scatter, eigvals_only=True, subset_by_index=_last(len(scatter), k))
    return np.asarray(values[::-1].clip(min=0) / total)


def _last(d: int, k: int) -> tuple[int, int]:
    return max(0, d - k), d - 1


def fix_signs(directions: Float[np.ndarray, "component d"]) -> Float[np.ndarray, "component d"]:
    """The rows, each turned so that its entry of largest magnitude is positive (sklearn's rule)."""
    return directions * entry_signs(directions)[:, None]


def entry_signs(directions: Float[np.ndarray, "component d"]) -> Float[np.ndarray, " component"]:
    """The sign of each row's entry of largest magnitude; 1 for a row of zeros."""
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return np.where(signs == 0, 1.0, signs)


def row_space(
    x: Float[np.ndarray, "row d"], tolerance: float = RANK_TOLERANCE
) -> tuple[Float[np.ndarray, "row rank"], Float[np.ndarray, " rank"], Float[np.ndarray, "rank d"]]:
    """The SVD `u * s @ v` of a matrix without its zero singular values, signs of `v` fixed.

    Args:
        x: the matrix.
        tolerance: singular values at or below this share of the largest are left out.
    """
    u, s, v = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    keep = s > tolerance * s.max(initial=0)
    u, s, v = u[:, keep], s[keep], v[keep]
    signs = entry_signs(v) if len(v) else np.ones(0)
    return u * signs, s, v * signs[:, None]


def remove_span(
    x: Float[np.ndarray, "*rows d"], span: Float[np.ndarray, "direction d"]
) -> Float[np.ndarray, "*rows d"]:
    """Rows with their components in the span of some directions taken away; the directions need not be orthogonal."""
    _, _, basis = row_space(span)
    flat = x.astype(np.float64)
    return flat - (flat @ basis.T) @ basis


def normalised(x: Float[np.ndarray, "*rows d"]) -> Float[np.ndarray, "*rows d"]:
    """Rows at unit length; zeros stay zeros."""
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1)


def centre(x: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "row d"]:
    """Rows without their mean, in float64."""
    wide = x.astype(np.float64)
    return wide - wide.mean(axis=0)
