"""Evidence: the jackknife over members by hand, and what parallel analysis makes of planted and of no structure."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.decomposition import PCA

from geometry.similarity.of_families import context_products, matched_cosine
from geometry.stats.uncertainty import (
    adjusted,
    explained_variance_null,
    jackknife,
    share_error,
    share_interval,
    template_bootstrap_se,
)
from tests.geometry.simulate import families


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32))


def mean(rows):
    return rows.double().mean(dim=0).numpy()


def top_ratios(rows, k=2):
    return PCA(k, svd_solver="full").fit(rows.double().numpy()).explained_variance_ratio_


def jackknife_se(x, members, statistic):
    """The jackknife of a statistic of rows: all rows of a member are left out together."""
    labels = list(dict.fromkeys(members))
    codes = np.array([labels.index(member) for member in members])
    return jackknife(np.stack([statistic(x[torch.from_numpy(codes != i)]) for i in range(len(labels))]))


@given(st.integers(5, 40), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_standard_error_of_a_mean_is_the_textbooks(n_members, seed):
    x = normal(n_members, 3, seed=seed)
    by_hand = x.double().numpy().std(axis=0, ddof=1) / np.sqrt(n_members)
    np.testing.assert_allclose(jackknife_se(x, range(n_members), mean), by_hand, rtol=1e-9)


def test_a_members_rows_are_left_out_together():
    x = normal(40, 3)
    members = np.random.default_rng(1).integers(0, 7, size=40)
    left = np.stack([mean(x[members != member]) for member in range(7)])
    by_hand = np.sqrt(6 / 7 * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(jackknife_se(x, members.tolist(), mean), by_hand, rtol=1e-9)


@pytest.mark.parametrize("statistic", [mean, top_ratios])
def test_repeating_every_row_of_every_member_does_not_shrink_the_standard_error(statistic):
    x, members = normal(40, 6), list(range(40))
    once = jackknife_se(x, members, statistic)
    np.testing.assert_allclose(jackknife_se(x.repeat(4, 1), members * 4, statistic), once, rtol=1e-6)
    as_if_independent = jackknife_se(x.repeat(4, 1), range(160), statistic)
    assert (as_if_independent < 0.6 * once).all()


def test_neither_the_members_names_nor_the_order_of_rows_matter():
    x, members = normal(30, 4), [i % 6 for i in range(30)]
    order = np.random.default_rng(2).permutation(30)
    names = ["a", None, 3.5, ("b", 1), -2, frozenset()]
    renamed = [names[members[i]] for i in order]
    np.testing.assert_allclose(
        jackknife_se(x[torch.from_numpy(order)], renamed, top_ratios), jackknife_se(x, members, top_ratios), rtol=1e-6
    )


def test_below_five_members_there_is_no_standard_error_however_many_rows():
    x = normal(60, 4)
    for n_members in (2, 4):
        assert np.isnan(jackknife_se(x, [i % n_members for i in range(60)], top_ratios)).all()
    assert np.isfinite(jackknife_se(x, [i % 5 for i in range(60)], top_ratios)).all()


def test_a_statistic_that_no_member_changes_has_no_error():
    assert jackknife_se(normal(6, 2).repeat(2, 1), [*range(6)] * 2, lambda rows: np.array([3.0])) == [0.0]


def test_the_standard_error_is_as_wide_as_means_of_new_members_scatter():
    """Members with three rows each and a spread of their own: what the rows' scatter alone would not show."""
    means, errors = [], []
    for seed in range(200):
        own = normal(8, 1, seed=seed) * 2
        x = own.repeat_interleave(3, dim=0) + 0.1 * normal(24, 1, seed=seed)
        means.append(mean(x))
        errors.append(jackknife_se(x, np.repeat(np.arange(8), 3).tolist(), mean))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.15)


@pytest.mark.parametrize(("n_rows", "d"), [(60, 8), (12, 20)])
def test_independent_columns_look_like_their_null(n_rows, d):
    """The observed share's rank among 19 permuted ones is even over the 20 places."""
    ranks = []
    for seed in range(60):
        x = normal(n_rows, d, seed=seed) * torch.linspace(1, 3, d)
        null = explained_variance_null(x, k=1, n_permutations=19, seed=seed)
        ranks.append(int((null[:, 0] < top_ratios(x, 1)[0]).sum()))
    assert ranks.count(19) <= 8  # 3 expected; more than 8 has p = .003
    assert 6.5 < np.mean(ranks) < 12.5  # 9.5 expected, standard error .74


