"""Random orders: all of them, equally often, the same for the same seed, K and ordinals."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError
from cache.prompts.rules import MOST_ORDERS, expand_kinds, order_number, reordered, reordered_window

HOW_MANY = {3: 1, 4: 5, 5: 23, 6: 119}
"""The circles of n that are not the natural one."""


@given(st.integers(0, 1), st.integers(0, 5), st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_an_order_has_every_ordinal_once_and_is_not_the_natural_one(number, first, n, seed):
    ordinals = range(first, first + n)
    order = reordered(number, ordinals, seed)
    assert sorted(order) == list(ordinals)
    assert order[0] == first
    assert order != tuple(ordinals)


@pytest.mark.parametrize("n", HOW_MANY)
def test_few_ordinals_have_every_order_there_is_and_no_more(n):
    circles = {(0, *rest) for rest in permutations(range(1, n))} - {tuple(range(n))}
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
    """Who follows the first of the list: each of the others, about equally often over seeds."""
    n_seeds = 1200
    follows = Counter(reordered(2, range(n), seed)[1] for seed in range(n_seeds))
    expected = n_seeds / (n - 1)
    assert set(follows) == set(range(1, n))
    assert sum((count - expected) ** 2 / expected for count in follows.values()) < 3 * n


def test_an_order_depends_on_number_ordinals_and_seed_and_on_nothing_else():
    assert reordered(3, range(1, 10), 0) == (1, 7, 9, 8, 5, 6, 4, 3, 2)
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


def test_two_ordinals_have_no_window():
    assert reordered_window(0, 1, 1, range(1, 3), 0) is None


def test_a_range_names_each_kind_once():
    kinds = expand_kinds(["increasing", "reordered:0-2", "step:2", "reordered:1-3", "reordered:x", "increasing"])
    assert kinds == ("increasing", *(f"reordered:{k}" for k in range(3)), "step:2", "reordered:3", "reordered:x")


@pytest.mark.parametrize(("kind", "number"), [("reordered:7", 7), ("reordered:0-3", None), ("increasing", None)])
def test_the_number_of_an_order_is_read_off_its_kind(kind, number):
    assert order_number(kind) == number


@pytest.mark.slow
def test_a_list_without_an_order_has_its_highest_value_in_the_increasing_list_once_in_21():
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
    assert 0.03 < highest / n_draws < 0.067
