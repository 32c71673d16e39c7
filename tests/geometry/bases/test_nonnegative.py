"""Non-negative factorisation: scikit-learn's objective, scipy's non-negative least squares, planted parts."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, nnls
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from cache.errors import InputError, NumbersError
from geometry.bases.nonnegative import NonnegativeBasis, hals, nmf, random_start, relative_error, split_by_sign


def planted(n_rows=150, d=24, k=4, noise=0.01, seed=0):
    """Rows that are sparse non-negative sums of parts with few columns each, and the parts."""
    rng = np.random.default_rng([seed, n_rows, d, k])
    parts = rng.gamma(1.0, 1, (k, d)) * (rng.random((k, d)) < 0.4) + 1e-3
    values = rng.gamma(1.0, 1, (n_rows, k)) * (rng.random((n_rows, k)) < 0.5)
    x = (values @ parts + noise * rng.normal(size=(n_rows, d))).clip(0)
    return torch.from_numpy(x.astype(np.float32)), parts


def noise_rows(n_rows=100, d=20, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n_rows, d)).astype(np.float32))


def error_of(x, w, h):
    wide = x.astype(np.float64)
    return np.linalg.norm(wide - w.astype(np.float64) @ h) / np.linalg.norm(wide)


def cosines(found, truth):
    """Each true part's cosine with the part matched to it."""
    a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (np.asarray(found), truth))
    table = b @ a.T
    return table[linear_sum_assignment(-table)]


