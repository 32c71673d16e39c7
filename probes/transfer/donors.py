"""Codes that donors unrelated to anything could have, in directions of control families' codes: nulls of edits."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.seeds import check_seed
from geometry.stats.linalg import row_space
from geometry.stats.unrelated_codes import LEAST_FAMILIES, draw_directions, draw_weights, unrelated_codes


def unrelated_donors(
    code: Float[Tensor, "member d"], controls: Sequence[Float[Tensor, "_ d"]], n_draws: int, seed: int
) -> Float[Tensor, "draw member d"]:
    """Codes with a donor's member-by-member structure, in directions of control codes (`unrelated_codes`).

    Args:
        code: the donor's mean code.
        controls: those of control families, 10 or more.
        n_draws: how many.
        seed: seeds them; the same draws serve for codes of the same shape, as at other places, contexts and layers.

    Returns:
        Members centred; no draw with fewer control families.
    """
    codes = [_centred(one) for one in controls]
    if len(codes) < LEAST_FAMILIES or not n_draws or not any(one.any() for one in codes):
        return code.new_empty(0, *code.shape)
    directions = draw_directions(codes, draw_weights(n_draws, len(code), sum(map(len, codes)), seed=seed))
    return torch.from_numpy(unrelated_codes(_centred(code), directions) @ directions.axes).to(code)


def unrelated_subspaces(
    controls: Sequence[Float[Tensor, "_ d"]], rank: int, n_draws: int, seed: int
) -> tuple[Float[Tensor, "direction d"], ...]:
    """Index subspaces of unrelated families: of Gaussian combinations of whole control codes.

    All members of a draw have the same weights, so that a draw is structured as control codes are. Directions drawn
    for each member on its own would vary less from draw to draw than those of families do: of line-like codes of 9
    members, unrelated subspaces then come out below 19 of 20 in one case of eleven.

    Args:
        controls: mean codes of control families, 10 or more of the same members; others are left out.
        rank: directions of a subspace.
        n_draws: how many subspaces.
        seed: seeds the weights; the same serve for codes of the same shape, as at other places, contexts and layers.

    Returns:
        Orthonormal rows, the directions in which a draw's members differ most, float64; no draw with fewer families.
    """
    n_members = max(map(len, controls), default=0)
    codes = [_centred(one) for one in controls if len(one) == n_members]
    if len(codes) < LEAST_FAMILIES or not any(one.any() for one in codes):
        return ()
    scores, sizes, axes = row_space(np.concatenate(codes))
    small = (scores * sizes).reshape(len(codes), n_members, -1)
    weights = np.random.default_rng([check_seed(seed), 13]).normal(size=(n_draws, len(codes)))
    drawn = np.einsum("bf,fma->bma", weights, small)
    leading = np.linalg.svd(drawn, full_matrices=False)[2][:, :rank] @ axes
    return tuple(torch.from_numpy(one) for one in leading)


def _centred(code: Float[Tensor, "member d"]) -> Float[np.ndarray, "member d"]:
    wide = code.double()
    return (wide - wide.mean(dim=0)).numpy()
