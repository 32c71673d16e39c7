"""P values and limits that hold over all layers: by counting, and where one layer is nothing but noise."""

import numpy as np
import pytest

from geometry.over_layers import control_limits, p_at_least, p_over_layers, studentised


def test_p_counts_the_value_among_the_draws():
    assert p_at_least(2.0, np.array([1.0, 2.0, 3.0])) == 3 / 4
    assert p_at_least(4.0, np.array([1.0, 2.0, 3.0])) == 1 / 4
    assert np.isnan(p_at_least(np.nan, np.array([1.0])))
    assert np.isnan(p_at_least(1.0, np.empty(0)))


def test_over_layers_a_value_is_set_against_the_largest_of_each_draw_in_spreads():
    rng = np.random.default_rng(0)
    nulls = rng.normal(size=(3, 50)) * np.array([[1.0], [10.0], [0.1]]) + 5
    values = np.array([6.0, 9.0, 5.3])
    distances = [(v - one.mean()) / one.std() for v, one in zip(values, nulls, strict=True)]
    largest = np.max([(one - one.mean()) / one.std() for one in nulls], axis=0)
    by_hand = [(1 + sum(z <= one for one in largest)) / 51 for z in distances]
    np.testing.assert_allclose(p_over_layers(values, nulls), by_hand)


def test_a_noisy_layer_does_not_drown_the_others():
    """A layer whose draws reach 4 where the others' reach .2, as ratios of next to nothing do."""
    rng = np.random.default_rng(1)
    nulls = np.vstack([rng.normal(size=(1, 999)), 0.05 * rng.normal(size=(5, 999))])
    values = np.array([0.5, 0.8, 0.8, 0.8, 0.8, 0.8])
    p = p_over_layers(values, nulls)
    assert (p[1:] == 1 / 1000).all()
    unscaled = [(1 + (nulls.max(axis=0) >= one).sum()) / 1000 for one in values]
    assert min(unscaled) > 0.1


def test_layers_without_a_value_or_a_null_take_no_part():
    nulls = np.array([[0.0, 1.0, 2.0], [np.nan] * 3, [5.0, 5.0, 5.0]])
    found = p_over_layers(np.array([3.0, 1.0, np.nan]), nulls)
    assert found[0] == 1 / 4
    assert np.isnan(found[1:]).all()
    assert np.isnan(p_over_layers(np.array([1.0]), np.empty((1, 0)))).all()
    assert np.isnan(p_over_layers(np.array([np.nan]), np.zeros((1, 2)))).all()


def test_p_over_independent_layers_is_uniform():
    rng = np.random.default_rng(2)
    found = [
        np.min(p_over_layers(scale * rng.normal(size=6), scale[:, None] * rng.normal(size=(6, 199))))
        for scale in np.exp(rng.normal(size=(2000, 6)))
    ]
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.03)


def test_studentised_values_have_mean_0_and_spread_1():
    values, nulls = studentised(np.array([3.0]), np.array([[1.0, 3.0]]))
    assert values.tolist() == [1.0]
    assert nulls.tolist() == [[-1.0, 1.0]]


def test_the_limit_is_the_largest_distance_of_any_control_at_any_layer_that_takes_part():
    distances = np.zeros((3, 4, 2))
    distances[0, 1, 1], distances[1, 2, 0], distances[2, 0, 0] = 2.0, 3.0, 9.0
    distances[1, 0, 0] = np.nan
    used = np.array([True, True, False])
    found = control_limits(distances, np.array([0.0, 0.1, 0.0]), np.array([0.1, 0.2, 1.0]), used)
    np.testing.assert_allclose(found, [0.3, 0.7, 3.0])
    assert np.isnan(control_limits(distances[:, :2], np.zeros(3), np.ones(3), used)).all()
    assert np.isnan(control_limits(distances, np.zeros(3), np.ones(3), np.zeros(3, dtype=bool))).all()
