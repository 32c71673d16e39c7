"""Joint moments of many pairs of sites in as few passes over the file as memory allows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from geometry.moments import JointMoments, Moments, moments

Source = Callable[[int], Iterator[Float[Tensor, "_ d"]]]
"""Gives one site's rows in pieces of at most so many rows; all sources have the same rows."""

BUDGET = 256 * 2**20
"""Bytes of running sums at a time."""

N_ROWS = 2048
"""Rows of each site that are in memory at a time."""


@dataclass(frozen=True)
class Crossed:
    """Moments of two sites, and what debiasing needs besides.

    Attributes:
        joint: count, means, scatters and cross scatter.
        norms_x: the sum over rows of the fourth power of x's centred norm.
        norms_y: that of y.
        norms_xy: the sum over rows of x's squared centred norm times y's.
    """

    joint: JointMoments
    norms_x: float
    norms_y: float
    norms_xy: float


def cross_moments(
    sources: Sequence[Source], pairs: Sequence[tuple[int, int]], *, budget: int = BUDGET
) -> Iterator[tuple[tuple[int, int], Crossed]]:
    """Moments of pairs of different sources, one pair after another.

    One pass gives every source's own moments. In further passes rows are centred, multiplied in float32 and summed in
    float64, for as many pairs at a time as fit the budget: memory does not depend on the number of rows.

    Args:
        sources: the sites.
        pairs: numbers of two different sources each.
        budget: bytes of running sums.
    """
    own = {i: moments(sources[i](N_ROWS)) for i in sorted({i for pair in pairs for i in pair})}
    todo = list(pairs)
    while todo:
        size = 8 * max(len(own[i].mean) * len(own[j].mean) for i, j in todo)
        now, todo = todo[: max(1, budget // size)], todo[max(1, budget // size) :]
        yield from _one_pass(sources, now, own)


def _one_pass(
    sources: Sequence[Source], pairs: Sequence[tuple[int, int]], own: dict[int, Moments]
) -> Iterator[tuple[tuple[int, int], Crossed]]:
    wanted = sorted({i for pair in pairs for i in pair})
    means = {i: own[i].mean.astype(np.float32) for i in wanted}
    sums = {(i, j): np.zeros((len(means[i]), len(means[j]))) for i, j in pairs}
    norms = {key: 0.0 for i, j in pairs for key in ((i, i), (j, j), (i, j))}
    for blocks in zip(*(sources[i](N_ROWS) for i in wanted), strict=True):
        centred = {i: block.numpy() - means[i] for i, block in zip(wanted, blocks, strict=True)}
        squares = {i: np.einsum("rd,rd->r", rows, rows, dtype=np.float64) for i, rows in centred.items()}
        for i, j in norms:
            norms[i, j] += float(squares[i] @ squares[j])
        for i, j in pairs:
            sums[i, j] += centred[i].T @ centred[j]
    rest = {i: own[i].mean - means[i].astype(np.float64) for i in wanted}
    for i, j in pairs:
        cross = sums.pop((i, j))
        cross -= own[i].n_rows * np.outer(rest[i], rest[j])  # what float32 cannot say of the means
        yield (i, j), Crossed(JointMoments(own[i], own[j], cross), norms[i, i], norms[j, j], norms[i, j])
