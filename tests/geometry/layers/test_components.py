"""Components of rows in blocks: against scikit-learn and brute force, with rows above and below their width."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from cache.errors import InputError, NumbersError
from geometry.bases.principal import pca_of_moments, svd_of_moments
from geometry.layers import components as module
from geometry.layers.components import N_PERMUTATIONS, N_SPLITS, components
from geometry.stats.uncertainty import explained_variance_null

SHAPES = [(24, 40), (40, 40), (90, 40)]
"""Rows held in memory, as many as dimensions, and rows that are streamed."""


def rows_of(n_rows, d=40, *, mean=3.0, spread=1.0, seed=0):
    """Rows whose variance falls from dimension to dimension of a random frame, so that no two components tie."""
    rng = np.random.default_rng([seed, n_rows, d])
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0]
    x = rng.normal(size=(n_rows, d)) * 0.8 ** np.arange(d) @ frame
    return torch.from_numpy((mean + spread * x).astype(np.float32))


def found_in(x, *, fit=pca_of_moments, units=None, k=3, seed=0, size=7):
    units = np.arange(len(x)) % 8 if units is None else units
    arrays = components(partial(pieces, x, size), units, fit, k=k, seed=seed)
    return {name: values for name, (_, values) in arrays.items()}


def pieces(x, size):
    return iter(torch.split(x, size))


def shares(x, k, *, centre=True):
    """By numpy's singular values; 0 beyond them, as where fewer rows are left."""
    x = x.double().numpy()
    values = np.linalg.svd(x - x.mean(axis=0) * centre, compute_uv=False) ** 2
    return np.pad(values, (0, k))[:k] / values.sum()


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_held_and_streamed_rows_are_both_scikit_learns_pca(n_rows, d):
    x = rows_of(n_rows, d)
    found, truth = found_in(x, k=4), PCA(svd_solver="full").fit(x.double().numpy())
    np.testing.assert_allclose(found["explained_variance"], truth.explained_variance_[:4], rtol=1e-5)
    np.testing.assert_allclose(found["explained_variance_ratio"], truth.explained_variance_ratio_[:4], rtol=1e-5)
    assert found["spectrum"].shape == (min(n_rows, d),)
    kept = len(truth.explained_variance_)
    np.testing.assert_allclose(found["spectrum"][:kept], truth.explained_variance_, atol=1e-6)
    np.testing.assert_allclose(found["directions"], truth.components_[:4], atol=2e-4)
    np.testing.assert_allclose(found["mean"], truth.mean_, atol=1e-5)
    np.testing.assert_allclose(found["scores"], truth.transform(x.double().numpy())[:, :4], atol=2e-3)


def test_the_two_ways_give_the_same_of_the_same_rows():
    """Columns of zeros make rows fewer than dimensions and change nothing else."""
    x = rows_of(30, 20)
    wide = torch.cat([x, torch.zeros(30, 20)], dim=1)
    streamed, held = found_in(x), found_in(wide)
    for name in ("explained_variance", "explained_variance_ratio", "se", "stability", "scores"):
        np.testing.assert_allclose(held[name], streamed[name], rtol=1e-4, atol=1e-4, err_msg=name)
    for name in ("participation_ratio", "largest_row_share", "largest_dimension_share"):
        assert held[name] == pytest.approx(float(streamed[name]), rel=1e-5)
    np.testing.assert_allclose(held["directions"][:, :20], streamed["directions"], atol=1e-4)
    assert not held["directions"][:, 20:].any()
    np.testing.assert_allclose(held["mean"][:20], streamed["mean"], atol=1e-5)


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_a_mean_a_million_times_the_spread_hides_no_component(n_rows, d):
    x = rows_of(n_rows, d, mean=1e4, spread=1e-2)
    truth = PCA(3, svd_solver="full").fit(x.double().numpy())
    found = found_in(x)
    np.testing.assert_allclose(found["explained_variance_ratio"], truth.explained_variance_ratio_, rtol=1e-3)
    assert (np.abs((found["directions"] * truth.components_).sum(axis=1)) > 0.9999).all()
    np.testing.assert_allclose(found["mean"], truth.mean_, rtol=1e-7)


