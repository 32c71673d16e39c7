"""Random orders of the ordinals, which an increasing list is set against to see whether its order matters.

For a list without an order (its words put to the ordinals at random) the increasing order is a random one like the
others, so that a value of the increasing list ranks among those of K reordered ones as any of them does. Orders in
which some member keeps a natural neighbour are therefore not left out: without them the reordered lists would be more
like one another than the increasing one is like them.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import permutations

import numpy as np

from cache.errors import InputError

MOST_ORDERS = 100
_FEW = 7  # ordinals of which all orders are listed: 719
_KIND = re.compile(r"reordered:([0-9]{1,9})(?:-([0-9]{1,9}))?")


def expand_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds with `reordered:0-19` written out as twenty; those given twice are kept once.

    Raises:
        InputError: a range runs downwards, or there are not so many orders.

    Example:
        >>> expand_kinds(["increasing", "reordered:0-2"])
        ('increasing', 'reordered:0', 'reordered:1', 'reordered:2')
    """
    return tuple(dict.fromkeys(name for kind in kinds for name in _expanded(kind)))


def _expanded(kind: str) -> list[str]:
    match = _KIND.fullmatch(kind)
    if match is None:
        return [kind]
    numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers:
        raise InputError(f"a range of orders runs upwards, as in reordered:0-19; got {kind}")
    if numbers[-1] >= MOST_ORDERS:
        raise InputError(f"there are reordered:0 to reordered:{MOST_ORDERS - 1}; got {kind}")
    return [f"reordered:{number}" for number in numbers]


def order_number(kind: str) -> int | None:
    """The K of the kind `reordered:K`; None for another kind, and for a range."""
    match = _KIND.fullmatch(kind)
    return int(match[1]) if match and match[2] is None else None


@lru_cache(maxsize=1024)
def reordered(number: int, ordinals: range, seed: int) -> tuple[int, ...]:
    """The K-th seeded order of the ordinals, read as a circle that begins with the first of them.

    Every circle but the natural one is as likely as any other, and no two numbers K give the same one.

    Args:
        number: K, from 0.
        ordinals: the ordinals, 3 or more.
        seed: seeds the orders; number, ordinals and seed alone decide.

    Raises:
        InputError: so few ordinals have not so many orders (3 have 1, 4 have 5, 5 have 23, 6 have 119).

    Example:
        >>> reordered(0, range(1, 8), 0)
        (1, 4, 7, 5, 3, 6, 2)
    """
    rng = np.random.default_rng([seed, 20261125, ordinals.start, len(ordinals)])
    if len(ordinals) <= _FEW:
        listed = list(permutations(range(1, len(ordinals))))[1:]  # the first is the natural one
        if number >= len(listed):
            raise InputError(
                f"the {len(ordinals)} ordinals that the families have in common stand in {len(listed)} orders besides "
                f"the natural one; got reordered:{number}"
            )
        rest = listed[rng.permutation(len(listed))[number]]
        return tuple(ordinals[place] for place in (0, *rest))
    found = {tuple(range(len(ordinals))): None}
    while len(found) <= number + 1:
        found[0, *(int(place) for place in 1 + rng.permutation(len(ordinals) - 1))] = None
    return tuple(ordinals[place] for place in list(found)[number + 1])


def reordered_window(
    number: int, start: int, length: int, ordinals: range, seed: int
) -> tuple[tuple[int, ...], int] | None:
    """What the K-th order shows where the increasing order would show `start` and those after it, and what follows.

    Both windows end at the same member; before it stand those that precede it in the order, cyclically.

    Returns:
        The ordinals shown and the one that comes next, or None where the increasing window and its answer do not fit,
        or there are too few ordinals (2 or fewer) for another order.
    """
    if start not in ordinals or start + length not in ordinals or len(ordinals) < 3:
        return None
    order = reordered(number, ordinals, seed)
    end = order.index(start + length - 1)
    shown = tuple(order[(end - back) % len(order)] for back in reversed(range(length)))
    return shown, order[(end + 1) % len(order)]
