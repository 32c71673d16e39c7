"""Concentration of variance: counts of equal parts, and what one large part does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.layers.concentration import largest_share, participation_ratio

parts = st.lists(st.floats(0.01, 100), min_size=1, max_size=12)


@given(st.integers(1, 20), st.floats(1e-6, 1e6))
def test_equal_parts_are_counted_and_empty_ones_are_not(n, size):
    values = np.array([size] * n + [0.0] * 3)
    assert participation_ratio(values) == pytest.approx(n)
    assert largest_share(values) == pytest.approx(1 / n)


@given(parts, st.floats(0.001, 1000))
def test_both_are_blind_to_order_and_scale_and_stay_in_their_bounds(values, scale):
    v = np.array(values)
    ratio, share = participation_ratio(v), largest_share(v)
    assert participation_ratio(scale * v[::-1]) == pytest.approx(ratio)
    assert largest_share(scale * v[::-1]) == pytest.approx(share)
    assert 1 - 1e-9 <= ratio <= len(v) + 1e-9
    assert 1 / len(v) - 1e-9 <= share <= 1
    assert 1 / share - 1e-9 <= len(v)
    assert ratio >= 1 / (share + (1 - share) * share) - 1e-9  # sum v^2 <= max v * sum v


def test_worked_by_hand():
    assert participation_ratio(np.array([3.0, 1])) == pytest.approx(16 / 10)
    assert largest_share(np.array([3.0, 1])) == 0.75


def test_one_massive_part_makes_the_whole():
    massive = np.array([1e6] + [1.0] * 100)
    assert participation_ratio(massive) == pytest.approx(1, abs=1e-3)
    assert largest_share(massive) > 0.999


def test_without_variance_there_is_no_concentration():
    assert np.isnan(participation_ratio(np.zeros(3)))
    assert np.isnan(largest_share(np.zeros(3)))
