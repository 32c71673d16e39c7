"""The interval of a matched cosine: exact geometry, and what it does with noise and with nothing."""

import numpy as np
import pytest

from geometry.similarity.cosine_interval import cosine_interval

ONES = np.ones(2001)


@pytest.mark.parametrize("true", [-0.4, 0.0, 0.5, 0.9])
@pytest.mark.parametrize(("t", "ratio"), [(0.0, 1.0), (0.3, 1.0), (-0.3, 1.0), (0.2, 0.5)])
def test_a_cosine_made_with_a_known_rest_is_found_again(true, t, ratio):
    """y = cos(a) x + sin(a) z with z at cosine t to x and `ratio` times as long."""
    x, z = np.array([1.0, 0.0]), ratio * np.array([t, np.sqrt(1 - t**2)])
    y = true * x + np.sqrt(1 - true**2) * z
    seen = y @ x / np.linalg.norm(y)
    sizes = np.repeat([ratio, 1.0], 1000)
    low, high = cosine_interval(seen, np.full(2000, t), sizes, 0.0)
    if ratio == 1.0:
        assert (low, high) == pytest.approx((true, true), abs=1e-9)
    else:
        assert low - 1e-9 <= true <= high + 1e-9


def test_without_an_unrelated_rest_the_interval_is_the_value():
    assert cosine_interval(0.7, 0 * ONES, ONES, 0.0) == pytest.approx((0.7, 0.7))


def test_it_is_narrower_near_1_and_wider_with_an_error_over_contexts():
    unrelated = np.random.default_rng(0).normal(size=2001) * 0.15
    widths = {}
    for value in (0.0, 0.9):
        for error in (0.0, 0.1):
            low, high = cosine_interval(value, unrelated, ONES, error)
            widths[value, error] = high - low
            assert -1 <= low < high <= 1
    assert widths[0.0, 0.0] == pytest.approx(4 * 0.15, rel=0.1)
    assert widths[0.9, 0.0] < 0.6 * widths[0.0, 0.0]
    assert widths[0.9, 0.1] > widths[0.9, 0.0]


def test_a_value_beyond_1_is_taken_for_1_with_its_error():
    unrelated = np.random.default_rng(0).normal(size=2001) * 0.1
    assert cosine_interval(1.2, unrelated, ONES, 0.05) == cosine_interval(1.0, unrelated, ONES, 0.05)
    low, high = cosine_interval(1.2, unrelated, ONES, 0.05)
    assert low < 0.95
    assert high == pytest.approx(1)


def test_without_a_value_an_error_or_a_draw_there_is_no_interval():
    assert np.isnan(cosine_interval(np.nan, 0 * ONES, ONES, 0.1)).all()
    assert np.isnan(cosine_interval(0.5, 0 * ONES, ONES, np.nan)).all()
    assert np.isnan(cosine_interval(0.5, np.empty(0), np.empty(0), 0.1)).all()
