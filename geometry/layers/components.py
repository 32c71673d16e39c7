"""Principal components or singular vectors of one site's rows, with all that says what they are worth."""

from collections.abc import Callable, Iterator, Mapping
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

from cache.errors import InputError
from geometry.bases.principal import Decomposition, pca_of_moments, subspace_overlap
from geometry.layers.concentration import largest_share, participation_ratio
from geometry.results.dataset import Named
from geometry.stats.linalg import RANK_TOLERANCE, check_finite, entry_signs, leading, leading_shares, row_space
from geometry.stats.moments import Moments, merge, moments, without
from geometry.stats.uncertainty import LEAST_MEMBERS, explained_variance_null, jackknife

N_PERMUTATIONS = 20
N_SPLITS = 10
NULL_ROWS = 4096
"""Of more rows than this, so many are drawn for the null: permuting columns needs them in memory."""

Blocks = Callable[[], Iterator[Float[Tensor, "_ d"]]]
Fit = Callable[..., Decomposition]


def components(blocks: Blocks, units: Int[np.ndarray, " row"], fit: Fit, *, k: int, seed: int) -> Named:
    """Components of one site's rows with their errors, stability and null, in passes over blocks.

    Rows fewer than dimensions are turned into their own row space for the fits.

    Args:
        blocks: gives the rows in pieces, each time anew.
        units: the unit of each row.
        fit: `pca_of_moments` or `svd_of_moments`.
        k: how many components.
        seed: seeds the null and the halves.

    Returns:
        The arrays that `pca_by_layer` describes; nan where the rows are all equal.

    Raises:
        InputError: too few rows.
        NumbersError: a value is not finite.
    """
    n_rows, d = len(units), next(blocks()).shape[1]
    if not 1 <= k <= min(n_rows - 1, d):
        raise InputError(f"{n_rows} rows of width {d} have at most {min(n_rows - 1, d)} components; got k = {k}")
    if fit is pca_of_moments and _all_equal(blocks()):
        return _nothing(n_rows, k, d)
    turned, back, offset = (
        _turned(blocks, k, centred=fit is pca_of_moments) if n_rows <= d else (blocks, None, np.zeros(d))
    )
    parts = _unit_moments(turned(), units)
    whole = reduce(merge, parts.values())
    result = fit(whole, k=k)
    directions, mean = result.directions.double().numpy(), result.mean.double().numpy()
    scores, squares = _second_pass(turned(), result, n_rows)
    there = result.explained_variance_ratio > RANK_TOLERANCE**2  # a component without variance is none to be stable
    with threadpool_limits(1):  # dozens of small decompositions: threads only wait for each other
        se, stability = _errors(whole, parts, fit, k), _stability(parts, fit, k, seed)
    if back is not None:
        signs = entry_signs(directions @ back)
        directions, mean = signs[:, None] * directions @ back, mean @ back + offset
        scores = scores * signs.astype(np.float32)
    return {
        "explained_variance": (("component",), result.explained_variance),
        "explained_variance_ratio": (("component",), result.explained_variance_ratio),
        "se": (("component",), se),
        "stability": (("component",), np.where(there, stability, np.nan)),
        "null": (("permutation", "component"), _null(blocks(), n_rows, k, seed, centre=fit is pca_of_moments)),
        "spectrum": (("all",), _padded(result.spectrum, min(n_rows, d))),
        "participation_ratio": ((), np.array(participation_ratio(result.spectrum))),
        "largest_row_share": ((), np.array(largest_share(squares))),
        "largest_dimension_share": ((), np.array(largest_share(_by_dimension(blocks(), mean)))),
        "directions": (("component", "d"), directions.astype(np.float32)),
        "mean": (("d",), mean.astype(np.float32)),
        "scores": (("row", "component"), scores),
    }


def _all_equal(blocks: Iterator[Float[Tensor, "_ d"]]) -> bool:
    first = next(blocks)
    return bool((first == first[0]).all()) and all(bool((block == first[0]).all()) for block in blocks)


def _turned(
    blocks: Blocks, k: int, *, centred: bool
) -> tuple[Blocks, Float[np.ndarray, "rank d"], Float[np.ndarray, " d"]]:
    """The rows in coordinates of their row space, at least k of them, the map back, and what to add after it.

    Rows that will be centred are so here: beside a large mean, their spread would count as rounding.
    """
    rows = torch.cat(list(blocks()))
    check_finite(rows)
    x = rows.double().numpy()
    offset = x.mean(axis=0) if centred else np.zeros(x.shape[1])
    scores, sizes, right = row_space(x - offset)
    missing = max(0, k - len(sizes))
    coordinates = torch.from_numpy(np.pad(scores * sizes, ((0, 0), (0, missing))))
    return lambda: iter(torch.split(coordinates, 4096)), np.vstack([right, _complement(right, missing)]), offset


def _complement(right: Float[np.ndarray, "rank d"], missing: int) -> Float[np.ndarray, "missing d"]:
    """Unit vectors orthogonal to the row space, for components that the rows do not have."""
    if not missing:
        return np.zeros((0, right.shape[1]))
    return np.linalg.svd(right, full_matrices=True)[2][len(right) : len(right) + missing]


def _unit_moments(blocks: Iterator[Float[Tensor, "_ d"]], units: Int[np.ndarray, " row"]) -> dict[int, Moments]:
    """Moments of each unit's rows, in one pass."""
    parts: dict[int, Moments] = {}
    start = 0
    for block in blocks:
        here = units[start : start + len(block)]
        for unit in np.unique(here).tolist():
            part = moments([block[torch.from_numpy(here == unit)]])
            parts[unit] = merge(parts[unit], part) if unit in parts else part
        start += len(block)
    return parts