@pytest.mark.parametrize(("n_rows", "d", "k"), [(120, 30, 5), (30, 120, 4), (60, 60, 8), (40, 10, 1)])
@pytest.mark.parametrize("make", ["planted", "noise"])
def test_hals_is_as_good_as_scikit_learns_coordinate_descent_from_the_same_start(n_rows, d, k, make):
    x = (planted(n_rows, d, k, noise=0.2)[0] if make == "planted" else noise_rows(n_rows, d)).numpy()
    start = random_start(x, k, np.random.default_rng(1))
    ours = hals(x, *start, max_iter=400, tol=0.0)
    model = NMF(k, init="custom", solver="cd", max_iter=400, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        w = model.fit_transform(x, W=start[0].copy(), H=start[1].copy())
    assert error_of(x, *ours) <= error_of(x, w, model.components_) + 1e-3
    assert (ours[0] >= 0).all()
    assert (ours[1] >= 0).all()


def test_the_start_is_scikit_learns_and_is_left_alone():
    x = planted()[0].numpy()
    w, h = random_start(x, 4, np.random.default_rng(1))
    copies = w.copy(), h.copy()
    hals(x, w, h, max_iter=5, tol=0.0)
    np.testing.assert_array_equal(w, copies[0])
    np.testing.assert_array_equal(h, copies[1])
    assert (w.dtype, h.dtype) == (np.float32, np.float32)
    assert w.min() >= 0
    assert h.min() >= 0
    assert (w @ h).mean() == pytest.approx(x.mean() * 2 / np.pi, rel=0.3)  # E|z| ** 2 = 2 / pi


@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_objective_never_increases_with_more_rounds(n_rows, d, seed):
    rng = np.random.default_rng([seed, n_rows, d])
    x = rng.random((n_rows, d))
    start = random_start(x, min(n_rows, d, 3), rng)
    errors = [error_of(x, *hals(x, *start, max_iter=rounds, tol=0.0)) for rounds in range(8)]
    assert (np.diff(errors) <= 1e-9).all()


def test_the_objective_is_the_residuals_share():
    x, rng = planted()[0].numpy(), np.random.default_rng(0)
    w, h = random_start(x, 3, rng)
    assert relative_error(x, w, h) == pytest.approx(error_of(x, w, h), rel=1e-5)
    assert relative_error(x, w * 0, h) == pytest.approx(1)


def test_a_tolerance_ends_a_run_early_and_close_to_its_end():
    x = planted(noise=0.2)[0].numpy()
    start = random_start(x, 4, np.random.default_rng(0))
    early, late = hals(x, *start, max_iter=1000, tol=1e-2), hals(x, *start, max_iter=1000, tol=0.0)
    assert not np.array_equal(early[0], late[0])
    same = [hals(x, *start, max_iter=rounds, tol=0.0) for rounds in range(1, 202, 10)]
    assert any(np.array_equal(early[0], other[0]) for other in same)
    assert error_of(x, *early) <= error_of(x, *late) + 0.05


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_planted_parts_are_found_in_any_unit(scale):
    x, parts = planted()
    found = nmf(x * scale, k=4)
    assert cosines(found.decomposition.directions, parts).min() > 0.99
    assert found.decomposition.reconstruction_error < 0.001
    assert not found.split_by_sign
    assert found.agreement.min() > 0.99


def test_planted_signed_parts_are_found_through_the_split():
    rng = np.random.default_rng(2)
    parts = rng.normal(size=(3, 30)) * (rng.random((3, 30)) < 0.3)
    owner = rng.integers(0, 3, size=200)
    x = torch.from_numpy((rng.gamma(2.0, 1, 200)[:, None] * parts[owner]).astype(np.float32))
    found = nmf(x, k=3)
    assert found.split_by_sign
    assert cosines(found.decomposition.directions, parts).min() > 0.99
    values = found.decomposition.scores(x)
    assert ((values > 0.05).sum(dim=1) == 1).all()
    torch.testing.assert_close(found.decomposition.basis.decode(values), x, atol=2e-2, rtol=1e-2)


def test_runs_agree_on_planted_parts_and_less_on_noise():
    clear = nmf(planted(100, 20, 4)[0], k=4).agreement
    vague = nmf(noise_rows(100, 20), k=4).agreement
    assert clear.min() > 0.99
    assert vague.mean() < 0.97
    assert ((vague >= 0) & (vague <= 1)).all()


def test_agreement_is_the_mean_cosine_with_the_other_runs_matches():
    x = noise_rows(30, 12)
    rng = np.random.default_rng(3)
    runs = [hals(x.numpy(), *random_start(x.numpy(), 3, rng), max_iter=50, tol=0.0) for _ in range(3)]
    found = nmf(x, k=3, n_runs=3, seed=3, max_iter=50, tol=0.0)
    objectives = [error_of(x.numpy(), *run) for run in runs]
    np.testing.assert_allclose(found.objectives, objectives, atol=1e-5)
    best = int(np.argmin(objectives))
    mine = found.decomposition.directions.numpy()
    np.testing.assert_allclose(cosines(mine, runs[best][1]), 1, atol=1e-5)
    truth = [cosines(runs[i][1], mine) for i in range(3) if i != best]
    np.testing.assert_allclose(found.agreement, np.mean(truth, axis=0), atol=1e-5)


def test_a_single_run_says_nothing_of_agreement():
    found = nmf(planted()[0], k=2, n_runs=1)
    assert np.isnan(found.agreement).all()
    assert found.agreement.shape == (2,)
    assert found.objectives.shape == (1,)


def test_the_same_seed_gives_the_same_parts_and_another_seed_other_runs():
    x = noise_rows()
    one, same, other = nmf(x, k=3, seed=4), nmf(x, k=3, seed=4), nmf(x, k=3, seed=5)
    assert torch.equal(one.decomposition.directions, same.decomposition.directions)
    np.testing.assert_array_equal(one.objectives, same.objectives)
    np.testing.assert_array_equal(one.agreement, same.agreement)
    assert (one.objectives != other.objectives).any()


@pytest.mark.parametrize("signed", [False, True])
def test_encoding_solves_non_negative_least_squares(signed):
    x = planted(60, noise=0.3)[0] - (0.6 if signed else 0)
    basis = nmf(x, k=4, n_runs=2).decomposition.basis
    parts = basis.parts.double().numpy()
    unseen = planted(20, noise=0.5, seed=9)[0] - 0.6  # signed: rows may be negative where the parts are not
    for rows in (x, unseen):
        columns = split_by_sign(rows.numpy()) if signed else rows.numpy()
        truth = np.array([nnls(parts.T, row.astype(np.float64))[0] for row in columns])
        np.testing.assert_allclose(basis.encode(rows), truth, atol=1e-5 * max(truth.max(), 1))


def test_encoding_the_fitted_rows_satisfies_the_conditions_of_an_optimum_and_is_no_worse_than_the_fit():
    x = planted(noise=0.3)[0]
    found = nmf(x, k=4, max_iter=400, tol=0.0)
    basis = found.decomposition.basis
    values, parts = basis.encode(x).double().numpy(), basis.parts.double().numpy()
    gradient = (values @ parts - x.double().numpy()) @ parts.T
    size = np.abs(x.double().numpy() @ parts.T).max()
    assert gradient.min() > -1e-5 * size
    assert np.abs(gradient * (values > 0)).max() < 1e-5 * size
    reached = np.linalg.norm(x.double().numpy() - values @ parts) / np.linalg.norm(x.double().numpy())
    assert reached <= found.objectives.min() + 1e-5
    assert reached == pytest.approx(found.objectives.min(), abs=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_shares_are_what_the_error_grows_by_without_a_component(shift):
    x = planted(noise=0.3)[0] - shift
    found = nmf(x, k=4, max_iter=600, tol=0.0)
    result = found.decomposition
    columns = (split_by_sign(x.numpy()) if found.split_by_sign else x.numpy()).astype(np.float64)
    values, parts = result.basis.encode(x).double().numpy(), result.basis.parts.double().numpy()
    whole = ((columns - values @ parts) ** 2).sum()
    lost = [((columns - np.delete(values, i, 1) @ np.delete(parts, i, 0)) ** 2).sum() - whole for i in range(4)]
    np.testing.assert_allclose(result.explained_variance, np.array(lost) / len(x), rtol=5e-3)
    np.testing.assert_allclose(result.explained_variance_ratio, np.array(lost) / (columns**2).sum(), rtol=5e-3)
    assert (np.diff(result.explained_variance) <= 0).all()
    np.testing.assert_array_equal(result.spectrum, result.explained_variance)
    measured = (result.basis.decode(result.scores(x)) - x).square().sum() / x.square().sum()
    assert result.reconstruction_error == pytest.approx(float(measured), abs=2e-3)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=1), 1, rtol=1e-5)
    assert result.n_rows == len(x)
    assert not result.mean.any()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_split_by_sign_is_undone_by_a_difference(n_rows, d, seed):
    x = np.random.default_rng(seed).normal(size=(n_rows, d)).astype(np.float32)
    halves = split_by_sign(x)
    assert halves.shape == (n_rows, 2 * d)
    assert (halves >= 0).all()
    np.testing.assert_array_equal(halves[:, :d] - halves[:, d:], x)
    assert not (halves[:, :d] * halves[:, d:]).any()


