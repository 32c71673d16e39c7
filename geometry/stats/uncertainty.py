"""What a number is worth: standard errors over members, and what chance would give."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float
from torch import Tensor

from cache.repeatable import check_seed
from cache.shares import exact_interval
from geometry.stats.linalg import leading_shares

LEAST_MEMBERS = 5
"""Under so many members there is a value, but neither error, interval nor verdict."""

LEAST_CONTROLS = 19
"""So many control families it takes for a value above all of them to be rarer than one in twenty."""


def explained_variance_null(
    x: Float[Tensor, "row d"], *, k: int, n_permutations: int, seed: int, centre: bool = True
) -> Float[np.ndarray, "permutation component"]:
    """Explained variance ratios after every column is permuted by itself: no dimensions vary together.

    Args:
        x: activations.
        k: how many ratios.
        n_permutations: how many times.
        seed: seeds them.
        centre: the mean is removed first, as PCA does and SVD does not.

    Returns:
        The k largest ratios of each permutation, in [0, 1].

    References: parallel analysis, Horn 1965, in the permutation form of Buja and Eyuboglu 1992.
    """
    rng = np.random.default_rng(seed)
    wide = x.double()
    centred = (wide - wide.mean(dim=0) if centre else wide).numpy()
    null = []
    for _ in range(n_permutations):
        drawn = rng.permuted(centred, axis=0)
        null.append(leading_shares(drawn.T @ drawn if len(drawn) > drawn.shape[1] else drawn @ drawn.T, k))
    return np.stack(null)


def jackknife(left_out: Float[np.ndarray, "member *values"]) -> Float[np.ndarray, "*values"]:
    """Standard errors of values from what they are without each member; nan below 5 members or if one is undefined.

    References: Efron and Tibshirani 1993, eq. 11.5.
    """
    n = len(left_out)
    if n < LEAST_MEMBERS:
        return np.full(left_out.shape[1:], np.nan)
    return np.asarray(np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)))


def share_interval(share: float, se: float, n_members: int) -> tuple[float, float]:
    """95 % interval of a share over members, in [0, 1], honest at its ends: 7 of 7 members have .59 to 1.

    Each end is the further of the exact one, which holds for independent members of whatever rates, and of Student's t
    with the jackknife's error, which is wider where each row depends on two members.

    Args:
        share: in [0, 1].
        se: its jackknife error over members; nan where there is none, as at 0 and 1.
        n_members: how many members.

    Returns:
        Both ends; nan below 5 members, or where the share is nan.

    References: Clopper and Pearson 1934; Efron and Tibshirani 1993, section 11.5.
    """
    low, high = exact_interval(share, n_members)
    if math.isnan(low) or math.isnan(se):
        return low, high
    half = float(scipy.stats.t.ppf(0.975, n_members - 1)) * se
    return max(0.0, min(low, share - half)), min(1.0, max(high, share + half))


def share_error(share: float | Float[np.ndarray, "..."], se: float | Float[np.ndarray, "..."]) -> Any:
    """The standard errors of shares; nan at 0 and 1, where what was seen says nothing of its spread."""
    share = np.asarray(share)
    return np.where((share > 0) & (share < 1), se, np.nan)[()]


def template_bootstrap_se(
    cross: Float[np.ndarray, "context context"],
    own_x: Float[np.ndarray, "context context"],
    own_y: Float[np.ndarray, "context context"],
    *,
    n_draws: int = 200,
    seed: int = 0,
) -> float:
    """Standard error of a matched cosine over templates: contexts are drawn again, with replacement.

    Two draws of the same context are never compared with each other: a copy would be a perfect match.

    Args:
        cross: `similarity.of_families.context_products` of the two families.
        own_x: that of the first with itself.
        own_y: that of the second with itself.
        n_draws: how many draws.
        seed: seeds them.

    Returns:
        The standard deviation over draws; nan with fewer than 5 contexts.
    """
    seed = check_seed(seed)
    n = len(cross)
    if n < LEAST_MEMBERS:
        return math.nan
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws).astype(np.float64)
    sums = [np.einsum("ds,st,dt->d", weights, m, weights) - weights**2 @ m.diagonal() for m in (cross, own_x, own_y)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = sums[0] / np.sqrt(np.where((sums[1] > 0) & (sums[2] > 0), sums[1] * sums[2], np.nan))
    return float(np.nanstd(ratios, ddof=1)) if np.isfinite(ratios).sum() > n_draws // 2 else math.nan


def adjusted(p: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg adjusted p values over everything that was tested; nan stays nan and does not count."""
    values = np.asarray(p, dtype=np.float64)
    finite = np.isfinite(values)
    if finite.any():
        values[finite] = scipy.stats.false_discovery_control(values[finite])
    return values.tolist()