@pytest.mark.parametrize("fit", [pca_of_moments, svd_of_moments])
@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_the_size_of_the_blocks_changes_nothing(fit, n_rows, d):
    x = rows_of(n_rows, d)
    one, other = (found_in(x, fit=fit, units=np.arange(n_rows) // 12, size=size) for size in (5, n_rows))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("fit", "centre"), [(pca_of_moments, True), (svd_of_moments, False)])
@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_the_standard_error_is_that_of_a_fit_without_each_member(fit, centre, n_rows, d):
    x = rows_of(n_rows, d)
    units = np.random.default_rng(0).integers(-3, 4, n_rows)
    left = np.array([shares(x[torch.from_numpy(units != unit)], 3, centre=centre) for unit in np.unique(units)])
    n = len(left)
    assert n == 7
    by_hand = np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found_in(x, fit=fit, units=units)["se"], by_hand, rtol=1e-4)


@pytest.mark.parametrize(("n_units", "there"), [(4, False), (5, True)])
def test_five_members_have_a_standard_error_and_four_have_none(n_units, there):
    found = found_in(rows_of(60), units=np.arange(60) % n_units)
    assert np.isfinite(found["se"]).all() == there
    assert np.isfinite(found["se"]).any() == there


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_a_strong_subspace_is_stable_and_noise_is_not(n_rows, d):
    rng = np.random.default_rng(1)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0]
    planted = rng.normal(size=(n_rows, 2)) * (9, 5) @ frame[:2]
    x = torch.from_numpy(planted + 1e-3 * rng.normal(size=(n_rows, d)) + 2).float()
    stability = found_in(x, units=np.arange(n_rows))["stability"]
    assert stability[1] > 0.99999
    assert stability[2] < 0.8
    noise = found_in(torch.from_numpy(rng.normal(size=(n_rows, d))).float(), units=np.arange(n_rows))["stability"]
    assert noise.max() < 0.6


def test_stability_is_the_overlap_of_two_halves_of_the_members():
    x, units = rows_of(90), np.arange(90) % 6
    rng, overlaps = np.random.default_rng(5), []
    for _ in range(N_SPLITS):
        order = rng.permutation(6)
        a, b = (
            PCA(2, svd_solver="full").fit(x.double().numpy()[np.isin(units, half)]).components_
            for half in (order[:3], order[3:])
        )
        overlaps.append([np.square(a[:j] @ b[:j].T).sum() / j for j in (1, 2)])
    np.testing.assert_allclose(found_in(x, units=units, k=2, seed=5)["stability"], np.mean(overlaps, axis=0), rtol=1e-4)


