"""Do two families code their index alike, in the same coordinates: the measures that a verdict may rest on.

Activations come as (context, member, d): a context is a template and all else that is equal but the member. A
context's mean over members is removed, and only *different* contexts are compared, so that neither names nor phrasing
can make a match.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cache.arrays import ArrayLike, as_rows
from cache.errors import InputError
from geometry.stats.linalg import normalised

CELLS = ("context", "member", "d")
MAX_LAG = 3
LARGEST_LAG = 1_000


def matched_cosine(x: ArrayLike, y: ArrayLike) -> float:
    """Similarity of two families' index codes across contexts, corrected for how well each agrees with itself.

    `c_xy / sqrt(c_xx c_yy)` with `c_xy` the mean over members and over pairs of different contexts of the inner
    product of x's member in one context with y's same member in the other.

    Args:
        x: one family's activations (context, member, d).
        y: the other's; the same contexts and members.

    Returns:
        1 where the two codes are the same, 0 where they are unrelated, negative where one is turned against the other.
        Noise can carry it a little beyond 1. nan where a family has no index effect that recurs across contexts.

    Raises:
        InputError: fewer than 2 contexts or members, or the two differ in shape.

    Example:
        >>> x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1)  # (context, member, d)
        >>> round(matched_cosine(x, x), 4), round(matched_cosine(x, -x), 4)
        (1.0, -1.0)
    """
    return _ratio(*matched_products(x, y))


def shared_share(x: ArrayLike, y: ArrayLike) -> float:
    """Share of two families' index variance that they have in common: `mean(c_xy, c_yx) / mean(c_xx, c_yy)`.

    Unlike `matched_cosine` it falls where the same code is larger in one family than in the other.

    Returns:
        1 where the codes are the same in direction and size, 0 where unrelated; nan where neither family has an index
        effect.

    Raises:
        InputError: as for `matched_cosine`.
    """
    cross, own_x, own_y = matched_products(x, y)
    return float(2 * cross / (own_x + own_y)) if own_x + own_y > 0 else float("nan")


def retrieval(x: ArrayLike, y: ArrayLike) -> float:
    """How often a member of one family lies nearest to the same member of the other, by cosine, with no map fitted.

    Each member in each context of one family is looked up among the members of the other, averaged over all other
    contexts; both directions are averaged.

    Returns:
        In [0, 1]; chance is 1 / n_members.

    Raises:
        InputError: as for `matched_cosine`.
    """
    nearest = nearest_members(x, y)
    return float(np.trace(nearest) / len(nearest))


def lag_profile(x: ArrayLike, y: ArrayLike, max_lag: int = MAX_LAG) -> Float[np.ndarray, " lag"]:
    """`matched_cosine` of each member of x with the member of y that comes 0, 1, 2, ... places later or earlier.

    Returns:
        Values for lags -max_lag to max_lag; a match of members and not merely of neighbourhoods peaks at 0. nan where
        fewer than 2 members remain.

    Raises:
        InputError: as for `matched_cosine`.
    """
    if not 0 <= max_lag <= LARGEST_LAG:
        raise InputError(f"max_lag must be 0 to {LARGEST_LAG:,}; got {max_lag:,}")
    cross = member_products(x, y)
    own = [member_products(z, z).diagonal() for z in (x, y)]
    n, profile = len(cross), np.full(2 * max_lag + 1, np.nan)
    for lag in range(-max_lag, max_lag + 1):
        if n - abs(lag) >= 2:
            left, right = slice(max(0, -lag), n - max(0, lag)), slice(max(0, lag), n - max(0, -lag))
            profile[lag + max_lag] = _ratio(cross.diagonal(lag).sum(), own[0][left].sum(), own[1][right].sum())
    return profile


def matched_products(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """`c_xy`, `c_xx` and `c_yy`, each summed over members: the traces of `member_products`, without the rest.

    Raises:
        InputError: as for `matched_cosine`.
    """
    sides = _sides(x, y)
    n = len(sides[0])
    sums = [side.sum(axis=0) for side in sides]
    pairs = ((0, 1), (0, 0), (1, 1))
    c_xy, c_xx, c_yy = (float(np.vdot(sums[i], sums[j]) - np.vdot(sides[i], sides[j])) for i, j in pairs)
    return c_xy / (n * (n - 1)), c_xx / (n * (n - 1)), c_yy / (n * (n - 1))


def member_products(x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "member member"]:
    """Mean over ordered pairs of different contexts of the inner products of x's members with y's.

    Raises:
        InputError: as for `matched_cosine`.
    """
    left, right = _sides(x, y)
    n = len(left)
    everything = left.sum(axis=0) @ right.sum(axis=0).T
    products: Float[np.ndarray, "member member"] = everything - np.tensordot(left, right, axes=((0, 2), (0, 2)))
    return products / (n * (n - 1))


def context_products(x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "context context"]:
    """Sum over members of the inner products of x's in one context with y's in another, for all pairs of contexts.

    Raises:
        InputError: as for `matched_cosine`.
    """
    left, right = (side.reshape(len(side), -1) for side in _sides(x, y))
    return left @ right.T


def nearest_members(x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "member member"]:
    """How often x's member (row) lies nearest to y's member (column), and the reverse, averaged.

    Raises:
        InputError: as for `matched_cosine`.
    """
    left, right = _sides(x, y)
    return (_nearest(left, right) + _nearest(right, left).T) / 2


def _nearest(
    x: Float[np.ndarray, "context member d"], y: Float[np.ndarray, "context member d"]
) -> Float[np.ndarray, "member member"]:
    n_contexts, n_members = x.shape[:2]
    others = normalised(y.sum(axis=0) - y)
    best = np.matmul(x, others.transpose(0, 2, 1)).argmax(axis=2)
    hits = np.bincount((np.arange(n_members) * n_members + best).ravel(), minlength=n_members**2)
    return hits.reshape(n_members, n_members) / n_contexts


def _ratio(cross: float, own_x: float, own_y: float) -> float:
    return float(cross / np.sqrt(own_x * own_y)) if own_x > 0 and own_y > 0 else float("nan")


def _sides(
    x: ArrayLike, y: ArrayLike
) -> tuple[Float[np.ndarray, "context member d"], Float[np.ndarray, "context member d"]]:
    """Both families less each context's mean, in float64, after a look at their shapes."""
    x, y = as_rows(x, "x", axes=CELLS), as_rows(y, "y", axes=CELLS)
    if x.shape != y.shape:
        raise InputError(f"two families need the same contexts, members and width; got {_size(x)} and {_size(y)}")
    if x.shape[0] < 2 or x.shape[1] < 2:
        raise InputError(f"a comparison across contexts needs 2 contexts and 2 members; got {_size(x)}")
    left, right = (z.numpy().astype(np.float64, copy=False) for z in (x, y))
    return left - left.mean(axis=1, keepdims=True), right - right.mean(axis=1, keepdims=True)


def _size(x: Float[Tensor, "context member d"]) -> str:
    return f"{x.shape[0]} contexts of {x.shape[1]} members of width {x.shape[2]}"
