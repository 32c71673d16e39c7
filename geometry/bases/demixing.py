"""How much of the variance is a shared index, the family, an index of each family's own, or the template."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.arrays import ArrayLike, as_rows
from cache.errors import InputError
from geometry.bases.basis import LinearBasis, deviations_of, orthonormal_basis
from geometry.bases.principal import subspace_overlap
from geometry.stats.limits import p_at_least
from geometry.stats.linalg import fix_signs
from geometry.stats.unrelated_codes import (
    Directions,
    expected_spread,
    mean_code,
    spreads_of_draws,
    unrelated_products,
)

PARTS = ("shared index", "index x family", "family", "template", "remainder")
"""The parts of the variance, in the order of every array over them."""

N_DRAWS = 500
"""Draws of unrelated codes each way."""

ROUNDING = 1e-12
"""Shares of the variance up to this are none."""


@dataclass(frozen=True)
class Demixed:
    """A cross-validated split of variance, and the subspaces of its two parts that are features.

    Attributes:
        share: each of `PARTS` as a share of the total variance; they add up to 1. Estimated without bias, a share that
            is truly 0 comes out negative half of the time.
        null: shared index of families whose codes are unrelated; empty without directions to draw them along.
        studentised: the shared index and then those, each in its own spread, as they are ranked; empty without.
        p: of the shared index, from that null; nan without.
        index: directions of the members' means over families and contexts.
        family: directions of the families' means.
        stability: overlap of the first index directions of two halves of the contexts.
        captured: share of the shared index variance of one half of the contexts that lies in the index directions of
            the other half. Beyond 1 where families write the index along directions of their own as well: there
            products of different families are negative outside what they share.
        total: the mean squared distance from the grand mean.
    """

    share: Float[np.ndarray, " part"]
    null: Float[np.ndarray, " draw"]
    studentised: Float[np.ndarray, " score"]
    p: float
    index: LinearBasis
    family: LinearBasis
    stability: Float[np.ndarray, " component"]
    captured: Float[np.ndarray, " component"]
    total: float

    @property
    def shares(self) -> Mapping[str, float]:
        """The shares by name."""
        return dict(zip(PARTS, self.share.tolist(), strict=True))


def demix(x: ArrayLike, *, k: int = 4, directions: Directions | None = None) -> Demixed:
    """Split the variance of balanced activations into parts, each estimated from products that noise cannot enter.

    Shared index: products of the same member in *different families and contexts*. Index x family: products in the
    same family and different contexts, less the former. Family: products of family means in different contexts.
    Template: products of context means in different families. The remainder is what no two contexts or families
    repeat.

    Args:
        x: cell means (family, context, member, d); every family has every member in every context.
        k: most index directions; at most n_members - 1.
        directions: what codes of unrelated families are drawn along (`unrelated_codes.draw_directions`, from control
            families in the same contexts); None for no null.

    Raises:
        InputError: k is below 1, fewer than 2 families, 4 contexts or 3 members, or all activations are equal.
        NumbersError: a value is not finite.

    References: the parts are dPCA's marginalisations (Kobak et al. 2016, eq. 4), with cross-validated variances in
        place of sums of squares (Walther et al. 2016, eq. 9).

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> code = torch.randn(1, 1, 5, 8, generator=draw)  # of members: the same in every family and context
        >>> cells = code + 0.1 * torch.randn(3, 4, 5, 8, generator=draw)
        >>> demix(cells).shares["shared index"] > 0.9
        True
    """
    if k < 1:
        raise InputError(f"k must be 1 or more; got {k}")
    x = as_rows(x, axes=("family", "context", "member", "d"))
    n_families, n_contexts, n_members, d = x.shape
    if n_families < 2 or n_contexts < 4 or n_members < 3:
        raise InputError(
            f"demix needs 2 families, 4 contexts and 3 members; got {n_families}, {n_contexts} and {n_members}"
        )
    wide = x.double() - x.double().mean(dim=(0, 1, 2))
    if not wide.any():
        raise InputError("all activations are equal; there is no variance to split")
    flat = _small(wide)
    share = _shares(flat)
    total = float(flat.square().mean(dim=(0, 1, 2)).sum())
    null, studentised = (
        (np.empty(0),) * 2 if directions is None else _beside_unrelated(wide, directions, share[0], total)
    )
    grand = x.double().mean(dim=(0, 1, 2)).float()
    k = min(k, n_members - 1, d)
    halves = [_directions(wide[:, side::2].mean(dim=(0, 1)), k) for side in (0, 1)]
    return Demixed(
        share=share,
        null=null,
        studentised=studentised,
        p=p_at_least(studentised[0], studentised[1:]) if len(studentised) else float("nan"),
        index=_basis(wide, _directions(wide.mean(dim=(0, 1)), k), grand),
        family=_basis(wide, _directions(wide.mean(dim=(1, 2)), n_families - 1), grand),
        stability=subspace_overlap(*(torch.from_numpy(half) for half in halves)),
        captured=_captured(wide, halves),
        total=total,
    )


def _basis(
    wide: Float[Tensor, "family context member d"],
    directions: Float[np.ndarray, "component d"],
    grand: Float[Tensor, " d"],
) -> LinearBasis:
    turned = torch.from_numpy(directions)
    deviations = deviations_of((wide @ turned.T).flatten(0, 2))
    return orthonormal_basis(turned.float(), grand, deviations=deviations)


def _small(x: Float[Tensor, "family context member d"]) -> Float[Tensor, "family context member _"]:
    """The same in coordinates of the cells' row space, where there are fewer cells than dimensions."""
    flat = x.flatten(0, 2)
    if len(flat) >= flat.shape[1]:
        return x
    u, s, _ = torch.linalg.svd(flat, full_matrices=False)
    return (u * s).reshape(*x.shape[:3], -1)


