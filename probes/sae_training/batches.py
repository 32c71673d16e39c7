"""Batches of a store's rows, in an order drawn anew each time round; read piece by piece, for stores beyond memory."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count as counted

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import InputError
from cache.models.hooks import Hook
from cache.store.store import ActivationStore

STRETCH = 256
"""Rows that lie beside each other and are read at once: some windows of text, or some dozen prompts."""

AT_ONCE = 64
"""Stretches that are mixed with each other: rows of as many places as that lie in memory, for every site."""

Batch = dict[Hook, Float[Tensor, "row d"]]


def batches(
    store: ActivationStore,
    hooks: Sequence[Hook],
    pools: Mapping[str, tuple[Int[np.ndarray, " row"], int]],
    *,
    seed: int = 0,
    start: int = 0,
) -> Iterator[Batch]:
    """Batches of the same rows at every site, without end; each pool gives its share of every batch.

    A pool is gone through again and again, each time in another order: its stretches are drawn, and `AT_ONCE` of them
    mixed row by row. The batches are a function of the seed alone, so that `start` goes on where another run was.

    Args:
        store: the store.
        hooks: the sites.
        pools: by name, which rows, and how many of them a batch has.
        seed: of the order.
        start: batches that are passed over; they are not read.

    Yields:
        By site, activations (row, d), those of the first pool first.

    Raises:
        InputError: a pool has no row, or a batch none of it.
    """
    for name, (rows, size) in pools.items():
        if size < 1 or not len(rows):
            raise InputError(f"a batch needs rows of every pool; got {size} of the {len(rows)} of {name}")
    parts = [
        _stream(store, hooks, rows, size, (seed, number), start) for number, (rows, size) in enumerate(pools.values())
    ]
    for of_pools in zip(*parts, strict=True):
        yield {hook: torch.cat([part[hook] for part in of_pools]) for hook in hooks}


def _stream(
    store: ActivationStore,
    hooks: Sequence[Hook],
    rows: Int[np.ndarray, " row"],
    size: int,
    seed: tuple[int, ...],
    start: int,
) -> Iterator[Batch]:
    """`size` rows at a time of one pool."""
    pieces: list[Batch] = []
    held = 0
    turns, passed = divmod(start * size, len(rows))
    for mixed in _order(rows, seed, turns):
        chosen, passed = mixed[passed:], max(0, passed - len(mixed))
        if not len(chosen):
            continue
        read = _read(store, hooks, chosen)
        done = 0
        while done < len(chosen):
            end = min(len(chosen), done + size - held)
            pieces.append({hook: x[done:end] for hook, x in read.items()})
            held, done = held + end - done, end
            if held == size:
                yield {hook: torch.cat([piece[hook] for piece in pieces]) for hook in hooks}
                pieces, held = [], 0


def _order(rows: Int[np.ndarray, " row"], seed: tuple[int, ...], turns: int) -> Iterator[Int[np.ndarray, " mixed"]]:
    """Rows that are mixed with each other, once the pool was gone through that often; without end."""
    stretches = [rows[first : first + STRETCH] for first in range(0, len(rows), STRETCH)]
    for turn in counted(turns):
        drawn = np.random.default_rng((*seed, turn)).permutation(len(stretches))
        for first in range(0, len(drawn), AT_ONCE):
            together = np.concatenate([stretches[one] for one in drawn[first : first + AT_ONCE]])
            yield np.random.default_rng((*seed, turn, first)).permutation(together)


def _read(store: ActivationStore, hooks: Sequence[Hook], rows: Int[np.ndarray, " row"]) -> Batch:
    mask = np.zeros(len(store.rows), dtype=bool)
    mask[rows] = True
    place = torch.from_numpy(np.argsort(np.argsort(rows)))  # of each row among those that `load` gives, in their order
    return {hook: store.load(hook, mask)[place] for hook in hooks}