@pytest.mark.parametrize(("n_rows", "d"), [(60, 8), (12, 20)])
def test_planted_structure_is_far_above_its_null(n_rows, d):
    for seed in range(5):
        x = normal(n_rows, d, seed=seed) + 3 * normal(n_rows, 1, seed=seed) @ normal(1, d, seed=seed).sign()
        null = explained_variance_null(x, k=2, n_permutations=20, seed=0)
        assert top_ratios(x)[0] > 1.5 * null[:, 0].max()


def test_only_the_pairing_of_columns_is_broken(monkeypatch):
    x = normal(30, 6) * torch.arange(1.0, 7) + 100
    seen = []

    def watch(scatter, k):
        seen.append(scatter.copy())
        return np.ones(k)

    monkeypatch.setattr("geometry.stats.uncertainty.leading_shares", watch)
    explained_variance_null(x, k=2, n_permutations=4, seed=0)
    variances = np.square(x.double().numpy() - mean(x)).sum(axis=0)
    for scatter in seen:
        np.testing.assert_allclose(scatter.diagonal(), variances, rtol=1e-12)
        scales = np.sqrt(np.outer(variances, variances))
        assert np.abs(scatter / scales - np.corrcoef(x.numpy().T)).max() > 0.1
    assert len({scatter.tobytes() for scatter in seen}) == 4


def test_columns_of_unlike_variance_keep_their_shares_in_the_null():
    """The Schur-Horn theorem: the largest shares are at least those of the columns with the largest variance."""
    x = normal(300, 5) * torch.tensor([1.0, 2, 4, 8, 16])
    shares = np.sort(x.double().numpy().var(axis=0))[::-1] / x.double().numpy().var(axis=0).sum()
    null = explained_variance_null(x, k=5, n_permutations=10, seed=0)
    assert (null.cumsum(axis=1) >= shares.cumsum() - 1e-9).all()
    np.testing.assert_allclose(null.sum(axis=1), 1)
    np.testing.assert_allclose(null.mean(axis=0), shares, atol=0.01)


def test_the_null_has_a_row_a_permutation_with_falling_shares():
    null = explained_variance_null(normal(10, 30), k=4, n_permutations=7, seed=0)
    assert null.shape == (7, 4)
    assert (np.diff(null, axis=1) <= 0).all()
    assert ((null > 0) & (null < 1)).all()


def test_the_same_seed_gives_the_same_null_and_another_seed_another():
    one, again, other = (explained_variance_null(normal(10, 30), k=2, n_permutations=5, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.isclose(one, other).any()


def test_the_rows_given_are_left_as_they_were():
    x = normal(10, 4)
    before = x.clone()
    explained_variance_null(x, k=1, n_permutations=2, seed=0)
    assert torch.equal(x, before)


def left_out_cosines(x, y):
    n_members = x.shape[1]
    rest = [[j for j in range(n_members) if j != i] for i in range(n_members)]
    return np.array([matched_cosine(x[:, kept], y[:, kept]) for kept in rest])


def test_the_jackknife_of_values_left_out_is_that_of_rows_left_out():
    x = normal(9, 3)
    left_out = np.stack([mean(x[[j for j in range(9) if j != i]]) for i in range(9)])
    np.testing.assert_allclose(jackknife(left_out), jackknife_se(x, range(9), mean), rtol=1e-9)
    assert jackknife(left_out[:, 0]) == pytest.approx(jackknife(left_out)[0])
    assert np.isnan(jackknife(left_out[:4])).all()
    assert jackknife(left_out[:4]).shape == (3,)
    assert np.isfinite(jackknife(left_out[:5])).all()
    left_out[2, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(jackknife(left_out)), [False, True, False])


def test_a_share_of_1_has_an_exact_limit_and_no_error():
    assert share_interval(1.0, 0.0, 7) == pytest.approx((0.5904, 1), abs=5e-5)
    assert share_interval(0.0, float("nan"), 7) == pytest.approx((0, 0.4096), abs=5e-5)
    assert np.isnan([share_error(share, 0.0) for share in (0.0, 1.0)]).all()
    assert share_error(0.5, 0.1) == 0.1
    assert np.isnan(share_interval(1.0, 0.0, 4)).all()
    assert np.isnan(share_interval(float("nan"), float("nan"), 9)).all()


def test_a_shares_interval_is_the_wider_of_the_exact_one_and_students_at_each_end():
    """4 of 8: exact .157 to .843; t of 7 degrees of freedom is 2.365."""
    assert share_interval(0.5, 0.01, 8) == pytest.approx((0.157, 0.843), abs=5e-4)
    assert share_interval(0.5, 0.2, 8) == pytest.approx((0.5 - 0.473, 0.5 + 0.473), abs=5e-4)
    assert share_interval(0.75, 0.2, 8) == pytest.approx((0.75 - 0.473, 1.0), abs=5e-4)


def two_ended(rng, truth, spread, n, draws):
    """Success of edits (i, j), 4 prompts each, whose log odds hold an effect of i and one of j; and its two numbers."""
    ends = np.array([(i, j) for i in range(n) for j in range(n) if i != j])
    scale = np.random.default_rng(1).normal(size=40_000) * spread * 2**0.5
    at = brentq(lambda level: expit(level + scale).mean() - truth, -99, 99)
    effects = rng.normal(size=(draws, n)) * spread
    hits = rng.binomial(4, expit(at + effects[:, ends].sum(axis=2))) / 4
    without = np.stack([hits[:, (ends != m).all(axis=1)].mean(axis=1) for m in range(n)])
    return hits.mean(axis=1), [float(jackknife(one)) for one in without.T]


@pytest.mark.parametrize("n", [5, 7, 9])
@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9, 0.99])
def test_a_shares_interval_covers_where_edits_depend_on_both_of_their_members(n, truth):
    for spread in (0.0, 1.0, 2.0):
        found = zip(*two_ended(np.random.default_rng(n), truth, spread, n, 200), strict=True)
        ends = [share_interval(float(share), se, n) for share, se in found]
        assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 7, 9])
