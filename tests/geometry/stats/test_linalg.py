"""Linear algebra: scipy's answers, fixed signs, stated cut-offs."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.extmath import svd_flip

from geometry.stats.linalg import (
    RANK_TOLERANCE,
    centre,
    eigen,
    entry_signs,
    fix_signs,
    leading,
    leading_shares,
    remove_span,
    row_space,
)

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))


def matrix(n_rows, d, seed=0, rank=None):
    rng = np.random.default_rng([seed, n_rows, d])
    if rank is None:
        return rng.normal(size=(n_rows, d))
    return rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, d))


@given(shapes)
@settings(deadline=None, max_examples=50)
def test_eigenvalues_fall_and_rebuild_the_matrix(case):
    n_rows, d, seed = case
    x = matrix(n_rows, d, seed)
    values, vectors = eigen(x.T @ x)
    assert (np.diff(values) <= 0).all()
    assert (values >= 0).all()
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(d), atol=1e-12)
    np.testing.assert_allclose(vectors.T * values @ vectors, x.T @ x, atol=1e-11)
    np.testing.assert_allclose(values, scipy.linalg.eigvalsh(x.T @ x)[::-1].clip(min=0), atol=1e-11)
    assert (vectors.max(axis=1) >= -vectors.min(axis=1)).all()


def test_a_matrix_below_zero_has_eigenvalues_of_zero():
    values, _ = eigen(np.diag([3.0, -1e-9, -2.0]))
    np.testing.assert_array_equal(values, [3, 0, 0])


@given(shapes, st.integers(1, 14))
@settings(deadline=None, max_examples=50)
def test_what_leads_is_the_beginning_of_all(case, k):
    n_rows, d, seed = case
    scatter = matrix(n_rows, d, seed).T @ matrix(n_rows, d, seed)
    values, _ = eigen(scatter)
    first, directions = leading(scatter, k)
    assert len(first) == len(directions) == min(k, d)
    np.testing.assert_allclose(first, values[:k], atol=1e-11)
    np.testing.assert_allclose(directions @ scatter, first[:, None] * directions, atol=1e-10)
    np.testing.assert_allclose(directions @ directions.T, np.eye(len(first)), atol=1e-12)
    np.testing.assert_array_equal(directions, fix_signs(directions))
    np.testing.assert_allclose(leading_shares(scatter, k), values[:k] / values.sum(), atol=1e-12)


def test_of_nothing_nothing_leads():
    np.testing.assert_array_equal(leading_shares(np.zeros((3, 3)), 5), [0, 0, 0])


def test_signs_are_scikit_learns():
    x = matrix(9, 6)
    u, _, v = scipy.linalg.svd(x, full_matrices=False)
    np.testing.assert_array_equal(fix_signs(v), svd_flip(u, v, u_based_decision=False)[1])
    np.testing.assert_array_equal(fix_signs(-v), fix_signs(v))


def test_a_row_of_zeros_has_the_sign_one_and_a_tie_goes_to_the_first():
    np.testing.assert_array_equal(entry_signs(np.array([[0.0, 0], [2, -2], [-2, 2], [1, -3]])), [1, 1, -1, -1])
    np.testing.assert_array_equal(fix_signs(np.array([[0.0, 0], [1, -3]])), [[0, 0], [-1, 3]])


@given(shapes)
@settings(deadline=None, max_examples=50)
def test_the_row_space_rebuilds_the_matrix_from_orthonormal_sides(case):
    n_rows, d, seed = case
    x = matrix(n_rows, d, seed)
    u, s, v = row_space(x, tolerance=1e-12)
    np.testing.assert_allclose(u * s @ v, x, atol=1e-11)
    np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=1e-11)
    np.testing.assert_allclose(v @ v.T, np.eye(len(s)), atol=1e-11)
    np.testing.assert_allclose(s, scipy.linalg.svdvals(x)[: len(s)], atol=1e-12)
    assert (v.max(axis=1) >= -v.min(axis=1)).all()


@pytest.mark.parametrize(("n_rows", "d", "rank"), [(9, 6, 2), (6, 9, 3), (7, 7, 1)])
def test_the_row_space_has_the_planted_rank(n_rows, d, rank):
    x = matrix(n_rows, d, rank=rank)
    u, s, v = row_space(x)
    assert (u.shape, s.shape, v.shape) == ((n_rows, rank), (rank,), (rank, d))
    np.testing.assert_allclose(u * s @ v, x, atol=1e-12)
    assert np.linalg.matrix_rank(x) == rank


def test_the_cut_off_is_a_share_of_the_largest_singular_value():
    for scale in (1e-20, 1.0, 1e20):
        x = np.diag([1, 2 * RANK_TOLERANCE, RANK_TOLERANCE / 2]) * scale
        assert len(row_space(x)[1]) == 2
        assert len(row_space(x, tolerance=1e-7)[1]) == 3
        assert len(row_space(x, tolerance=0.5)[1]) == 1


@pytest.mark.parametrize("shape", [(4, 3), (0, 3)])
def test_a_matrix_of_zeros_or_of_no_rows_has_no_row_space(shape):
    u, s, v = row_space(np.zeros(shape))
    assert (u.shape, s.shape, v.shape) == ((shape[0], 0), (0,), (0, 3))


def test_what_is_left_is_orthogonal_to_the_span_and_removing_it_again_changes_nothing():
    x, span = matrix(10, 8), matrix(3, 8, seed=1)
    left = remove_span(x, span)
    np.testing.assert_allclose(left @ span.T, 0, atol=1e-12)
    np.testing.assert_allclose(remove_span(left, span), left, atol=1e-12)
    coefficients, *_ = np.linalg.lstsq(span.T, x.T, rcond=None)
    np.testing.assert_allclose(left, x - coefficients.T @ span, atol=1e-12)


def test_the_span_counts_and_not_its_generators():
    x, span = matrix(10, 8), matrix(3, 8, seed=1)
    mixed = np.vstack([matrix(3, 3, seed=2) @ span, span[:1], np.zeros((1, 8))])
    np.testing.assert_allclose(remove_span(x, mixed), remove_span(x, span), atol=1e-10)


def test_removing_nothing_leaves_the_rows_and_leading_axes_stay():
    x = matrix(12, 8).reshape(3, 4, 8).astype(np.float32)
    np.testing.assert_array_equal(remove_span(x, np.zeros((0, 8))), x)
    np.testing.assert_array_equal(remove_span(x, np.zeros((2, 8))), x)
    span = matrix(2, 8, seed=1)
    found = remove_span(x, span)
    assert (found.shape, found.dtype) == ((3, 4, 8), np.float64)
    np.testing.assert_allclose(found[1, 2], remove_span(x[1, 2], span), atol=1e-12)


def test_centring_is_in_float64_and_leaves_its_argument():
    x = (matrix(50, 4) + 1e4).astype(np.float32)
    before = x.copy()
    found = centre(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-11)
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(x.astype(np.float64), axis=0), atol=1e-11)
    np.testing.assert_array_equal(x, before)
