"""SVD and PCA: scikit-learn's answers, the laws they obey, and planted subspaces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA, TruncatedSVD

from cache.errors import InputError, NumbersError
from geometry.bases.principal import pca, pca_of_moments, subspace_overlap, svd, svd_of_moments
from geometry.stats.moments import moments

SHAPES = [(200, 5), (40, 12), (13, 12), (12, 12), (12, 13), (9, 40), (3, 200), (2, 1)]

cases = st.tuples(st.integers(3, 25), st.integers(2, 25), st.integers(0, 1000))


def sample(n_rows, d, seed=0):
    """Rows with falling variances, so that components are far apart, around a mean that is not zero."""
    rng = np.random.default_rng([seed, n_rows, d])
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return torch.from_numpy((rng.normal(size=(n_rows, d)) * 0.8 ** np.arange(d) @ rotation + 3).astype(np.float32))


def rotation_of(d, seed=0):
    return torch.from_numpy(np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0].astype(np.float32))


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_pca_is_scikit_learns_signs_included(n_rows, d):
    x = sample(n_rows, d)
    k = min(n_rows - 1, d)
    ours, theirs = pca(x, k=k), PCA(k, svd_solver="full").fit(x.double().numpy())
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(ours.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(ours.directions, theirs.components_, atol=1e-6)
    np.testing.assert_allclose(ours.scores(x), theirs.transform(x.double().numpy()), atol=1e-5)


@given(cases)
@settings(deadline=None, max_examples=60)
def test_directions_are_orthonormal_with_their_largest_entry_positive(case):
    n_rows, d, seed = case
    directions = pca(sample(n_rows, d, seed), k=min(n_rows - 1, d)).directions
    torch.testing.assert_close(directions @ directions.T, torch.eye(len(directions)), atol=1e-5, rtol=0)
    assert (directions.max(dim=1).values >= -directions.min(dim=1).values).all()


@given(cases)
@settings(deadline=None, max_examples=60)
def test_ratios_fall_are_never_negative_and_add_up_to_one_over_all_components(case):
    n_rows, d, seed = case
    complete = min(n_rows - 1, d)
    every = pca(sample(n_rows, d, seed), k=complete).explained_variance_ratio
    assert (np.diff(every) <= 0).all()
    assert (every >= 0).all()
    assert every.sum() == pytest.approx(1)
    few = pca(sample(n_rows, d, seed), k=max(complete - 1, 1)).explained_variance_ratio
    np.testing.assert_array_equal(few, every[: len(few)])


@given(cases)
@settings(deadline=None, max_examples=60)
def test_all_components_together_reproduce_every_row(case):
    n_rows, d, seed = case
    x = sample(n_rows, d, seed)
    result = pca(x, k=min(n_rows - 1, d))
    torch.testing.assert_close(result.mean + result.scores(x) @ result.directions, x, atol=1e-4, rtol=1e-5)


@given(cases, st.floats(-100, 100, width=32))
@settings(deadline=None, max_examples=40)
def test_moving_every_row_alike_moves_the_mean_alone(case, shift):
    n_rows, d, seed = case
    x = sample(n_rows, d, seed)
    one, other = pca(x, k=2), pca(x + shift, k=2)
    np.testing.assert_allclose(other.explained_variance, one.explained_variance, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(other.mean, one.mean + shift, atol=1e-4, rtol=1e-5)


@given(cases)
@settings(deadline=None, max_examples=40)
def test_a_rotation_turns_the_directions_and_leaves_the_spectrum(case):
    n_rows, d, seed = case
    x, rotation = sample(n_rows, d, seed), rotation_of(d, seed)
    one, other = pca(x, k=1), pca(x @ rotation, k=1)
    np.testing.assert_allclose(spectrum_of(x @ rotation), spectrum_of(x), rtol=1e-3, atol=1e-5)
    gap = 1 - spectrum_of(x)[1] / spectrum_of(x)[0]
    assert ((one.directions @ rotation) * other.directions).sum().abs() > 1 - 1e-4 / gap


def spectrum_of(x):
    return pca(x, k=1).spectrum


def test_scores_are_uncorrelated_and_have_the_explained_variances():
    x = sample(60, 20)
    result = pca(x, k=6)
    np.testing.assert_allclose(np.cov(result.scores(x).T), np.diag(result.explained_variance), atol=1e-4)


def test_rows_that_were_not_fitted_are_scored_around_the_fitted_mean():
    result, unseen = pca(sample(60, 20), k=3), sample(7, 20, seed=1) * 2
    by_hand = (unseen.numpy() - result.mean.numpy()) @ result.directions.numpy().T
    np.testing.assert_allclose(result.scores(unseen), by_hand, atol=1e-4)


@pytest.mark.parametrize("n_rows", [20, 400])
def test_a_planted_subspace_is_found_in_noise(n_rows):
    rng = np.random.default_rng(3)
    planted = np.linalg.qr(rng.normal(size=(50, 3)))[0]
    signal = rng.normal(size=(n_rows, 3)) * 20 @ planted.T
    result = pca(torch.from_numpy((signal + 0.1 * rng.normal(size=(n_rows, 50))).astype(np.float32)), k=4)
    cosines = np.linalg.svd(result.directions[:3].numpy() @ planted, compute_uv=False)
    assert cosines.min() > 0.999
    assert result.explained_variance_ratio[:3].sum() > 0.999
    assert result.explained_variance_ratio[3] < 0.001


def test_a_subspace_of_lower_rank_leaves_the_other_components_no_variance_and_still_unit_length():
    for n_rows in (10, 60):
        rng = np.random.default_rng(0)
        x = torch.from_numpy((rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, 30))).astype(np.float32))
        result = pca(x, k=5)
        assert result.explained_variance_ratio[:2].sum() == pytest.approx(1)
        assert (result.explained_variance_ratio[2:] < 1e-12).all()
        assert (spectrum_of(x) >= 0).all()
        torch.testing.assert_close(result.directions @ result.directions.T, torch.eye(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n_rows", "d"), [(9, 40), (60, 12)])
def test_repeating_every_row_changes_no_ratio_and_no_direction(n_rows, d):
    x = sample(n_rows, d)
    one, three = pca(x, k=4), pca(x.repeat(3, 1), k=4)
    np.testing.assert_allclose(three.explained_variance_ratio, one.explained_variance_ratio, rtol=1e-6)
    np.testing.assert_allclose(
        three.explained_variance * (3 * n_rows - 1), one.explained_variance * 3 * (n_rows - 1), rtol=1e-6
    )
    torch.testing.assert_close(three.directions, one.directions, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n_rows", "d"), [(9, 40), (60, 12)])
def test_constant_columns_take_no_part(n_rows, d):
    x = sample(n_rows, d)
    wider = torch.cat([x, torch.full((n_rows, 5), -777.7)], dim=1)
    one, other = pca(x, k=4), pca(wider, k=4)
    np.testing.assert_allclose(other.explained_variance_ratio, one.explained_variance_ratio, rtol=1e-9)
    torch.testing.assert_close(other.directions[:, :d], one.directions, atol=1e-6, rtol=0)
    assert other.directions[:, d:].abs().max() < 1e-6


@pytest.mark.parametrize(("n_rows", "d"), [(15, 40), (80, 12)])
def test_a_mean_of_ten_thousand_times_the_spread_costs_no_digits(n_rows, d):
    x = sample(n_rows, d) + 1e4
    ours, theirs = pca(x, k=6), PCA(6, svd_solver="full").fit(x.double().numpy())
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_, rtol=1e-7)
    np.testing.assert_allclose(ours.directions, theirs.components_, atol=1e-5)


def test_the_spectrum_is_that_of_the_covariance_from_either_side():
    for n_rows, d in SHAPES:
        x = sample(n_rows, d).double()
        truth = np.linalg.eigvalsh(np.cov(x.numpy().T).reshape(d, d))[::-1][: min(n_rows - 1, d)]
        np.testing.assert_allclose(spectrum_of(x), truth, atol=1e-9)


@pytest.mark.parametrize(
    ("n_rows", "d", "k", "message"),
    [
        (5, 40, 5, "5 rows of width 40 have at most 4 components; got k = 5"),
        (40, 5, 6, "40 rows of width 5 have at most 5 components; got k = 6"),
        (40, 5, 0, "40 rows of width 5 have at most 5 components; got k = 0"),
        (1, 5, 1, "1 rows of width 5 have at most 0 components; got k = 1"),
    ],
)
def test_components_that_are_not_there_are_refused(n_rows, d, k, message):
    with pytest.raises(InputError, match=message):
        pca(sample(n_rows, d), k=k)


@pytest.mark.parametrize(("n_rows", "d"), [(7, 70), (7, 3), (49, 5)])
def test_equal_rows_are_refused(n_rows, d):
    with pytest.raises(InputError, match="all rows are equal; there is no variance to decompose"):
        pca(sample(2, d)[:1].repeat(n_rows, 1), k=1)


@pytest.mark.parametrize("fit", [pca, svd])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_in_a_sentence(fit, value):
    x = sample(20, 5)
    x[3, 2] = value
    with pytest.raises(NumbersError, match="x: not all finite; ") as caught:
        fit(x, k=2)
    assert caught.value.exit_code == 8


def test_float64_rows_are_scored_as_float32_ones_are():
    x = sample(20, 5)
    torch.testing.assert_close(pca(x, k=2).scores(x.double()).float(), pca(x, k=2).scores(x))


def pairs_of(x):
    """Each fit, the same fit from moments, and the reference's values and directions."""
    n_rows, wide = len(x), x.double().numpy()
    k = min(n_rows - 1, x.shape[1])
    full = PCA(k, svd_solver="full").fit(wide)
    singular, right = np.linalg.svd(wide, full_matrices=False)[1:]
    yield pca(x, k=k), pca_of_moments(moments([x.double()]), k=k), full.explained_variance_, full.components_
    yield svd(x, k=k), svd_of_moments(moments([x.double()]), k=k), singular[:k] ** 2 / n_rows, right[:k]


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_rows_and_their_moments_give_the_same_components_as_the_references(n_rows, d):
    for of_rows, of_moments, values, directions in pairs_of(sample(n_rows, d)):
        for found in (of_rows, of_moments):
            np.testing.assert_allclose(found.explained_variance, values, rtol=1e-7, atol=1e-12)
            cosines = np.abs((found.directions.numpy() * directions).sum(axis=1))
            np.testing.assert_allclose(cosines, 1, atol=1e-5)
            assert found.n_rows == n_rows
        torch.testing.assert_close(of_moments.directions, of_rows.directions, atol=1e-5, rtol=0)
        torch.testing.assert_close(of_moments.mean, of_rows.mean)
        assert of_moments.spectrum.shape == of_rows.spectrum.shape
        np.testing.assert_allclose(of_moments.spectrum, of_rows.spectrum, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(of_moments.reconstruction_error, of_rows.reconstruction_error, atol=1e-9)


def test_float32_blocks_give_the_components_to_six_digits():
    x = sample(300, 12)
    blocks = torch.split(x, [1, 0, 99, 150, 50])
    for one, other in (
        (pca_of_moments(moments(blocks), k=5), pca(x, k=5)),
        (svd_of_moments(moments(blocks), k=5), svd(x, k=5)),
    ):
        np.testing.assert_allclose(one.explained_variance, other.explained_variance, rtol=2e-6)
        torch.testing.assert_close(one.directions, other.directions, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n_rows", "d"), [(200, 15), (12, 40)])
def test_svd_is_scikit_learns_truncated_svd_up_to_its_sign_rule(n_rows, d):
    x = sample(n_rows, d)
    theirs = TruncatedSVD(4, algorithm="arpack").fit(x.double().numpy())
    ours = svd(x, k=4)
    np.testing.assert_allclose(np.sqrt(ours.explained_variance * n_rows), theirs.singular_values_, rtol=1e-9)
    cosines = (ours.directions.numpy() * theirs.components_).sum(axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-6)
    assert (ours.directions.max(dim=1).values >= -ours.directions.min(dim=1).values).all()
    np.testing.assert_allclose(ours.scores(x).abs(), np.abs(theirs.transform(x.double().numpy())), atol=1e-4)


def test_the_first_component_of_rows_that_are_not_centred_is_mostly_their_mean():
    x = sample(60, 20) + 50
    result = svd(x, k=3)
    mean = x.mean(dim=0)
    assert (result.directions[0] @ mean / mean.norm()).item() > 0.9999
    assert result.explained_variance_ratio[0] > 0.99
    assert not result.mean.any()
    assert not pca(x, k=3).mean.eq(0).any()


@pytest.mark.parametrize("fit", [pca, svd])
@pytest.mark.parametrize(("n_rows", "d", "k"), [(60, 12, 1), (60, 12, 5), (60, 12, 12), (9, 40, 3)])
def test_the_reconstruction_error_is_the_one_measured(fit, n_rows, d, k):
    x = sample(n_rows, d)
    result = fit(x, k=k)
    rebuilt = result.basis.decode(result.basis.encode(x.double()))
    total = (x.double() - (x.double().mean(dim=0) if fit is pca else 0)).square().sum()
    measured = float((x.double() - rebuilt).square().sum() / total)
    assert result.reconstruction_error == pytest.approx(measured, rel=1e-5, abs=1e-10)


@pytest.mark.parametrize(("n_rows", "d"), [(9, 40), (60, 12)])
def test_the_spectrum_has_every_component_and_adds_up_to_the_total(n_rows, d):
    x = sample(n_rows, d)
    wide = x.double().numpy()
    centred, whole = pca(x, k=2), svd(x, k=2)
    assert (len(centred.spectrum), len(whole.spectrum)) == (min(n_rows - 1, d), min(n_rows, d))
    assert centred.spectrum.sum() == pytest.approx(wide.var(axis=0, ddof=1).sum())
    assert whole.spectrum.sum() == pytest.approx((wide**2).sum() / n_rows)


@pytest.mark.parametrize(("n_rows", "d"), [(9, 40), (60, 12)])
@pytest.mark.parametrize("fit", [pca, svd])
def test_duplicate_columns_share_each_direction(fit, n_rows, d):
    x = sample(n_rows, d)
    one, twice = fit(x, k=3), fit(torch.cat([x, x], dim=1), k=3)
    np.testing.assert_allclose(twice.explained_variance, 2 * one.explained_variance, rtol=1e-9)
    half = one.directions / 2**0.5
    torch.testing.assert_close(twice.directions, torch.cat([half, half], dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("fit", "n_rows", "d", "k", "most"),
    [(svd, 5, 40, 6, 5), (svd, 40, 5, 6, 5), (svd, 5, 5, 0, 5)],
)
def test_singular_vectors_that_are_not_there_are_refused(fit, n_rows, d, k, most):
    message = f"{n_rows} rows of width {d} have at most {most} components; got k = {k}"
    with pytest.raises(InputError, match=message):
        fit(sample(n_rows, d), k=k)
    with pytest.raises(InputError, match=message):
        svd_of_moments(moments([sample(n_rows, d)]), k=k)


def test_moments_with_nothing_in_them_are_refused_as_rows_are():
    with pytest.raises(InputError, match="5 rows of width 40 have at most 4 components; got k = 5"):
        pca_of_moments(moments([sample(5, 40)]), k=5)
    with pytest.raises(InputError, match=r"^all rows are equal; there is no variance to decompose$"):
        pca_of_moments(moments([sample(2, 6)[:1].repeat(7, 1)] * 3), k=1)
    for refused in (lambda: svd(torch.zeros(5, 3), k=1), lambda: svd_of_moments(moments([torch.zeros(5, 3)]), k=1)):
        with pytest.raises(InputError, match=r"^all activations are 0; there is nothing to decompose$"):
            refused()
    assert svd(torch.ones(5, 3), k=1).explained_variance_ratio[0] == pytest.approx(1)


def test_overlap_is_the_mean_squared_cosine_of_principal_angles():
    a, b = rotation_of(12, 1)[:4], rotation_of(12, 2)[:4]
    found = subspace_overlap(a, b)
    for j in range(1, 5):
        cosines = np.linalg.svd(a[:j].double().numpy() @ b[:j].double().numpy().T, compute_uv=False)
        assert found[j - 1] == pytest.approx((cosines**2).mean())
    np.testing.assert_allclose(subspace_overlap(a, a), 1, atol=1e-6)
    np.testing.assert_allclose(subspace_overlap(a, rotation_of(12, 1)[4:8]), 0, atol=1e-6)


def test_a_notebook_shows_the_shares_and_what_to_do_next():
    shown = pca(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), k=1)._repr_html_()
    assert "<b>a decomposition of 4 rows, 2 wide</b></p><p>components: 1<br>left out: " in shown
    assert "<td>0</td><td>1</td>" in shown
    assert "<code>found.scores(x)</code>" in shown
