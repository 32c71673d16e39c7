"""Canonical correlations: published algorithms cca-zoo's answers, what they are blind to, and held-out ones."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError, NumbersError
from geometry.bases.canonical import (
    cca,
    held_out_cca,
    n_components,
    pwcca,
    svcca,
    svcca_of_moments,
)
from tests.geometry.joint_moments import joint_of

SHAPES = [(60, 4, 7), (60, 7, 4), (200, 5, 5), (12, 3, 6)]

cases = st.tuples(st.integers(20, 60), st.integers(2, 6), st.integers(2, 6), st.integers(0, 1000))


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def related(n_rows, dx, dy, seed=0):
    """Two sets of rows that have two components in common, the first more than the second."""
    z = normal(n_rows, 2, seed=seed + 50)
    x = z @ normal(2, dx, seed=seed) + normal(n_rows, dx, seed=seed + 1) + 3
    return x, z * torch.tensor([2.0, 0.5]) @ normal(2, dy, seed=seed + 2) + normal(n_rows, dy, seed=seed + 3) - 5


def bjorck_golub(x, y):
    """Singular values of the product of the two sides' orthonormal bases, by QR."""
    bases = [np.linalg.qr((z - z.mean(dim=0)).numpy())[0] for z in (x, y)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


@pytest.mark.parametrize(("n_rows", "dx", "dy"), SHAPES)
def test_the_correlations_are_those_of_bjorck_and_golub_from_rows_and_from_moments(n_rows, dx, dy):
    x, y = related(n_rows, dx, dy)
    truth = bjorck_golub(x, y)
    np.testing.assert_allclose(cca(x, y).correlations, truth, atol=1e-9)


@pytest.mark.parametrize(("n_rows", "dx", "dy"), SHAPES)
def test_cca_zoo_and_scikit_learn_find_the_same_correlations_and_variates(n_rows, dx, dy):
    x, y = related(n_rows, dx, dy)
    k = min(dx, dy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cca_zoo.linear import CCA
        from sklearn import cross_decomposition

        theirs = CCA(n_components=k).fit([x.numpy(), y.numpy()]).transform([x.numpy(), y.numpy()])
        nipals = (
            cross_decomposition.CCA(n_components=1, max_iter=5000, tol=1e-12)
            .fit(x.numpy(), y.numpy())
            .transform(x.numpy(), y.numpy())
        )
    ours = cca(x, y)
    correlations = [np.corrcoef(theirs[0][:, i], theirs[1][:, i])[0, 1] for i in range(k)]
    np.testing.assert_allclose(ours.correlations, correlations, atol=1e-6)
    assert ours.correlations[0] == pytest.approx(np.corrcoef(*(side[:, 0] for side in nipals))[0, 1], abs=1e-6)
    for side, basis, z in zip(theirs, (ours.x_basis, ours.y_basis), (x, y), strict=True):
        assert abs(np.corrcoef(side[:, 0], basis.encode(z)[:, 0])[0, 1]) == pytest.approx(1, abs=1e-6)


@given(cases)
@settings(deadline=None, max_examples=40)
def test_variates_have_variance_1_and_correlate_with_their_partners_alone_as_much_as_is_said(case):
    n_rows, dx, dy, seed = case
    x, y = related(n_rows, dx, dy, seed)
    result = cca(x, y)
    k = len(result.correlations)
    left, right = result.x_basis.encode(x).numpy(), result.y_basis.encode(y).numpy()
    np.testing.assert_allclose(np.cov(left.T, ddof=1).reshape(k, k), np.eye(k), atol=1e-8)
    np.testing.assert_allclose(np.cov(right.T, ddof=1).reshape(k, k), np.eye(k), atol=1e-8)
    np.testing.assert_allclose(left.T @ right / (n_rows - 1), np.diag(result.correlations), atol=1e-8)
    assert (np.diff(result.correlations) <= 1e-12).all()
    assert ((result.correlations >= 0) & (result.correlations <= 1)).all()


@given(cases)
@settings(deadline=None, max_examples=40)
def test_partners_correlate_positively_and_the_first_sides_patterns_have_their_largest_entry_positive(case):
    n_rows, dx, dy, seed = case
    x, y = related(n_rows, dx, dy, seed)
    result = cca(x, y, k=1)
    assert np.corrcoef(result.x_basis.encode(x)[:, 0], result.y_basis.encode(y)[:, 0])[0, 1] > 0
    assert result.x_basis.directions[0].max() == result.x_basis.directions[0].abs().max()


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(("n_rows", "dx", "dy"), [(60, 4, 7), (9, 30, 4)])
def test_what_is_written_with_a_pattern_is_read_back_with_its_weight(ridge, n_rows, dx, dy):
    result = cca(*related(n_rows, dx, dy), ridge=ridge)
    for basis in (result.x_basis, result.y_basis):
        k = len(basis.directions)
        torch.testing.assert_close(
            basis.readers @ basis.directions.T, torch.eye(k, dtype=torch.float64), atol=1e-8, rtol=0
        )


def test_patterns_are_the_covariance_times_the_weights():
    x, y = related(60, 4, 7)
    result = cca(x, y)
    covariance = np.cov(y.numpy().T)
    np.testing.assert_allclose(result.y_basis.directions, result.y_basis.readers.numpy() @ covariance, atol=1e-9)


@given(cases)
@settings(deadline=None, max_examples=30)
def test_invertible_maps_and_shifts_of_either_side_change_no_correlation(case):
    n_rows, dx, dy, seed = case
    x, y = related(n_rows, dx, dy, seed)
    there = x @ (rotation(dx, seed) * torch.logspace(-1, 2, dx, dtype=torch.float64)) + 7
    np.testing.assert_allclose(cca(there, y).correlations, cca(x, y).correlations, atol=1e-7)
    np.testing.assert_allclose(cca(y, x).correlations, cca(x, y).correlations, atol=1e-9)


def test_rows_correlate_perfectly_with_themselves_and_nearly_so_with_anything_where_they_are_few():
    x, y = normal(40, 5), normal(40, 5, seed=1)
    np.testing.assert_allclose(cca(x, x).correlations, 1)
    assert cca(x, y).correlations.max() < 0.7
    few = cca(normal(10, 6), normal(10, 6, seed=1)).correlations
    np.testing.assert_allclose(few[:3], 1)  # ranks of 6 and 6 among 9 dimensions


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_repeated_and_constant_columns_take_no_part(scale):
    x, y = (scale * z.float() for z in related(60, 4, 5))
    wider = torch.cat([x, x[:, :2] * 3, torch.full((60, 2), -7.5)], dim=1)
    truth = bjorck_golub(x.double(), y.double())
    assert len(cca(wider, y).correlations) == 4
    np.testing.assert_allclose(cca(wider, y).correlations, truth, atol=1e-5)


def test_columns_of_very_unlike_scale_all_take_part():
    x, y = related(200, 5, 4)
    unlike = x * torch.tensor([1e3, 1.0, 1.0, 1.0, 1e-1])
    truth = bjorck_golub(x, y)
    np.testing.assert_allclose(cca(unlike, y).correlations, truth, atol=1e-6)


def test_a_float32_mean_of_ten_thousand_times_the_spread_costs_no_digits():
    x, y = ((z + 1e4).float() for z in related(80, 5, 4))
    truth = bjorck_golub(x.double() - 1e4, y.double() - 1e4)
    np.testing.assert_allclose(cca(x, y).correlations, truth, atol=1e-7)
    assert svcca(x, y) == pytest.approx(svcca(x.double() - 1e4, y.double() - 1e4), abs=1e-6)
    assert pwcca(x, y) == pytest.approx(pwcca(x.double() - 1e4, y.double() - 1e4), abs=1e-6)


def test_ridge_regression_on_covariances_is_what_a_ridge_does():
    """From the definition: eigenvalues of (Sxx + rI)^-1 Sxy (Syy + sI)^-1 Syx."""
    x, y = related(60, 4, 5)
    joint = np.cov(np.hstack([x, y]).T)
    ridged = [c + 0.3 * np.trace(c) / len(c) * np.eye(len(c)) for c in (joint[:4, :4], joint[4:, 4:])]
    product = np.linalg.solve(ridged[0], joint[:4, 4:]) @ np.linalg.solve(ridged[1], joint[4:, :4])
    truth = np.sqrt(np.sort(np.linalg.eigvals(product).real)[::-1])
    np.testing.assert_allclose(cca(x, y, ridge=0.3).correlations, truth, atol=1e-9)
    assert truth[0] < cca(x, y).correlations[0]


def test_fewer_components_are_the_first_of_all():
    x, y = related(60, 4, 7)
    few, every = cca(x, y, k=2), cca(x, y)
    np.testing.assert_array_equal(few.correlations, every.correlations[:2])
    torch.testing.assert_close(few.y_basis.readers, every.y_basis.readers[:2])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_svcca_keeps_the_components_that_reach_99_percent_at_any_scale(scale):
    """The published code compares with the total variance itself, and keeps one component where it is below 1."""
    variances = np.array([50.0, 30, 15, 3, 1.5, 0.5])  # 50, 80, 95, 98, 99.5, 100 %
    assert n_components(scale**2 * variances, 0.99) == 5
    x, y = (torch.from_numpy(z * np.sqrt(variances)) @ rotation(6, seed=9) for z in _whitened_pair(80, 6))
    kept = []
    for z in (x, y):
        u, s, _ = np.linalg.svd((z - z.mean(dim=0)).numpy(), full_matrices=False)
        reached = np.cumsum(s**2) / np.sum(s**2)
        kept.append(u[:, : int((reached < 0.99).sum()) + 1])
    assert {side.shape[1] for side in kept} == {5}
    truth = np.linalg.svd(kept[0].T @ kept[1], compute_uv=False).mean()
    assert svcca(scale * x, scale * y) == pytest.approx(truth)
    assert svcca((scale * x).float(), (scale * y).float()) == pytest.approx(truth, abs=1e-5)
    assert svcca_of_moments(joint_of(scale * x, scale * y)) == pytest.approx(truth)
    assert svcca(scale * x, scale * x) == pytest.approx(1)


def _whitened_pair(n_rows, d):
    """Two related sets of rows whose columns are uncorrelated with equal variances."""
    z = normal(n_rows, d).numpy()
    sides = (z, z @ rotation(d, seed=3).numpy() + normal(n_rows, d, seed=4).numpy())
    return [np.linalg.qr(side - side.mean(axis=0))[0] for side in sides]


@given(cases)
@settings(deadline=None, max_examples=30)
def test_svcca_is_symmetric_blind_to_rotation_scale_and_shift_and_the_same_from_moments(case):
    n_rows, dx, dy, seed = case
    x, y = related(n_rows, dx, dy, seed)
    value = svcca(x, y, keep=0.9)
    assert 0 <= value <= 1
    assert svcca(y, x, keep=0.9) == pytest.approx(value)
    assert svcca(2 * x @ rotation(dx, seed) + 1, y, keep=0.9) == pytest.approx(value)
    assert svcca_of_moments(joint_of(x, y), keep=0.9) == pytest.approx(value)


def test_svcca_does_see_a_linear_map_that_hides_a_component():
    x, y = related(60, 4, 4)
    assert svcca(x, y, keep=1.0) == pytest.approx(cca(x, y).correlations.mean())
    hidden = x @ torch.diag(torch.tensor([1.0, 1, 1, 1e-3], dtype=torch.float64))
    assert abs(svcca(hidden, y) - svcca(x, y)) > 0.01


def test_n_components_counts_up_to_the_share_and_no_further():
    assert [n_components(np.array([6.0, 3, 1]), keep) for keep in (0.5, 0.6, 0.61, 0.9, 0.91, 1.0)] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert n_components(np.array([1.0, 0, 0]), 1.0) == 1


def test_pwcca_is_the_published_formula():
    """Eq. 2 of Morcos et al.: weights are summed magnitudes of products of each variate with x's columns."""
    for n_rows, dx, dy in SHAPES:
        x, y = related(n_rows, dx, dy)
        a, b = ((z - z.mean(dim=0)).numpy() for z in (x, y))
        qa, qb = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
        u, rho, _ = np.linalg.svd(qa.T @ qb)
        weights = [sum(abs(qa @ u[:, i] @ a[:, j]) for j in range(dx)) for i in range(len(rho))]
        assert pwcca(x, y) == pytest.approx(np.dot(weights, rho) / sum(weights))


def test_pwcca_is_not_symmetric_and_only_blind_to_maps_of_the_second_side():
    x, y = related(60, 4, 4)
    x = x * torch.tensor([10.0, 1, 1, 1])
    turn = rotation(4) * torch.tensor([1.0, 2, 3, 4])
    assert pwcca(x, x @ turn + 3) == pytest.approx(1)
    assert abs(pwcca(x, y) - pwcca(y, x)) > 0.01
    assert pwcca(x, y @ turn) == pytest.approx(pwcca(x, y))
    assert pwcca(7 * x - 2, y) == pytest.approx(pwcca(x, y))
    assert abs(pwcca(x @ turn, y) - pwcca(x, y)) > 0.01
    assert abs(pwcca(x @ rotation(4), y) - pwcca(x, y)) > 1e-3


def naive_held_out(x, y, units, k):
    """Everything fitted anew for each unit left out, by plain SVDs of the rows."""
    x, y = x.numpy(), y.numpy()
    scores = np.zeros((2, len(units), k))
    for unit in set(units.tolist()):
        train = units != unit
        fitted = []
        for z in (x, y):
            mean = z[train].mean(axis=0)
            u, s, v = np.linalg.svd(z[train] - mean, full_matrices=False)
            fitted.append((mean, v[:k].T / s[:k], u[:, :k]))
        turns = np.linalg.svd(fitted[0][2].T @ fitted[1][2])
        for side, (z, turn) in enumerate(((x, turns[0]), (y, turns[2].T))):
            scores[side, ~train] = (z[~train] - fitted[side][0]) @ fitted[side][1] @ turn
    return np.mean([a @ b / np.sqrt(a @ a * (b @ b)) for a, b in zip(scores[0].T, scores[1].T, strict=True)])


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("d", [6, 50])
def test_held_out_cca_is_everything_fitted_anew_for_every_unit(k, d):
    x, y = related(30, d, d + 1)
    units = np.arange(30) % 10
    assert held_out_cca(x, y, units, k=k) == pytest.approx(naive_held_out(x, y, units, k), abs=1e-8)


def test_unrelated_sides_correlate_0_on_units_left_out_and_1_on_units_fitted():
    held_out, in_sample = [], []
    for seed in range(60):
        x, y = normal(12, 40, seed=2 * seed), normal(12, 40, seed=2 * seed + 1)
        held_out.append(held_out_cca(x, y, np.arange(12)))
        in_sample.append(cca(x, y, k=1).correlations[0])
    np.testing.assert_allclose(in_sample, 1)
    assert abs(np.mean(held_out)) < 3 * np.std(held_out) / np.sqrt(60)
    assert np.mean(held_out) < 0.1


def test_a_planted_component_is_found_on_units_left_out():
    for seed in range(5):
        z = normal(20, 1, seed=seed + 50).repeat_interleave(3, dim=0)
        x = 8 * z @ rotation(40, seed)[:1] + normal(60, 40, seed=seed)
        y = 8 * z @ rotation(40, seed + 9)[:1] + normal(60, 40, seed=seed + 1)
        assert held_out_cca(x, y, np.repeat(np.arange(20), 3)) > 0.9


def test_a_cue_of_one_unit_copied_to_both_sides_helps_rows_left_out_and_not_units_left_out():
    """One unit's rows vary along a direction of its own, alike on both sides: whoever leaves out rows can learn it."""
    by_row, by_unit = [], []
    for seed in range(20):
        units = np.repeat(np.arange(10), 6)
        cue = torch.zeros(60, 1, dtype=torch.float64)
        cue[6:12] = 30 * normal(6, 1, seed=seed)
        cue[6:12] -= cue[6:12].mean()
        x = cue @ rotation(30, seed)[:1] + normal(60, 30, seed=seed)
        y = cue @ rotation(30, seed + 99)[:1] + normal(60, 30, seed=seed + 1)
        by_row.append(held_out_cca(x, y, np.arange(60)))
        by_unit.append(held_out_cca(x, y, units))
    assert np.mean(by_row) > 0.9
    assert abs(np.mean(by_unit)) < 0.2


def test_held_out_cca_is_symmetric_and_blind_to_rotation_scale_shift_and_the_units_names():
    x, y = related(30, 8, 9)
    units = np.arange(30) % 10
    value = held_out_cca(x, y, units, k=2)
    assert -1 <= value <= 1
    assert held_out_cca(y, x, units, k=2) == pytest.approx(value)
    assert held_out_cca(5 * x @ rotation(8) - 4, y, units, k=2) == pytest.approx(value)
    assert held_out_cca(x, y, np.array(list("qwertyuiop"))[units], k=2) == pytest.approx(value)
    assert held_out_cca(x, x, units, k=2) == pytest.approx(1)


def test_a_component_that_a_fold_lacks_counts_as_nothing_there():
    """The third dimension varies in one unit alone: without it the others have two components."""
    x = torch.cat([normal(15, 2), torch.zeros(15, 1, dtype=torch.float64)], dim=1)
    x[4, 2] = 5.0
    assert held_out_cca(x, x, np.arange(15), k=3) == pytest.approx(1)
    assert abs(held_out_cca(x, normal(15, 3), np.arange(15), k=3)) < 0.6


def raw(function):
    """The function as users call it, without the shape checks that run during tests."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("measure", [cca, svcca, lambda x, y: raw(held_out_cca)(x, y, np.arange(len(x)))])
def test_sides_that_cannot_be_correlated_are_refused(measure):
    with pytest.raises(InputError, match=r"^x and y need the same rows; got 12 and 11$"):
        raw(measure)(normal(12, 3), normal(11, 3))
    equal = normal(1, 3).float().repeat(12, 1)
    for pair in ((normal(12, 3).float(), equal), (equal, normal(12, 3).float())):
        with pytest.raises(InputError, match=r"^all rows are equal on one side; there is nothing to correlate$"):
            measure(*pair)
    spoiled = normal(12, 3)
    spoiled[0, 0] = float("inf")
    with pytest.raises(NumbersError, match="y: not all finite; "):
        measure(normal(12, 3), spoiled)


@pytest.mark.parametrize("measure", [cca, svcca, pwcca])
def test_two_rows_are_too_few_for_a_correlation(measure):
    with pytest.raises(InputError, match=r"^a correlation needs 3 rows; got 2$"):
        measure(normal(2, 3), normal(2, 3))


def test_components_that_are_not_there_are_refused():
    x, y = related(60, 4, 7)
    for k in (0, 5):
        with pytest.raises(InputError, match=f"^these rows have 4 canonical components; got k = {k}$"):
            cca(x, y, k=k)
    with pytest.raises(InputError, match=r"^these rows have 1 canonical components; got k = 2$"):
        held_out_cca(x[:, :1] @ normal(1, 3), y, np.arange(60), k=2)
    with pytest.raises(InputError, match=r"^these rows have 4 canonical components; got k = 0$"):
        held_out_cca(x, y, np.arange(60), k=0)


def test_held_out_cca_needs_five_units_a_component():
    x, y = related(60, 4, 7)
    with pytest.raises(InputError, match=r"^held-out CCA needs 5 members a component: 10 for k = 2; got 9$"):
        held_out_cca(x, y, np.arange(60) % 9, k=2)
    assert np.isfinite(held_out_cca(x, y, np.arange(60) % 10, k=2))


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(keep):
    x, y = related(60, 4, 7)
    for call in (lambda: svcca(x, y, keep=keep), lambda: svcca_of_moments(joint_of(x, y), keep=keep)):
        with pytest.raises(InputError, match=f"^keep is a share of variance, above 0 and at most 1; got {keep}$"):
            call()


def test_moments_without_variance_on_a_side_are_refused():
    with pytest.raises(InputError, match=r"^all rows are equal on one side; there is nothing to correlate$"):
        svcca_of_moments(joint_of(torch.full((9, 3), 2.5), normal(9, 2)))
