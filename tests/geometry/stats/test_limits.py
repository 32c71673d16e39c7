"""P values by counting, where one layer is nothing but noise, and limits that hold over all layers."""

import numpy as np

from geometry.stats.limits import control_limits, p_at_least
from geometry.stats.ranks import rank_p_over_layers


def test_p_counts_the_value_among_the_draws():
    assert p_at_least(2.0, np.array([1.0, 2.0, 3.0])) == 3 / 4
    assert p_at_least(4.0, np.array([1.0, 2.0, 3.0])) == 1 / 4
    assert np.isnan(p_at_least(np.nan, np.array([1.0])))
    assert np.isnan(p_at_least(1.0, np.empty(0)))


def test_draws_that_are_not_finite_give_no_p():
    assert np.isnan(p_at_least(1.0, np.array([0.5, np.nan])))
    assert np.isnan(p_at_least(1.0, np.array([0.5, np.inf])))


def test_a_noisy_layer_does_not_drown_the_others():
    """A layer whose draws reach 4 where the others' reach .2, as ratios of next to nothing do."""
    rng = np.random.default_rng(1)
    nulls = np.vstack([rng.normal(size=(1, 999)), 0.05 * rng.normal(size=(5, 999))])
    values = np.array([0.5, 0.8, 0.8, 0.8, 0.8, 0.8])
    p = rank_p_over_layers(np.column_stack([values, nulls]))
    assert (p[1:] == 1 / 1000).all()
    unscaled = [(1 + (nulls.max(axis=0) >= one).sum()) / 1000 for one in values]
    assert min(unscaled) > 0.1


def test_the_limit_is_the_largest_distance_of_any_control_at_any_layer_that_takes_part():
    distances = np.zeros((3, 4, 2))
    distances[0, 1, 1], distances[1, 2, 0], distances[2, 0, 0] = 2.0, 3.0, 9.0
    distances[1, 0, 0] = np.nan
    used = np.array([True, True, False])
    found = control_limits(distances, np.array([0.0, 0.1, 0.0]), np.array([0.1, 0.2, 1.0]), used)
    np.testing.assert_allclose(found, [0.3, 0.7, 3.0])
    few = np.where(np.arange(4)[None, :, None] < 2, distances, np.nan)
    assert np.isnan(control_limits(few, np.zeros(3), np.ones(3), used)).all()
    assert np.isnan(control_limits(distances, np.zeros(3), np.ones(3), np.zeros(3, dtype=bool))).all()
