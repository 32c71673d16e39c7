"""Codes that donors unrelated to anything could have: the donor's and the control families' codes, rotated together."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.repeatable import check_seed
from geometry.stats.unrelated_codes import LEAST_FAMILIES, root
from probes.directions.codes import IndexCodes


def unrelated_donors(
    code: Float[Tensor, "member d"],
    controls: Sequence[Float[Tensor, "member d"]],
    n_draws: int,
    seed: int,
    *,
    structured: bool = True,
) -> Float[Tensor, "draw member d"]:
    """Codes that a donor and control families could have had.

    A draw is a combination of the donor's own code and of the controls' with weights on a sphere, all at one size: were
    the donor a control like the others, of normal codes, it would be one draw among them (a rotation test: Langsrud
    2005, Statistics and Computing 15, section 3). Combinations of the controls alone vary too little: with 20 of them
    and codes along a line, p <= .05 over eight layers in one case of eight. Where the structure matters, members of the
    controls are mixed first so that their mean structure becomes the donor's: numbers may lie along a line where
    unordered words do not, and a step along it is then longer than theirs.

    Args:
        code: the donor's mean code.
        controls: those of the same members of control families, 10 or more.
        n_draws: how many.
        seed: seeds the weights; the same serve at all places, contexts and layers.
        structured: whether the structure matters: to steps from member to member, and hardly to a subspace, where
            mixing would only add noise (p <= .05 in .065 instead of .056 of nine independent members).

    Returns:
        Members centred, each draw of the donor's size: zero where its members, or those of too many controls, are all
        alike. No draw with fewer control families.
    """
    if len(controls) < LEAST_FAMILIES:
        return code.new_empty(0, *code.shape)
    own, others = _centred(code), [one for one in map(_centred, controls) if one.any()]
    if len(others) < LEAST_FAMILIES or not own.any():
        return code.new_zeros(n_draws, *code.shape)
    pool = np.stack([own, *others]) / [[[np.linalg.norm(one)]] for one in (own, *others)]
    if structured:
        pool[1:] = _mixing(pool[0], pool[1:]) @ pool[1:]
    weights = np.random.default_rng([check_seed(seed), 13]).normal(size=(n_draws, len(pool)))
    drawn = np.einsum("bf,fmd->bmd", weights, pool, optimize=True)
    sizes = np.linalg.norm(drawn, axis=(1, 2), keepdims=True)
    return torch.from_numpy(drawn * (np.linalg.norm(own) / sizes)).to(code)


def unrelated_to(
    donor: IndexCodes,
    controls: Sequence[IndexCodes],
    context: str,
    place: int,
    n_draws: int,
    seed: int,
    *,
    structured: bool = True,
) -> Float[Tensor, "draw member d"]:
    """Null donors at one place, from all contexts but one; controls that lack a member of the donor take no part."""
    whole = [one for one in controls if set(donor.members) <= set(one.members) and one.family != donor.family]
    codes = [one.without(context)[[one.members.index(m) for m in donor.members], place] for one in whole]
    return unrelated_donors(donor.without(context)[:, place], codes, n_draws, seed, structured=structured)


def _mixing(
    own: Float[np.ndarray, "member d"], others: Float[np.ndarray, "family member d"]
) -> Float[np.ndarray, "member member"]:
    """What makes the mean of the others' products between members the donor's own."""
    values, vectors = np.linalg.eigh(np.einsum("fid,fjd->ij", others, others) / len(others))
    kept = values > 1e-9 * values.max()
    whitening = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    return root(own).astype(np.float64) @ whitening


def _centred(code: Float[Tensor, "member d"]) -> Float[np.ndarray, "member d"]:
    """The code less its mean over members; zero where that is rounding error."""
    wide = code.double()
    centred = (wide - wide.mean(dim=0)).numpy()
    return np.where(np.abs(centred).max() > 1e-12 * float(wide.abs().max()), centred, 0.0)