@pytest.mark.parametrize("units", [np.zeros(9, dtype=int), np.arange(9) // 8])
def test_halves_too_small_for_the_fit_have_no_stability(units):
    assert np.isnan(found_in(rows_of(9), units=units)["stability"]).all()


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_the_null_is_of_the_rows_themselves_where_they_are_few(n_rows, d):
    x = rows_of(n_rows, d)
    null = found_in(x, seed=3)["null"]
    assert null.shape == (N_PERMUTATIONS, 3)
    expected = explained_variance_null(x, k=3, n_permutations=N_PERMUTATIONS, seed=3)
    np.testing.assert_array_equal(null, expected)


def test_the_null_of_many_rows_is_of_rows_drawn_from_all_blocks(monkeypatch):
    monkeypatch.setattr(module, "NULL_ROWS", 30)
    x = rows_of(90)
    drawn = np.sort(np.random.default_rng(2).choice(90, 30, replace=False))
    assert drawn.max() - drawn.min() > 60
    expected = explained_variance_null(x[torch.from_numpy(drawn)], k=3, n_permutations=N_PERMUTATIONS, seed=2)
    np.testing.assert_array_equal(found_in(x, seed=2)["null"], expected)


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_equal_rows_have_no_share_rather_than_one_of_rounding(n_rows, d):
    x = rows_of(1, d).repeat(n_rows, 1)
    found = found_in(x)
    for name in ("explained_variance_ratio", "se", "stability", "null", "directions", "mean"):
        assert np.isnan(found[name]).all(), name
    for name in ("participation_ratio", "largest_row_share", "largest_dimension_share"):
        assert np.isnan(found[name]), name
    for name in ("explained_variance", "spectrum", "scores"):
        assert not found[name].any(), name
    like = found_in(rows_of(n_rows, d))
    assert {name: values.shape for name, values in found.items()} == {n: v.shape for n, v in like.items()}


@pytest.mark.parametrize("fit", [pca_of_moments, svd_of_moments])
def test_components_beyond_the_rank_have_neither_variance_nor_stability(fit):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(20, 2)) @ rng.normal(size=(2, 40))).float().double().float()
    found = found_in(x, fit=fit, k=4)
    assert found["explained_variance_ratio"][:2].sum() == pytest.approx(1)
    assert found["explained_variance_ratio"][2:].max() < 1e-9
    assert np.isfinite(found["stability"][:2]).all()
    np.testing.assert_allclose(found["directions"] @ found["directions"].T, np.eye(4), atol=1e-5)
    exact = torch.zeros(20, 40).index_copy_(
        1, torch.tensor([3, 8]), torch.from_numpy(rng.integers(-9, 9, (20, 2))).float()
    )
    assert np.isnan(found_in(exact, fit=fit, k=4)["stability"][2:]).all()


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_singular_vectors_are_of_the_rows_with_their_mean(n_rows, d):
    x = rows_of(n_rows, d)
    found = found_in(x, fit=svd_of_moments)
    u, s, v = np.linalg.svd(x.double().numpy(), full_matrices=False)
    np.testing.assert_allclose(found["explained_variance"], s[:3] ** 2 / n_rows, rtol=1e-5)
    assert (np.abs((found["directions"] * v[:3]).sum(axis=1)) > 1 - 1e-5).all()
    np.testing.assert_allclose(np.abs(found["scores"]), np.abs(u * s)[:, :3], rtol=1e-3, atol=2e-3)
    assert not found["mean"].any()
    squares = x.double().numpy() ** 2
    assert found["largest_row_share"] == pytest.approx(squares.sum(axis=1).max() / squares.sum(), rel=1e-5)
    assert found["largest_dimension_share"] == pytest.approx(squares.sum(axis=0).max() / squares.sum(), rel=1e-5)


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_one_massive_row_and_one_massive_dimension_are_told_by_their_share(n_rows, d):
    x = rows_of(n_rows, d)
    x[5] += 1000 * torch.nn.functional.normalize(rows_of(1, d)[0], dim=0)
    assert found_in(x)["largest_row_share"] > 0.9
    y = rows_of(n_rows, d)
    y[:, 7] *= 1000
    found = found_in(y)
    assert found["largest_dimension_share"] > 0.99
    assert found["participation_ratio"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("n_rows", "k", "most"), [(24, 24, 23), (24, 0, 23), (40, 40, 39), (90, 41, 40), (1, 1, 0)])
def test_more_components_than_there_are_are_refused(n_rows, k, most):
    with pytest.raises(InputError, match=f"{n_rows} rows of width 40 have at most {most} components; got k = {k}"):
        found_in(rows_of(n_rows), k=k)


@pytest.mark.parametrize("fit", [pca_of_moments, svd_of_moments])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_values_that_are_not_finite_are_told_as_such(fit, value, n_rows, d):
    x = rows_of(n_rows, d)
    x[n_rows // 2, 3] = value
    with pytest.raises(NumbersError, match="the activations are not all finite; geometry verify says"):
        found_in(x, fit=fit)


@pytest.mark.parametrize("n_rows", [20, 90])
def test_rows_of_zeros_have_no_singular_vector(n_rows):
    with pytest.raises(InputError, match="all activations are 0; there is nothing to decompose"):
        found_in(torch.zeros(n_rows, 40), fit=svd_of_moments)