@pytest.mark.parametrize("truth", [0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99])
def test_a_shares_interval_covers_whatever_the_spread_of_members(n, truth):
    """Log odds with effects of up to 4 at each end; 2,000 draws."""
    for spread in (0.0, 1.0, 2.0, 3.0, 4.0):
        found = zip(*two_ended(np.random.default_rng(n), truth, spread, n, 2_000), strict=True)
        ends = [share_interval(float(share), se, n) for share, se in found]
        assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93


@pytest.mark.parametrize("n_contexts", [8, 16])
def test_the_template_bootstrap_is_about_as_wide_as_fresh_templates_scatter(n_contexts):
    """Noise three times the size of the code in each cell; a fifth too wide at worst."""
    code = families(cosine=0.6, n_contexts=n_contexts, noise=0.0, d=32)
    values, errors = [], []
    for seed in range(100):
        x, y = code + normal(*code.shape, seed=seed) * (3 / 32) ** 0.5
        values.append(matched_cosine(x, y))
        products = context_products(x, y), context_products(x, x), context_products(y, y)
        errors.append(template_bootstrap_se(*products, seed=seed))
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(values)
    assert 0.8 < ratio < 1.5


def test_the_template_bootstrap_never_compares_a_context_with_its_copy():
    """By hand, draw by draw: pairs of draws of different contexts, each counted as often as it was drawn."""
    x, y = families(cosine=0.6, n_contexts=6, noise=1.0)
    cross, own_x, own_y = context_products(x, y), context_products(x, x), context_products(y, y)
    rng, values = np.random.default_rng(4), []
    for weights in rng.multinomial(6, np.full(6, 1 / 6), size=30):
        drawn = np.repeat(np.arange(6), weights)
        sums = [sum(m[s, t] for s in drawn for t in drawn if s != t) for m in (cross, own_x, own_y)]
        values.append(sums[0] / np.sqrt(sums[1] * sums[2]))
    found = template_bootstrap_se(cross, own_x, own_y, n_draws=30, seed=4)
    assert found == pytest.approx(np.std(values, ddof=1))
    for own in (cross, own_x, own_y):
        np.fill_diagonal(own, 1e9)
    assert template_bootstrap_se(cross, own_x, own_y, n_draws=30, seed=4) == pytest.approx(found)


def test_without_enough_templates_or_a_code_that_recurs_there_is_no_bootstrap():
    few = families(n_contexts=4)
    assert np.isnan(template_bootstrap_se(*(context_products(*pair) for pair in ((few[0], few[1]),) * 3)))
    matrix = np.ones((6, 6))
    assert np.isnan(template_bootstrap_se(matrix, -matrix, matrix))
    assert template_bootstrap_se(matrix, matrix, matrix) == 0


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg_by_hand():
    """Sorted .005 .01 .03 .04 of 4: times 4/1, 4/2, 4/3, 4/4 is .02 .02 .04 .04."""
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    with_gap = adjusted([0.01, float("nan"), 0.04, 0.03, 0.005])
    assert with_gap[0] == pytest.approx(0.02)  # of 4 tests, not of 5
    assert np.isnan(with_gap[1])
    assert adjusted([0.9, 0.95]) == pytest.approx([0.95, 0.95])
    assert adjusted([0.3]) == [0.3]
    assert adjusted([]) == []
    assert np.isnan(adjusted([float("nan")])).all()
