"""Permutation nulls: every order where there are few, p values that are even where nothing is there."""

import math
from itertools import permutations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError
from geometry.similarity.of_families import member_products
from geometry.stats.permutations import (
    EXHAUSTIVE,
    member_permutations,
    own_index_p,
    permutation_p,
    permuted_products,
    permuted_traces,
    permuted_values,
)
from tests.geometry.simulate import families


@pytest.mark.parametrize("n_members", [1, 2, 3, 5, 7])
def test_all_orders_are_tried_where_they_are_no_more_than_the_most(n_members):
    orders = member_permutations(n_members, most=max(2, math.factorial(n_members)))
    assert orders[0].tolist() == list(range(n_members))
    assert {tuple(order) for order in orders.tolist()} == set(permutations(range(n_members)))
    assert len(orders) == math.factorial(n_members)


@pytest.mark.parametrize(("n_members", "most"), [(5, 119), (8, EXHAUSTIVE), (30, 50), (3, 2)])
def test_else_so_many_are_drawn_the_true_one_first(n_members, most):
    orders = member_permutations(n_members, most=most)
    assert orders.shape == (most, n_members)
    assert orders[0].tolist() == list(range(n_members))
    assert (np.sort(orders, axis=1) == np.arange(n_members)).all()


def test_draws_are_seeded_and_even():
    one, again, other = (member_permutations(9, most=5000, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    counts = np.stack([np.bincount(one[1:, place], minlength=9) for place in range(9)])
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 0.001


def test_orders_of_nobody_or_too_few_orders_are_refused():
    with pytest.raises(InputError, match=r"^permutations need 1 member and 2 orders; got 0 and 10000$"):
        member_permutations(0)
    with pytest.raises(InputError, match=r"^permutations need 1 member and 2 orders; got 5 and 1$"):
        member_permutations(5, most=1)


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_traces_products_and_values_are_those_of_members_taken_in_each_order(n_members, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n_members, n_members))
    y = torch.from_numpy(rng.normal(size=(3, n_members, 4)))
    orders = member_permutations(n_members, most=10, seed=seed)
    traces = [sum(a[i, order[i]] for i in range(n_members)) for order in orders]
    products = [
        sum(a[i, j] * b[order[i], order[j]] for i in range(n_members) for j in range(n_members)) for order in orders
    ]
    np.testing.assert_allclose(permuted_traces(a, orders), traces)
    np.testing.assert_allclose(permuted_products(a, b, orders), products)
    weights = torch.arange(n_members).double()[:, None]
    values = [float((y[:, order.tolist()] * weights).sum()) for order in orders]
    np.testing.assert_allclose(permuted_values(lambda z: float((z * weights).sum()), y, orders), values)


def test_p_counts_the_true_order_and_ties():
    assert permutation_p(np.array([3.0, 1, 2, 0])) == 0.25
    assert permutation_p(np.array([3.0, 3, 5, 0])) == 0.75
    assert permutation_p(np.array([1.0, 1 - 1e-15, 0, 0])) == 0.5  # a tie but for rounding
    assert permutation_p(np.array([1.0, np.nan, 0, 0])) == 0.25
    assert permutation_p(np.array([-1.0, 1, 1, 1])) == 1
    assert np.isnan(permutation_p(np.array([np.nan, 1])))


def test_p_is_even_for_private_codes():
    """500 pairs of families with codes of their own, 2000 of 9! orders each."""
    p = []
    for seed in range(500):
        x, y = (families(n_families=1, n_contexts=3, d=12, noise=0.1, seed=2 * seed + side)[0] for side in (0, 1))
        p.append(permutation_p(permuted_traces(member_products(x, y), member_permutations(9, most=2000, seed=seed))))
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.025)


def test_p_is_at_its_floor_for_a_shared_code():
    for seed in range(5):
        x, y = families(cosine=0.7, n_members=7, seed=seed)
        assert permutation_p(permuted_traces(member_products(x, y), member_permutations(7))) == 1 / 5040


def test_own_index_p_is_even_without_an_effect():
    p = [own_index_p(families(index=0.0, n_contexts=4, d=6, seed=s)[0], n_draws=100, seed=s) for s in range(200)]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_own_index_p_is_at_its_floor_with_an_effect_in_noise_of_its_size():
    for seed in range(5):
        assert own_index_p(families(noise=1.0, seed=seed)[0], seed=seed) == 1 / 200


def test_own_index_p_is_that_of_sums_over_pairs_of_different_contexts():
    x = families(index=0.05, n_contexts=3, n_members=4, d=5, rank=2, seed=1)[0]
    cells = x.double().numpy() - x.double().numpy().mean(axis=1, keepdims=True)

    def recurring(z):
        return sum((z[s] * z[t]).sum() for s in range(3) for t in range(3) if s != t)

    every = [
        recurring(np.stack([cells[0], cells[1][list(a)], cells[2][list(b)]]))
        for a in permutations(range(4))
        for b in permutations(range(4))
    ]  # the first context may stay: only orders relative to it matter
    exact = np.mean(np.array(every) >= every[0])
    assert own_index_p(x, n_draws=2000) == pytest.approx(exact, abs=0.04)
    assert 0.02 < exact < 0.98


def test_own_index_p_is_seeded_blind_to_scale_and_context_effects_and_undefined_for_equal_members():
    x = families(index=0.05, seed=1, d=6)[0]
    p = own_index_p(x, n_draws=50, seed=2)
    assert own_index_p(x, n_draws=50, seed=2) == p
    assert own_index_p(1000 * x + torch.arange(8.0)[:, None, None], n_draws=50, seed=2) == p
    assert np.isnan(own_index_p(x[:, :1].repeat(1, 5, 1)))
