"""A value's rank among draws: by hand, with ties, and exact over layers whatever their spreads and numbers."""

import numpy as np
import pandas as pd
import pytest

from geometry.stats.ranks import corrected, rank_p, rank_p_over_layers

NAN = float("nan")


def test_later_keys_decide_where_earlier_ones_tie():
    own = [2.0, 5.0]
    draws = [[2.0, 4.0], [2.0, 5.0], [2.0, 6.0], [3.0, 0.0], [1.0, 9.0]]
    assert rank_p(np.array([own, *draws])) == 4 / 6  # itself, its equal, one by the second key, one by the first
    assert rank_p(np.array([own, *draws])[:, :1]) == 5 / 6


def test_without_draws_or_with_a_missing_key_there_is_no_p():
    assert np.isnan(rank_p(np.array([[1.0]])))
    assert np.isnan(rank_p(np.array([[1.0], [NAN]])))
    assert np.isnan(rank_p_over_layers(np.ones((3, 1)))).all()
    np.testing.assert_array_equal(rank_p_over_layers(np.array([[NAN, 1.0], [2.0, 1.0]])), [NAN, 0.5])


def test_over_layers_each_is_set_against_the_largest_of_every_draw():
    """Layer 0: mean 2, SD sqrt(2); layer 1: mean 4, SD 2. The value stands first."""
    scores = np.array([[4.0, 1, 1, 3, 1], [2.0, 2, 4, 4, 8]])
    z = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)
    largest = z.max(axis=0)
    truth = [np.mean(np.r_[True, largest[1:] >= z[h, 0]]) for h in (0, 1)]
    np.testing.assert_allclose(rank_p_over_layers(scores), truth)
    np.testing.assert_allclose(rank_p_over_layers(scores * [[1.0], [1e6]] + [[0], [9]]), truth)


def test_a_layer_where_all_are_equal_says_nothing():
    scores = np.array([[1.0, 1, 1, 1], [9.0, 1, 2, 3]])
    np.testing.assert_allclose(rank_p_over_layers(scores), [1, 0.25])


@pytest.mark.parametrize("n_layers", [1, 8, 30])
@pytest.mark.parametrize("n_draws", [19, 99])
def test_it_is_exact_for_any_number_of_layers_and_draws(n_layers, n_draws):
    """Layers of unlike size, in a chain; 2,000 values from the law of their null: the share has an SE of .005."""
    rng, passed = np.random.default_rng(0), 0
    for _ in range(2_000):
        steps = rng.standard_t(4, size=(n_layers, 1 + n_draws))
        scores = np.cumsum(steps, axis=0) * rng.uniform(0.1, 9, size=(n_layers, 1))
        passed += rank_p_over_layers(scores).min() <= 0.05
    assert 0.035 <= passed / 2_000 <= 0.065


def test_over_cases_the_smallest_p_is_adjusted_and_a_line_keeps_its_own_if_larger():
    """Three cases of two layers; 99 draws. a: first layer far out; b: nothing; c: not tested."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"case": ["a", "b", "c"] * 2, "layer": [0] * 3 + [1] * 3}, index=range(5, 11))
    scores = rng.normal(size=(6, 100))
    scores[:, 0] = [30, 0, 30, 0, 0, 30]
    found = corrected(table, scores, ["case"], (table["case"] != "c").to_numpy())
    assert found.index.equals(table.index)
    lines = found.assign(case=table["case"]).groupby("case")
    a, b, c = (lines.get_group(name) for name in "abc")
    assert a["p_layers"].iloc[0] == 0.01
    assert a["q"].iloc[0] == 0.02  # the smaller of two
    assert a["q"].iloc[1] == a["p_layers"].iloc[1] > 0.3
    assert (b["q"] >= b["p_layers"]).all()
    assert c["q"].isna().all()
    assert (c["p_layers"] == 0.01).all()