def _shares(x: Float[Tensor, "family context member d"]) -> Float[np.ndarray, " part"]:
    n_families, n_contexts, n_members, _ = x.shape
    means = x.mean(dim=2)
    u = x - means[:, :, None]
    shared = _shared_index(u)
    own = _across(u.flatten(2).transpose(0, 1)) / (n_families * n_members)
    families = means - means.mean(dim=0)
    family = _across(families.transpose(0, 1).flatten(1)) / n_families
    contexts = means - means.mean(dim=1, keepdim=True)
    template = _across(contexts.flatten(1)) / n_contexts
    total = (x - x.mean(dim=(0, 1, 2))).square().sum(dim=3).mean().item()
    parts = [shared, own - shared, family, template]
    return _beyond_rounding(np.array([*parts, total - sum(parts)]) / total)


def _beyond_rounding(shares: Float[np.ndarray, " part"]) -> Float[np.ndarray, " part"]:
    """Shares with what float64 leaves of nothing taken as 0: beside a null of 0 it would be a finding."""
    return np.where(np.abs(shares) > ROUNDING, shares, 0.0)


def _across(x: Float[Tensor, "copy *rest"]) -> float:
    """Mean over ordered pairs of different copies of the inner product of all the rest."""
    flat = x.flatten(1)
    n = len(flat)
    return float((flat.sum(dim=0).square().sum() - flat.square().sum()) / (n * (n - 1)))


def _shared_index(u: Float[Tensor, "family context member d"]) -> float:
    """Mean over members and ordered pairs of different families and different contexts of inner products."""
    n_families, n_contexts, n_members, _ = u.shape
    everything = u.sum(dim=(0, 1)).square().sum()
    same_family, same_context = u.sum(dim=1).square().sum(), u.sum(dim=0).square().sum()
    pairs = n_families * (n_families - 1) * n_contexts * (n_contexts - 1)
    return float((everything - same_family - same_context + u.square().sum()) / (pairs * n_members))


def _beside_unrelated(
    x: Float[Tensor, "family context member d"], directions: Directions, share: float, total: float
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " score"]]:
    """The shared index of families with unrelated codes, as a share; and it and the true one, each in its own spread.

    Each family in turn is drawn anew beside the sum of those before it: of unrelated families the products with all
    earlier ones are uncorrelated from family to family, so that their sum is as wide as that of draws. Both orders of
    the families are used, one after the other.
    """
    n_families, _, n_members, _ = x.shape
    codes = [mean_code(one) for one in x]
    products, squares, own = [], [], 0.0
    for ordered in (codes, codes[::-1]):
        drawn = directions.drawn[: len(directions.drawn) // (n_families - 1) * (n_families - 1)]
        for number, part in enumerate(np.split(drawn, n_families - 1), 1):
            before, mine = np.sum(ordered[:number], axis=0), replace(directions, drawn=part)
            products.append(unrelated_products(before, ordered[number], mine))
            squares.append(spreads_of_draws(before, ordered[number], mine) ** 2)
            own += expected_spread(before, ordered[number], mine) ** 2 / 2
    shape, unit = (2, n_families - 1, -1), 2 / (n_families * (n_families - 1) * n_members * total)
    null = _beyond_rounding(unit * np.reshape(products, shape).sum(axis=1).ravel())
    spreads = unit * np.sqrt(np.append(own, np.reshape(squares, shape).sum(axis=1).ravel()))
    return null, np.append(share, null) / np.where(spreads > 0, spreads, 1)


def _directions(means: Float[Tensor, "level d"], k: int) -> Float[np.ndarray, "component d"]:
    """The first k principal directions of the means of members, or of families."""
    return fix_signs(np.linalg.svd((means - means.mean(dim=0)).numpy(), full_matrices=False)[2][:k])


def _captured(
    x: Float[Tensor, "family context member d"], halves: list[Float[np.ndarray, "component d"]]
) -> Float[np.ndarray, " component"]:
    """Share of the other half's shared index variance in each half's first 1, 2, ... directions, mean of both ways."""
    shares = []
    for side, directions in enumerate(halves):
        other = x[:, 1 - side :: 2]
        u = other - other.mean(dim=2, keepdim=True)
        projected = u @ torch.from_numpy(directions.copy()).T
        each = [_shared_index(projected[..., i : i + 1]) for i in range(len(directions))]
        whole = _shared_index(u)
        shares.append(np.cumsum(each) / whole if whole > 0 else np.full(len(directions), np.nan))
    return np.asarray(np.mean(shares, axis=0))
