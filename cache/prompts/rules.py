"""The rules of sequences: which ordinals a window shows, what would continue it, and what would not."""

import itertools
import re
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from cache.errors import InputError
from cache.prompts.reordering import order_number, reordered_window

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
    orders = [order for order in itertools.permutations(window[:-1]) if order != window[:-1]] if length < 8 else []
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
