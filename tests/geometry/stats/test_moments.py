"""Moments in one pass: parts add up to the whole, in any split and any order, and no digit is lost to a large mean."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError, NumbersError
from geometry.stats.moments import Moments, merge, moments, without

splits = st.tuples(st.integers(0, 1000), st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(sum))


def rows_of(seed, n_rows, d=5, dtype=np.float32):
    rng = np.random.default_rng([seed, n_rows, d])
    return torch.from_numpy((rng.normal(size=(n_rows, d)) @ rng.normal(size=(d, d)) + 3).astype(dtype))


def by_hand(x, y=None):
    """Sums over rows, one after another, in float64."""
    x = x.double().numpy()
    y = x if y is None else y.double().numpy()
    a, b = sum(x) / len(x), sum(y) / len(y)
    return a, sum(np.outer(row - a, other - b) for row, other in zip(x, y, strict=True))


def assert_same(one, other, rtol=1e-9):
    assert one.n_rows == other.n_rows
    np.testing.assert_allclose(one.mean, other.mean, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(one.scatter, other.scatter, rtol=rtol, atol=rtol * max(other.scatter.max(), 1))


@given(splits)
@settings(deadline=None, max_examples=60)
def test_the_moments_of_rows_in_any_blocks_are_sums_over_the_rows(case):
    seed, lengths = case
    x = rows_of(seed, sum(lengths))
    found = moments(torch.split(x, lengths))
    mean, scatter = by_hand(x)
    assert_same(found, Moments(len(x), mean, scatter), rtol=3e-6)
    assert (found.mean.dtype, found.scatter.dtype) == (np.float64, np.float64)


@given(splits, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_float64_blocks_add_up_to_float64_in_any_order(case, random):
    seed, lengths = case
    x = rows_of(seed, sum(lengths), dtype=np.float64)
    blocks = list(torch.split(x, lengths))
    random.shuffle(blocks)
    assert_same(moments(blocks), Moments(len(x), *by_hand(x)), rtol=1e-12)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_merging_knows_no_order_and_without_undoes_it(n_first, n_second, seed):
    x = rows_of(seed, n_first + n_second, dtype=np.float64)
    first, second = moments([x[:n_first]]), moments([x[n_first:]])
    whole = merge(first, second)
    assert_same(whole, moments([x]), rtol=1e-11)
    assert_same(merge(second, first), whole, rtol=1e-11)
    assert_same(without(whole, second), first, rtol=1e-10)
    assert_same(without(whole, first), second, rtol=1e-10)


def test_merging_three_sets_knows_no_grouping():
    a, b, c = (moments([rows_of(seed, n, dtype=np.float64) + seed]) for seed, n in ((0, 4), (1, 1), (9, 30)))
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)), rtol=1e-12)


def test_merging_changes_neither_part():
    a, b = moments([rows_of(0, 6)]), moments([rows_of(1, 9)])
    copies = [(part.mean.copy(), part.scatter.copy()) for part in (a, b)]
    without(merge(a, b), b)
    for part, (mean, scatter) in zip((a, b), copies, strict=True):
        np.testing.assert_array_equal(part.mean, mean)
        np.testing.assert_array_equal(part.scatter, scatter)


def test_blocks_are_read_once_and_left_as_they_were():
    x = rows_of(0, 20)
    before = x.clone()
    assert moments(iter(torch.split(x, 7))).n_rows == 20
    assert torch.equal(x, before)


def test_the_covariance_is_numpys_and_zero_for_a_single_row():
    x = rows_of(0, 30)
    np.testing.assert_allclose(moments([x]).covariance, np.cov(x.double().numpy().T), rtol=1e-5)
    assert not moments([x[:1]]).covariance.any()


@pytest.mark.parametrize("n_rows", [64, 5000])
def test_a_mean_of_ten_thousand_times_the_spread_costs_no_digits(n_rows):
    rng = np.random.default_rng(0)
    x = torch.from_numpy((rng.normal(size=(3 * n_rows, 8)) + 1e4 * rng.choice([-1, 1], size=8)).astype(np.float32))
    found = moments(torch.split(x, n_rows))
    wide = x.double().numpy()
    np.testing.assert_allclose(found.mean, wide.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(wide.T), atol=2e-6)


def test_one_massive_first_row_costs_the_others_no_digits():
    x = rows_of(0, 4000)
    x[0, 0] = 3e5
    found = moments([x])
    np.testing.assert_allclose(found.mean, x.double().numpy().mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.scatter[1:, 1:], by_hand(x)[1][1:, 1:], rtol=1e-5, atol=0.1)


def test_float64_data_keep_float64_digits():
    x = rows_of(0, 300, dtype=np.float64) + 1e6
    np.testing.assert_allclose(moments(torch.split(x, 77)).covariance, np.cov(x.numpy().T), rtol=1e-8)


def test_constant_columns_have_no_scatter_at_all_and_duplicates_the_same():
    x = rows_of(0, 50)
    wide = torch.cat([x, x[:, :1], torch.full((50, 1), 777.7)], dim=1)
    scatter = moments(torch.split(wide, 13)).scatter
    assert not scatter[-1].any()
    assert not scatter[:, -1].any()
    np.testing.assert_allclose(scatter[:, -2], scatter[:, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("blocks", [[], [torch.zeros(0, 5)], [torch.zeros(0, 5)] * 3])
def test_no_row_at_all_is_refused(blocks):
    with pytest.raises(InputError, match=r"^there is no row to take moments of$"):
        moments(blocks)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("rows", [[0], [3], [0, 3]])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(value, rows):
    x = rows_of(0, 12)
    x[rows[0], 2] = value
    x[rows[-1], 2] = -value if len(rows) > 1 else value
    message = "the activations are not all finite; geometry verify says whether the file is sound"
    with pytest.raises(NumbersError, match=message) as caught:
        moments(torch.split(x, 5))
    assert caught.value.exit_code == 8


def test_taking_away_as_many_rows_as_there_are_is_refused():
    few, many = moments([rows_of(0, 4)]), moments([rows_of(1, 6)])
    with pytest.raises(InputError, match=r"^4 rows without 4 of them leave none$"):
        without(few, few)
    with pytest.raises(InputError, match=r"^4 rows without 6 of them leave none$"):
        without(few, many)
