"""Nulls by permuting members: what a measure gives when the members of one side are exchanged at random."""

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import InputError
from cache.repeatable import check_seed
from geometry.stats.linalg import row_space

EXHAUSTIVE = 10_000
"""Where there are no more orders of the members than this all are tried; else so many, the true one among them."""


def member_permutations(
    n_members: int, *, most: int = EXHAUSTIVE, seed: int = 0
) -> Int[np.ndarray, "permutation member"]:
    """Orders of the members, the unpermuted one first.

    Args:
        n_members: how many members.
        most: all `n_members!` orders are given if they are no more than this, else this many, drawn.
        seed: seeds the draws.

    Raises:
        InputError: n_members is below 1, or `most` below 2.
    """
    seed = check_seed(seed)
    if n_members < 1 or most < 2:
        raise InputError(f"permutations need 1 member and 2 orders; got {n_members} and {most}")
    if math.factorial(n_members) <= most:
        return np.array(list(permutations(range(n_members))))
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.tile(np.arange(n_members), (most - 1, 1)), axis=1)
    return np.vstack([np.arange(n_members), drawn])


def permuted_traces(
    table: Float[np.ndarray, "member member"], orders: Int[np.ndarray, "permutation member"]
) -> Float[np.ndarray, " permutation"]:
    """The sum of `table[i, order[i]]` for each order: measures that compare members one by one."""
    return table[np.arange(len(table)), orders].sum(axis=1)


def permuted_products(
    a: Float[np.ndarray, "member member"],
    b: Float[np.ndarray, "member member"],
    orders: Int[np.ndarray, "permutation member"],
) -> Float[np.ndarray, " permutation"]:
    """The sum of `a[i, j] * b[order[i], order[j]]` for each order: measures that compare members in pairs."""
    return np.array([np.vdot(a, b[np.ix_(order, order)]) for order in orders])


def permuted_values(
    value: Callable[[Float[Tensor, "context member d"]], float],
    y: Float[Tensor, "context member d"],
    orders: Int[np.ndarray, "permutation member"],
) -> Float[np.ndarray, " permutation"]:
    """A measure of y with its members in each order, all contexts alike: measures of no special form."""
    return np.array([value(y[:, torch.from_numpy(order)]) for order in orders])


def permutation_p(null: Float[np.ndarray, " permutation"]) -> float:
    """The share of orders, the true one included, that give at least as much as the true one, which stands first.

    Returns:
        In [1 / n_permutations, 1]; nan where the true value is.
    """
    return float(np.mean(null >= null[0] - 1e-12 * max(1.0, abs(null[0])))) if np.isfinite(null[0]) else float("nan")


def own_index_p(x: Float[Tensor, "context member d"], *, n_draws: int = 200, seed: int = 0) -> float:
    """Whether members differ alike in all contexts: p of the index effect of one family.

    The sum over pairs of different contexts of the members' inner products is set against the same after permuting
    the members of every context by itself.

    Returns:
        In [1 / n_draws, 1]; nan where all members are equal.
    """
    seed = check_seed(seed)
    wide = x.double() - x.double().mean(dim=1, keepdim=True)
    n_contexts, n_members, d = wide.shape
    scores, sizes, _ = row_space(wide.reshape(-1, d).numpy())
    if not len(sizes):
        return float("nan")
    cells = (scores * sizes).reshape(n_contexts, n_members, -1)
    rng = np.random.default_rng(seed)
    null = [np.square(cells.sum(axis=0)).sum()]
    for _ in range(n_draws - 1):
        orders = rng.permuted(np.tile(np.arange(n_members), (n_contexts, 1)), axis=1)
        null.append(np.square(np.take_along_axis(cells, orders[:, :, None], axis=1).sum(axis=0)).sum())
    return permutation_p(np.array(null))
