"""The exact interval of a share: printed tables, symmetry, and coverage of members that differ."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest

from cache.shares import exact_interval


def test_seven_of_seven_is_at_least_59_percent():
    assert exact_interval(1.0, 7) == pytest.approx((0.5904, 1.0), abs=5e-5)
    assert exact_interval(0.0, 7) == pytest.approx((0.0, 0.4096), abs=5e-5)


@pytest.mark.parametrize("n", [5, 7, 12, 100])
def test_whole_counts_have_scipys_exact_interval(n):
    for k in range(n + 1):
        truth = binomtest(k, n).proportion_ci(0.95, method="exact")
        assert exact_interval(k / n, n) == pytest.approx((truth.low, truth.high), abs=1e-9)


@pytest.mark.parametrize("n", [5, 6, 9])
def test_between_counts_it_lies_between_theirs_and_both_sides_are_alike(n):
    found = [exact_interval(share, n) for share in np.linspace(0, 1, 61)]
    for below, above in pairwise(found):
        assert below[0] <= above[0]
        assert below[1] <= above[1]
    for (low, high), (other_low, other_high) in zip(found, found[::-1], strict=True):
        assert (low, high) == pytest.approx((1 - other_high, 1 - other_low))


@pytest.mark.parametrize("n", [0, 1, 4])
def test_below_five_members_and_without_a_share_there_is_none(n):
    assert all(math.isnan(end) for end in exact_interval(1.0, n))
    assert all(math.isnan(end) for end in exact_interval(math.nan, 9))


@pytest.mark.parametrize("n", [5, 7, 9])
@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9, 0.98, 0.99])
def test_it_covers_the_share_of_members_that_differ(n, truth):
    """Members' own rates from beta distributions, from all or nothing to all alike; 4 prompts each."""
    rng = np.random.default_rng(0)
    for concentration in (0.05, 1.0, 20.0):
        rates = rng.beta(truth * concentration, (1 - truth) * concentration, size=(400, n))
        shares = rng.binomial(4, rates).mean(axis=1) / 4
        known = {share: exact_interval(share, n) for share in np.unique(shares)}
        covered = [known[share][0] <= truth <= known[share][1] for share in shares]
        assert np.mean(covered) >= 0.93