def test_columns_of_zeros_stay_out_of_every_part_and_rows_of_zeros_read_as_nothing():
    x = planted()[0]
    x[:, 5] = 0
    x[7] = 0
    found = nmf(x, k=4, n_runs=2)
    assert not found.decomposition.directions[:, 5].any()
    assert not found.decomposition.scores(x)[7].any()
    assert np.isfinite(found.agreement).all()


def test_more_components_than_the_data_has_cost_nothing_and_break_nothing():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.outer(rng.random(20) + 0.1, rng.random(8) + 0.1).astype(np.float32))
    found = nmf(x, k=6, n_runs=3)
    assert found.decomposition.reconstruction_error < 1e-5
    assert torch.isfinite(found.decomposition.directions).all()
    assert torch.isfinite(found.decomposition.scores(x)).all()
    assert ((found.agreement >= 0) & (found.agreement <= 1)).all()


def test_a_dead_component_stays_dead_and_is_listed_as_nothing():
    x = planted(k=2)[0].numpy()
    w, h = random_start(x, 3, np.random.default_rng(0))
    w[:, 1], h[1] = 0, 0
    found = hals(x, w, h, max_iter=30, tol=0.0)
    assert not found[0][:, 1].any()
    assert not found[1][1].any()
    assert error_of(x, *found) < 0.1
    basis = NonnegativeBasis(parts=torch.from_numpy(found[1]), d=x.shape[1])
    assert not basis.encode(torch.from_numpy(x))[:, 1].any()


@pytest.mark.parametrize(
    ("n_rows", "d", "k", "message"),
    [
        (10, 30, 11, "^10 rows of width 30 have at most 10 components; got k = 11$"),
        (30, 10, 11, "^30 rows of width 10 have at most 10 components; got k = 11$"),
        (30, 10, 0, "^30 rows of width 10 have at most 10 components; got k = 0$"),
        (0, 10, 1, r"^x: something along each of the axes \(row, d\) is wanted; got the shape \(0, 10\)$"),
    ],
)
def test_components_that_are_not_there_are_refused(n_rows, d, k, message):
    with pytest.raises(InputError, match=message):
        nmf(noise_rows(n_rows, d), k=k)


@pytest.mark.parametrize("n_runs", [0, -2])
def test_no_run_at_all_is_refused(n_runs):
    with pytest.raises(InputError, match=f"^n_runs must be 1 to 1,000; got {n_runs}$"):
        nmf(noise_rows(), k=2, n_runs=n_runs)


def test_activations_of_zeros_are_refused():
    with pytest.raises(InputError, match=r"^all activations are 0; there is nothing to factorise$"):
        nmf(torch.zeros(5, 4), k=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    x = noise_rows()
    x[3, 2] = value
    with pytest.raises(NumbersError, match=r"^x: not all finite; ") as caught:
        nmf(x, k=2)
    assert caught.value.exit_code == 8