def _second_pass(
    blocks: Iterator[Float[Tensor, "_ d"]], result: Decomposition, n_rows: int
) -> tuple[Float[np.ndarray, "row component"], Float[np.ndarray, " row"]]:
    """Scores of every row, and every row's squared distance from the mean."""
    # filled in place: small results between large temporaries would keep the heap from shrinking
    scores, squares = np.empty((n_rows, len(result.directions)), dtype=np.float32), np.empty(n_rows)
    mean, start = result.mean, 0
    for block in blocks:
        stop = start + len(block)
        scores[start:stop] = result.scores(block).numpy()
        moved = (block - mean).numpy()
        squares[start:stop] = np.einsum("rd,rd->r", moved, moved, dtype=np.float64)
        start = stop
    return scores, squares


def _by_dimension(blocks: Iterator[Float[Tensor, "_ d"]], mean: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Every dimension's sum of squares around the mean that was removed (0 for SVD)."""
    offset = torch.from_numpy(mean)
    return sum(((block - offset).square().sum(dim=0) for block in blocks), torch.zeros(len(mean)).double()).numpy()


def _errors(whole: Moments, parts: Mapping[int, Moments], fit: Fit, k: int) -> Float[np.ndarray, " component"]:
    """Jackknife errors of the shares over units: all rows of one unit are left out together."""
    if len(parts) < LEAST_MEMBERS:
        return np.full(k, np.nan)
    least = 1e-12 * np.trace(whole.scatter)  # what rounding leaves where all the rest are equal
    return jackknife(np.stack([_shares(without(whole, part), fit, k, least) for part in parts.values()]))


def _shares(rest: Moments, fit: Fit, k: int, least: float) -> Float[np.ndarray, " component"]:
    """The k largest shares that a fit would find; 0 where rows are too few, or all equal."""
    if fit is pca_of_moments and np.trace(rest.scatter) <= least:
        return np.zeros(k)
    return _padded(leading_shares(_fitted(rest, fit), min(k, _most(rest, fit))), k)


def _stability(parts: Mapping[int, Moments], fit: Fit, k: int, seed: int) -> Float[np.ndarray, " component"]:
    """Overlap of the subspaces found in two halves of the units, mean over halves; nan if a half is too small."""
    rng, units, overlaps = np.random.default_rng(seed), list(parts), []
    if len(units) < 2:
        return np.full(k, np.nan)
    for _ in range(N_SPLITS):
        order = rng.permutation(len(units))
        halves = [order[: len(units) // 2], order[len(units) // 2 :]]
        pair = [reduce(merge, [parts[units[i]] for i in half]) for half in halves]
        scatters = [_fitted(half, fit) for half in pair]
        if any(_most(half, fit) < k or np.trace(one) <= 0 for half, one in zip(pair, scatters, strict=True)):
            return np.full(k, np.nan)
        overlaps.append(subspace_overlap(*(leading(one, k)[1].astype(np.float32) for one in scatters)))
    return np.asarray(np.mean(overlaps, axis=0))


def _fitted(rows: Moments, fit: Fit) -> Float[np.ndarray, "d d"]:
    """What a fit takes the eigenvectors of."""
    return rows.scatter if fit is pca_of_moments else rows.scatter + rows.n_rows * np.outer(rows.mean, rows.mean)


def _most(rows: Moments, fit: Fit) -> int:
    """How many components a fit of so many rows has at most."""
    return min(rows.n_rows - (fit is pca_of_moments), len(rows.mean))


def _null(
    blocks: Iterator[Float[Tensor, "_ d"]], n_rows: int, k: int, seed: int, *, centre: bool
) -> Float[np.ndarray, "permutation component"]:
    """The null's shares, on at most 4,096 rows drawn at random: fewer rows make it larger, not smaller."""
    keep = np.ones(n_rows, dtype=bool)
    if n_rows > NULL_ROWS:
        keep[:] = False
        keep[np.random.default_rng(seed).choice(n_rows, NULL_ROWS, replace=False)] = True
    drawn, start, filled = torch.empty(0), 0, 0
    for block in blocks:
        kept = block[torch.from_numpy(keep[start : start + len(block)])]
        if not filled:
            drawn = torch.empty((int(keep.sum()), block.shape[1]), dtype=block.dtype)
        drawn[filled : filled + len(kept)] = kept
        start, filled = start + len(block), filled + len(kept)
    return explained_variance_null(drawn, k=k, n_permutations=N_PERMUTATIONS, seed=seed, centre=centre)


def _padded(values: Float[np.ndarray, " some"], length: int) -> Float[np.ndarray, " length"]:
    return np.pad(values[:length], (0, max(0, length - len(values))))


def _nothing(n_rows: int, k: int, d: int) -> Named:
    """The arrays of rows that are all equal, as the embedding of one and the same token: no variance to share."""
    missing, undefined = np.full(k, np.nan), np.array(np.nan)
    return {
        "explained_variance": (("component",), np.zeros(k)),
        "explained_variance_ratio": (("component",), missing),
        "se": (("component",), missing),
        "stability": (("component",), missing),
        "null": (("permutation", "component"), np.full((N_PERMUTATIONS, k), np.nan)),
        "spectrum": (("all",), np.zeros(min(n_rows, d))),
        "participation_ratio": ((), undefined),
        "largest_row_share": ((), undefined),
        "largest_dimension_share": ((), undefined),
        "directions": (("component", "d"), np.full((k, d), np.nan, dtype=np.float32)),
        "mean": (("d",), np.full(d, np.nan, dtype=np.float32)),
        "scores": (("row", "component"), np.zeros((n_rows, k), dtype=np.float32)),
    }
