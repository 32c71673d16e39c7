"""The rules of sequences: which ordinals a window shows, what would continue it, and what would not.

`reordered:K` shows them in random orders, which an increasing list is set against to see whether its order matters. For
a list without an order (its words put to the ordinals at random) the increasing order is a random one like the others,
so that a value of the increasing list ranks among those of K reordered ones as any of them does. Orders in which some
member keeps a natural neighbour are therefore not left out: without them the reordered lists would be more like one
another than the increasing one is like them.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import permutations
from types import MappingProxyType

import numpy as np

from cache.errors import InputError

MOST_ORDERS = 100
_FEW = 7  # ordinals of which all orders are listed: 719
_KIND = re.compile(r"reordered:([0-9]{1,9})(?:-([0-9]{1,9}))?")

Drawn = tuple[tuple[int, ...], int, int]
"""Values shown, answer and distractor."""

Rule = Callable[[int, int, range, np.random.Generator], Drawn | None]


def rule_of(kind: str, seed: int) -> Rule:
    """The rule of a kind: from start, length, ordinals to draw from and generator to values, answer and distractor.

    A rule gives None where no such window fits.

    Args:
        kind: a kind of `SequenceDesign`, but for `mixed`.
        seed: seeds the order of `reordered:K`, which is the same in all windows and templates.

    Raises:
        InputError: there is no such kind.
    """
    if kind in _RULES:
        return _RULES[kind]
    number = order_number(kind)
    if number is not None:
        return lambda start, length, pool, rng: _reordered(number, start, length, pool, seed)
    name, _, step = kind.partition(":")
    if name == "step" and re.fullmatch("[+-]?[0-9]{1,9}", step) and int(step) != 0:
        return lambda start, length, pool, rng: _steps(start, length, int(step))
    known = f"{', '.join(_RULES)}, step:K (such as step:2), reordered:K (such as reordered:0-19)"
    raise InputError(f"no kind {kind!r}; known are {known} and mixed")


def _steps(start: int, length: int, step: int) -> Drawn:
    values = tuple(start + step * i for i in range(length))
    return values, start + step * length, values[-1]


def increasing(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn:
    """Successive ordinals, their successor as the answer, the last shown as the distractor."""
    return _steps(start, length, 1)


def _decreasing(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn:
    return _steps(start, length, -1)


def _repeated(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn:
    return (start,) * length, start, start + 1


def _permuted(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn | None:
    window, answer, _ = _steps(start, length, 1)
    if length < 2:
        return None
    tail = int(rng.choice(window[:-1]))
    head = rng.permutation([value for value in window if value != tail])
    return (*map(int, head), tail), answer, tail


def _shuffled_same_last(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn | None:
    window, answer, last = _steps(start, length, 1)
    orders = [order for order in permutations(window[:-1]) if order != window[:-1]] if length < 8 else []
    if length >= 8:
        # so long a window comes out in order once in 5,040 draws; rolling it then is as good as drawing again
        order = tuple(map(int, rng.permutation(window[:-1])))
        orders = [order if order != window[:-1] else (*order[1:], order[0])]
    if not orders:
        return None
    return (*orders[int(rng.integers(len(orders)))], last), answer, last


def _random(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn | None:
    _, answer, _ = _steps(start, length, 1)
    choices = [value for value in pool if value != answer]
    tails = [value for value in choices if value != answer - 1]
    if len(choices) < length + 1 or not tails:
        return None
    tail = int(rng.choice(tails))
    # the last two shown are not successive either, or the text would suggest an answer of its own
    before = [value for value in choices if value not in (tail, tail - 1)]
    if length > 1 and not before:
        return None
    near = [int(rng.choice(before))] if length > 1 else []
    rest = [value for value in choices if value not in (tail, *near)]
    head = [int(value) for value in rng.permutation(rest)[: max(length - 2, 0)]]
    return (*head, *near, tail), answer, tail


def _copy(start: int, length: int, pool: range, rng: np.random.Generator) -> Drawn | None:
    window, successor, last = _steps(start, length, 1)
    if length < 3:
        return None
    others = [int(value) for value in rng.permutation(window[:-1])]
    doubled = [value for value in others[: length // 2] for _ in range(2)]
    return (*doubled[-(length - 1) :], last), last, successor


def _reordered(number: int, start: int, length: int, pool: range, seed: int) -> Drawn | None:
    found = reordered_window(number, start, length, pool, seed)
    return found and (*found, found[0][-1])


_RULES = MappingProxyType(
    {
        "increasing": increasing,
        "decreasing": _decreasing,
        "repeated": _repeated,
        "copy": _copy,
        "permuted": _permuted,
        "shuffled-same-last": _shuffled_same_last,
        "random": _random,
        "wrap": increasing,
    }
)


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
