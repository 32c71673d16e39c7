"""Joint moments of many pairs of sites in as few passes over the file as memory allows."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cache.errors import InputError
from geometry.stats.moments import JointMoments, Moments, add_outer, finite_mean

Source = Callable[[int], Iterator[Float[Tensor, "_ d"]]]
"""Gives one site's rows in pieces of at most so many rows; all sources have the same rows."""

Sums = dict[tuple[int, int], Float[np.ndarray, "dx dy"]]

BUDGET = 256 * 2**20
"""Bytes of running sums at a time."""

N_ROWS = 4096
"""Rows of each site that are in memory at a time."""


def cross_moments(
    sources: Sequence[Source],
    pairs: Sequence[tuple[int, int]],
    *,
    budget: int = BUDGET,
    known: dict[int, Moments] | None = None,
) -> Iterator[tuple[tuple[int, int], JointMoments]]:
    """Joint moments of pairs of different sources, one pair after another.

    In one pass rows are shifted by their first block's mean, multiplied in float32 and summed in float64, for as many
    pairs as fit the budget; there are as many passes as that takes, and memory does not depend on the number of rows.

    Args:
        sources: the sites.
        pairs: numbers of two different sources each.
        budget: bytes of running sums.
        known: the sources' own moments as far as they are known, to which those found are added.

    Raises:
        InputError: there is no row.
        NumbersError: a value is not finite.
    """
    own = {} if known is None else known
    todo = list(pairs)
    widths = {i: next(sources[i](N_ROWS)).shape[1] for i in {i for pair in pairs for i in pair}}
    while todo:
        n_now = max(1, budget // (8 * max(widths[i] * widths[j] for i, j in todo)))
        now, todo = todo[:n_now], todo[n_now:]
        new = sorted({i for pair in now for i in pair} - set(own))
        sums, totals, n_rows = _one_pass(sources, [*now, *((i, i) for i in new)])
        for i in new:
            shift, rest = totals[i]
            scatter = sums.pop((i, i))
            add_outer(scatter, rest, rest / -n_rows)
            own[i] = Moments(n_rows, shift + rest / n_rows, scatter)
        for i, j in now:
            cross = sums.pop((i, j))
            add_outer(cross, totals[i][1], totals[j][1] / -n_rows)
            yield (i, j), JointMoments(own[i], own[j], cross)


def norm_products(sources: Sequence[Source]) -> Float[np.ndarray, "source source"]:
    """For each pair of sources the sum over rows of the product of their squared distances from their means.

    It is what the diagonals of two Gram matrices contribute to their inner product, which debiasing takes off. The
    rows are read twice: for the means, and for the distances.

    Raises:
        InputError: there is no row.
        NumbersError: a value is not finite.
    """
    means = [_mean(source) for source in sources]
    total = np.zeros((len(sources), len(sources)))
    for blocks in zip(*(source(N_ROWS) for source in sources), strict=True):
        moved = [block.numpy() - mean for block, mean in zip(blocks, means, strict=True)]
        squares = np.stack([np.square(rows).sum(axis=1) for rows in moved])
        total += squares @ squares.T
    return total


def _mean(source: Source) -> Float[np.ndarray, " d"]:
    means, counts = [], []
    for block in source(N_ROWS):
        means.append(finite_mean(block.numpy()))
        counts.append(len(block))
    if not counts:
        raise InputError("there is no row to take moments of")
    return np.average(means, axis=0, weights=counts)


def _one_pass(
    sources: Sequence[Source], pairs: Sequence[tuple[int, int]]
) -> tuple[Sums, dict[int, tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]], int]:
    """Sums of products of shifted rows; each source's shift and sum of shifted rows; and the number of rows."""
    wanted = sorted({i for pair in pairs for i in pair})
    sums: Sums = {}
    shifts: dict[int, Float[np.ndarray, " d"]] = {}
    rests: dict[int, Float[np.ndarray, " d"]] = {}
    n_rows = 0
    for blocks in zip(*(sources[i](N_ROWS) for i in wanted), strict=True):
        moved = {}
        for i, block in zip(wanted, blocks, strict=True):
            rows = block.numpy()
            if i not in shifts:
                shifts[i] = finite_mean(rows).astype(rows.dtype)
            moved[i] = rows - shifts[i]
            rest = finite_mean(moved[i]) * len(rows)
            rests[i] = rests[i] + rest if i in rests else rest
        n_rows += len(blocks[0])
        for i, j in pairs:
            product = moved[i].T @ moved[j]
            if (i, j) in sums:
                sums[i, j] += product
            else:
                sums[i, j] = product.astype(np.float64)
    if not n_rows:
        raise InputError("there is no row to take moments of")
    return sums, {i: (shifts[i].astype(np.float64), rests[i]) for i in wanted}, n_rows
