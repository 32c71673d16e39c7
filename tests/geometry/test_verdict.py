"""The verdict: a word for every case, and the right one for families of which the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from geometry.evidence import interval, jackknife
from geometry.index_sharing import lag_profile, matched_cosine, member_products
from geometry.permutations import member_permutations, own_index_p, permutation_p, permuted_traces
from geometry.verdict import Evidence, verdict
from tests.geometry.simulate import families, windows

NAN = float("nan")

SHARED = Evidence(
    value=0.8,
    ci_low=0.5,
    ci_high=1.1,
    p=0.001,
    own_p=0.005,
    control_limit=0.3,
    n_controls=20,
    n_members=9,
    peak_lag=0,
)
PRIVATE = replace(SHARED, value=0.02, ci_low=-0.1, ci_high=0.14, p=0.4)


def test_the_two_clear_cases():
    assert verdict(SHARED) == "shared"
    assert verdict(PRIVATE) == "private"


@pytest.mark.parametrize(
    ("found", "changes", "word"),
    [
        (SHARED, {"value": NAN}, "no index effect"),
        (SHARED, {"own_p": 0.051}, "no index effect"),
        (SHARED, {"own_p": NAN}, "no index effect"),
        (PRIVATE, {"own_p": 0.2}, "no index effect"),
        (SHARED, {"own_p": 0.05}, "shared"),
        (SHARED, {"n_members": 4}, "undecided (n members = 4)"),
        (PRIVATE, {"n_members": 4}, "undecided (n members = 4)"),
        (SHARED, {"n_members": 5}, "shared"),
        (SHARED, {"n_controls": 18}, "undecided (n controls = 18)"),
        (PRIVATE, {"n_controls": 0, "control_limit": NAN}, "undecided (n controls = 0)"),
        (SHARED, {"n_controls": 19}, "shared"),
        (SHARED, {"control_limit": 0.8}, "undecided (within the controls)"),
        (SHARED, {"control_limit": 0.79}, "shared"),
        (SHARED, {"control_limit": NAN}, "undecided (within the controls)"),
        (PRIVATE, {"ci_high": 0.25}, "undecided (within the controls)"),
        (PRIVATE, {"ci_high": 0.249}, "private"),
        (PRIVATE, {"ci_low": NAN, "ci_high": NAN}, "undecided (within the controls)"),
        (SHARED, {"p": 0.051}, "undecided (p = 0.051)"),
        (SHARED, {"p": 1 / 3}, "undecided (p = 0.33)"),
        (SHARED, {"p": NAN}, "undecided (p = nan)"),
        (SHARED, {"p": 0.05}, "shared"),
        (SHARED, {"peak_lag": 1}, "undecided (best at lag +1)"),
        (SHARED, {"peak_lag": -3}, "undecided (best at lag -3)"),
        (SHARED, {"ci_low": 0.0}, "undecided (interval reaches 0)"),
        (SHARED, {"ci_low": -0.2}, "undecided (interval reaches 0)"),
        (SHARED, {"ci_low": NAN, "ci_high": NAN, "n_members": 6}, "shared"),
        (PRIVATE, {"control_limit": -0.1}, "undecided (p = 0.4)"),
        (PRIVATE, {"control_limit": -0.1, "p": 0.01}, "undecided (interval reaches 0)"),
    ],
)
def test_each_reason_has_its_word(found, changes, word):
    assert verdict(replace(found, **changes)) == word


def test_too_few_members_come_before_too_few_controls_and_no_index_effect_before_both():
    few = replace(SHARED, n_members=3, n_controls=2)
    assert verdict(few) == "undecided (n members = 3)"
    assert verdict(replace(few, value=NAN)) == "no index effect"


def evidence_of(x, y, controls):
    """What a comparison of one layer gathers, from the package's own parts."""
    n_members = x.shape[1]
    value, profile = matched_cosine(x, y), lag_profile(x, y)
    rest = [[j for j in range(n_members) if j != i] for i in range(n_members)]
    se = float(jackknife(np.array([matched_cosine(x[:, kept], y[:, kept]) for kept in rest])))
    low, high = interval(value, se, n_members)
    return Evidence(
        value=value,
        ci_low=low,
        ci_high=high,
        p=permutation_p(permuted_traces(member_products(x, y), member_permutations(n_members, most=1000))),
        own_p=max(own_index_p(z, n_draws=100) for z in (x, y)),
        control_limit=max((matched_cosine(*pair) for c in controls for pair in ((x, c), (c, y))), default=NAN),
        n_controls=len(controls),
        n_members=n_members,
        peak_lag=int(np.nanargmax(profile)) - 3 if np.isfinite(profile).any() else 0,
    )


@pytest.mark.parametrize(("d", "most"), [(64, 0), (24, 2)])
def test_unrelated_members_under_overlapping_windows_are_hardly_ever_called_shared(d, most):
    """Neighbours resemble each other in every family, and the permutation p alone is fooled more than 1 time in 10.

    A pair like the controls' own is above all of theirs less than once in 20 times: 5 of 120 were measured.
    """
    every = []
    for seed in range(30):
        x, y, *controls = windows(22, n_contexts=4, d=d, seed=seed).double()
        every.append(evidence_of(x, y, controls))
    words = [verdict(found) for found in every]
    assert words.count("shared") <= most
    assert words.count("private") > 20
    assert all(found.own_p <= 0.05 for found in every)
    assert np.mean([found.p <= 0.05 for found in every]) > 0.1


@pytest.mark.parametrize(("cosine", "word"), [(1.0, "shared"), (0.7, "shared"), (0.0, "private")])
def test_a_planted_code_gets_its_word(cosine, word):
    """Controls are ordered families with codes of their own."""
    for seed in range(4):
        x, y = families(cosine=cosine, n_contexts=4, d=128, seed=seed)
        controls = [families(n_families=1, n_contexts=4, d=128, seed=100 * seed + 50 + i)[0] for i in range(20)]
        assert verdict(evidence_of(x, y, controls)) == word


def test_families_without_an_index_effect_have_none():
    words = []
    for seed in range(10):
        x, y = families(index=0.0, n_contexts=4, seed=seed)
        words.append(verdict(evidence_of(x, y, [])))
    assert words.count("no index effect") >= 9
