"""Orders without natural neighbours: all of them, equally often, the same for the same seed, K and ordinals."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError
from cache.reordering import MOST_ORDERS, expand_kinds, order_number, reordered, reordered_window

HOW_MANY = {5: 2, 6: 6, 7: 46, 8: 354}
"""Twice the circles of n in which no one keeps a neighbour (OEIS A002816), read either way round."""


def neighbours(order, ordinals):
    """Pairs that follow one another on the circle and in the natural order, or its end and beginning."""
    n = len(ordinals)
    return [(a, b) for a, b in pairwise([*order, order[0]]) if (a - b) % n in (1, n - 1)]


@given(st.integers(0, 1), st.integers(0, 5), st.integers(5, 40), st.integers(0, 2**32 - 1))
def test_an_order_has_every_ordinal_once_and_nobody_beside_a_natural_neighbour(number, first, n, seed):
    ordinals = range(first, first + n)
    order = reordered(number, ordinals, seed)
    assert sorted(order) == list(ordinals)
    assert neighbours(order, ordinals) == []


@pytest.mark.parametrize("n", HOW_MANY)
def test_few_ordinals_have_every_order_there_is_and_no_more(n):
    circles = {(0, *rest) for rest in permutations(range(1, n)) if not neighbours((0, *rest), range(n))}
    assert {reordered(number, range(n), 3) for number in range(HOW_MANY[n])} == circles
    with pytest.raises(
        InputError, match=f"the {n} ordinals .* stand in {HOW_MANY[n]} orders .*; got reordered:{HOW_MANY[n]}"
    ):
        reordered(HOW_MANY[n], range(n), 3)


@pytest.mark.parametrize("n", [9, 12, 26])
def test_all_numbers_give_different_orders(n):
    assert len({reordered(number, range(1, n + 1), 0) for number in range(MOST_ORDERS)}) == MOST_ORDERS


@pytest.mark.parametrize("n", [6, 7, 9])
def test_every_order_is_as_likely_as_any_other(n):
    """Who follows the first of the list: each of those that may, about equally often over seeds."""
    n_seeds = 1200
    follows = Counter(reordered(2, range(n), seed)[1] for seed in range(n_seeds))
    expected = n_seeds / (n - 3)
    assert set(follows) == set(range(2, n - 1))
    assert sum((count - expected) ** 2 / expected for count in follows.values()) < 3 * n


def test_an_order_depends_on_number_ordinals_and_seed_and_on_nothing_else():
    assert reordered(3, range(1, 10), 0) == (1, 7, 2, 4, 8, 6, 9, 3, 5)
    others = {reordered(3, range(1, 10), seed) for seed in range(20)}
    assert len(others) == 20


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("number", range(6))
def test_for_a_list_without_an_order_reordered_windows_are_as_the_increasing_ones(number, length):
    """Over all ways to put 6 words to the ordinals, both show every choice of different words equally often."""
    ordinals = range(1, 7)
    for start in range(1, 7 - length):
        shown, answer = reordered_window(number, start, length, ordinals, 0)
        increasing = range(start, start + length + 1)
        lists = list(permutations("abcdef"))
        natural = Counter(tuple(words[o - 1] for o in increasing) for words in lists)
        other = Counter(tuple(words[o - 1] for o in (*shown, answer)) for words in lists)
        assert natural == other
        assert len(set(natural.values())) == 1


@given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 8), st.integers(9, 20))
def test_a_window_ends_where_the_increasing_one_does_or_is_not_there(number, start, length, n):
    ordinals = range(1, n + 1)
    found = reordered_window(number, start, length, ordinals, 0)
    assert (found is not None) == (start >= 1 and start + length <= n)
    if found:
        shown, answer = found
        assert shown[-1] == start + length - 1
        circle = reordered(number, ordinals, 0) * 3
        assert (*shown, answer) in [circle[i : i + length + 1] for i in range(n)]
        assert len(set(shown)) == length
        assert answer not in shown


def test_four_ordinals_have_no_window():
    assert reordered_window(0, 1, 2, range(1, 5), 0) is None


def test_a_range_names_each_kind_once():
    kinds = expand_kinds(["increasing", "reordered:0-2", "step:2", "reordered:1-3", "reordered:x", "increasing"])
    assert kinds == ("increasing", *(f"reordered:{k}" for k in range(3)), "step:2", "reordered:3", "reordered:x")


@pytest.mark.parametrize(("kind", "number"), [("reordered:7", 7), ("reordered:0-3", None), ("increasing", None)])
def test_the_number_of_an_order_is_read_off_its_kind(kind, number):
    assert order_number(kind) == number


@pytest.mark.slow
def test_a_list_without_an_order_has_its_highest_value_in_the_increasing_list_in_8_percent():
    """As the module says: a little more often than one of 21 exchangeable orders, which would be 4.8 %."""
    rng, n, length, n_draws = np.random.default_rng(1), 9, 3, 1500
    highest = 0
    for draw in range(n_draws):
        word, pair = rng.normal(size=(2, n + 1, 40)), rng.normal(size=(2, n + 1, n + 1, 40))
        word[1], pair[1] = 0.6 * word[0] + 0.8 * word[1], 0.6 * pair[0] + 0.8 * pair[1]
        windows = [[range(start, start + length) for start in range(1, n - length + 1)]]
        windows += [
            [reordered_window(k, start, length, range(1, n + 1), draw)[0] for start in range(1, n - length + 1)]
            for k in range(20)
        ]
        shown = [np.array([tuple(window) for window in lists]).T for lists in windows]
        codes = [(word[:, lists[-1]] + pair[:, lists[-2], lists[-1]]) for lists in shown]
        codes = [code - code.mean(axis=1, keepdims=True) for code in codes]
        values = [float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())) for x, y in codes]
        highest += values.index(max(values)) == 0
    assert 0.06 < highest / n_draws < 0.10
