"""CKA, RSA, Procrustes and principal angles: what they are blind to, what they are not, and slow obvious versions."""

import inspect
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError, NumbersError
from geometry.similarity.of_rows import (
    centred_gram,
    cka_of_moments,
    dissimilarity_ranks,
    linear_cka,
    linear_cka_debiased,
    matrix_cosine,
    principal_angles,
    procrustes,
    rsa,
    u_centred_gram,
)
from tests.geometry.joint_moments import joint_of


def euclidean(x, y):
    return rsa(x, y, distance="euclidean")


def cosine(x, y):
    return rsa(x, y, distance="cosine")


MEASURES = [linear_cka, linear_cka_debiased, procrustes, rsa, cosine, euclidean]
BLIND = [linear_cka, linear_cka_debiased, procrustes, euclidean]  # to rotation, isotropic scale and shift
SHAPES = [(12, 5), (12, 40), (60, 8)]

cases = st.tuples(st.integers(10, 25), st.integers(2, 40), st.integers(0, 1000))


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def related(n_rows, d, seed=0):
    """Two sets of rows with something in common, of unlike widths."""
    x = normal(n_rows, d, seed=seed)
    return x, x @ normal(d, d + 1, seed=seed + 1) + normal(n_rows, d + 1, seed=seed + 2) * d**0.5 + 3


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_rows_are_as_similar_as_can_be_to_themselves(measure, n_rows, d):
    x, y = related(n_rows, d)
    assert measure(x, x) == pytest.approx(1)
    assert measure(x, y) < 0.97


@pytest.mark.parametrize("measure", MEASURES)
@given(cases)
@settings(deadline=None, max_examples=20)
def test_neither_the_order_of_the_sides_nor_a_common_order_of_rows_matters(measure, case):
    n_rows, d, seed = case
    x, y = related(n_rows, d, seed)
    value = measure(x, y)
    assert -1 <= value <= 1 + 1e-9
    assert measure(y, x) == pytest.approx(value, abs=1e-9)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n_rows))
    assert measure(x[order], y[order]) == pytest.approx(value, abs=1e-9)
    orders = [
        np.random.default_rng([seed, i]).permutation(n_rows) for i in range(8)
    ]  # one may give equal ranks by chance
    assert any(abs(measure(x[torch.from_numpy(one)], y) - value) > 1e-9 for one in orders)


@pytest.mark.parametrize("measure", BLIND)
@given(cases, st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_rotation_isotropic_scale_and_shift_of_one_side_change_nothing(measure, case, scale):
    n_rows, d, seed = case
    x, y = related(n_rows, d, seed)
    turned = scale * (x @ rotation(d, seed) + normal(d, seed=seed + 5))
    assert measure(turned, x) == pytest.approx(1)
    assert measure(turned, y) == pytest.approx(measure(x, y), abs=1e-8)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_invertible_linear_map_of_one_side_does_change_them(measure):
    x, _ = related(60, 8)
    assert measure(x @ torch.diag(torch.tensor([30.0, 10, 3, 1, 1, 1, 0.3, 0.1], dtype=torch.float64)), x) < 0.85


def test_rsa_by_cosine_is_blind_to_rotation_and_scale_and_not_to_shift():
    x, y = related(20, 8)
    assert cosine(3 * x @ rotation(8), y) == pytest.approx(cosine(x, y))
    assert abs(cosine(x + 2, y) - cosine(x, y)) > 0.01


def test_rsa_by_correlation_is_blind_to_scale_and_to_what_is_added_to_all_dimensions_but_not_to_rotation():
    x, y = related(20, 8)
    assert rsa(3 * x + normal(20, 1), y) == pytest.approx(rsa(x, y))
    assert abs(rsa(x @ rotation(8), y) - rsa(x, y)) > 0.01
    assert abs(rsa(x + normal(8), y) - rsa(x, y)) > 0.01


@pytest.mark.parametrize("n_rows", [10, 12, 20])
def test_independent_noise_is_near_0_for_debiased_cka_and_near_1_for_the_biased_one(n_rows):
    pairs = [(normal(n_rows, 200, seed=2 * s), normal(n_rows, 200, seed=2 * s + 1)) for s in range(80)]
    debiased = np.array([linear_cka_debiased(*pair) for pair in pairs])
    biased = np.array([linear_cka(*pair) for pair in pairs])
    assert abs(debiased.mean()) < 3 * debiased.std() / np.sqrt(80)
    assert (debiased < 0).any()
    assert biased.mean() == pytest.approx(200 / (200 + n_rows), abs=0.02)


def test_debiased_cka_has_the_value_that_many_rows_give_even_where_rows_are_few():
    """A shared code in noise: the value stays where rows are few, and the biased one climbs."""
    directions, values = normal(3, 100), {}
    for n_rows, runs in ((15, 60), (1500, 1)):
        pairs = []
        for seed in range(runs):
            z = normal(n_rows, 3, seed=seed) @ directions
            pairs.append([z + 3 * normal(n_rows, 100, seed=seed + side) for side in (100, 200)])
        values[n_rows] = [np.mean([measure(*pair) for pair in pairs]) for measure in (linear_cka, linear_cka_debiased)]
    assert 0.5 < values[1500][1] < 0.8
    assert values[15][1] == pytest.approx(values[1500][1], abs=0.08)
    assert values[15][0] > values[15][1] + 0.1


def test_cka_is_hsic_by_loops_over_pairs_of_rows():
    def hsic(k, g):
        """Eq. 2 of Gretton et al. 2005 with every centred entry written out."""
        n = len(k)

        def centred(m, i, j):
            return m[i, j] - sum(m[i]) / n - sum(m[:, j]) / n + m.sum() / n**2

        return sum(centred(k, i, j) * centred(g, i, j) for i in range(n) for j in range(n))

    for n_rows, d in ((7, 4), (7, 30)):
        x, y = related(n_rows, d)
        k, g = (x @ x.T).numpy(), (y @ y.T).numpy()
        assert linear_cka(x, y) == pytest.approx(hsic(k, g) / np.sqrt(hsic(k, k) * hsic(g, g)))


def test_debiased_cka_is_song_and_others_unbiased_hsic_by_loops():
    def hsic(k, g):
        """Eq. 5 of Song et al. 2012, sum by sum."""
        n = len(k)
        k, g = k * (1 - np.eye(n)), g * (1 - np.eye(n))
        trace = sum(k[i, j] * g[j, i] for i in range(n) for j in range(n))
        sums = sum(k[i, j] for i in range(n) for j in range(n)) * sum(g[i, j] for i in range(n) for j in range(n))
        chains = sum(k[i, j] * g[j, q] for i in range(n) for j in range(n) for q in range(n))
        return (trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * chains) / (n * (n - 3))

    for n_rows, d in ((10, 4), (11, 60)):
        x, y = related(n_rows, d)
        k, g = (x @ x.T).numpy(), (y @ y.T).numpy()
        assert linear_cka_debiased(x, y) == pytest.approx(hsic(k, g) / np.sqrt(hsic(k, k) * hsic(g, g)), rel=1e-8)


@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean"])
def test_rsa_is_spearmans_rho_of_the_distances(n_rows, d, distance):
    x, y = related(n_rows, d)
    pairs = [scipy.spatial.distance.pdist(z.numpy(), distance) for z in (x, y)]
    assert rsa(x, y, distance=distance) == pytest.approx(scipy.stats.spearmanr(*pairs).statistic)


def test_rsa_of_tied_distances_is_still_spearmans():
    x, y = (torch.from_numpy(np.random.default_rng(s).integers(0, 3, size=(12, 2)).astype(np.float32)) for s in (0, 1))
    pairs = [scipy.spatial.distance.pdist(z.numpy(), "euclidean") for z in (x, y)]
    assert len(np.unique(pairs[0])) < 10
    assert euclidean(x, y) == pytest.approx(scipy.stats.spearmanr(*pairs).statistic)


@pytest.mark.parametrize(("n_rows", "d"), [(12, 5), (12, 40)])
def test_rsatoolbox_gives_the_same_rsa_cka_and_procrustes(n_rows, d):
    """Cosine of whitened squared distances is linear CKA; the Bures similarity is Procrustes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm, compare

        x, y = related(n_rows, d)
        squared, correlation = (
            [calc_rdm(Dataset(z.numpy()), method=method) for z in (x, y)] for method in ("euclidean", "correlation")
        )
        theirs = {
            euclidean: compare(*squared, method="spearman"),
            rsa: compare(*correlation, method="spearman"),
            linear_cka: compare(*squared, method="cosine_cov"),
            procrustes: compare(*squared, method="bures"),
        }
    for measure, value in theirs.items():
        assert measure(x, y) == pytest.approx(value.item(), abs=1e-6)


@pytest.mark.parametrize(("n_rows", "d"), [(12, 6), (12, 40), (60, 6)])
def test_procrustes_is_scipys(n_rows, d):
    x = normal(n_rows, d)
    y = x @ rotation(d) * 4 + normal(n_rows, d, seed=1)
    a, b = ((z - z.mean(dim=0)).numpy() for z in (x, y))
    turn, total = scipy.linalg.orthogonal_procrustes(a, b)
    value = procrustes(x, y)
    assert value == pytest.approx(total / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert value == pytest.approx(np.vdot(a @ turn, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert value == pytest.approx(np.sqrt(1 - scipy.spatial.procrustes(a, b)[2]))


@pytest.mark.parametrize("measure", [linear_cka, linear_cka_debiased, procrustes, euclidean])
@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_columns_without_variance_or_with_a_millionth_of_it_take_no_part(measure, n_rows, d):
    x, y = (z.float() for z in related(n_rows, d))
    wider = torch.cat([x, torch.full((n_rows, 3), -777.7), 1e-6 * normal(n_rows, 2).float()], dim=1)
    assert measure(wider, y) == pytest.approx(measure(x, y), abs=1e-5)


@pytest.mark.parametrize("measure", [linear_cka, linear_cka_debiased, procrustes, euclidean])
@pytest.mark.parametrize(("n_rows", "d"), SHAPES)
def test_a_float32_mean_of_ten_thousand_times_the_spread_costs_no_digits(measure, n_rows, d):
    x, y = related(n_rows, d)
    far = (x + 1e4).float()
    near = far.double() - 1e4
    assert measure(far, y.float()) == pytest.approx(measure(near, y.float().double()), abs=1e-7)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_side_without_variance_has_no_similarity(measure):
    x, _ = related(12, 5)
    constant = x.float()[:1].repeat(12, 1)
    assert np.isnan(measure(constant, x.float()))
    assert np.isnan(measure(x.float(), constant))


def test_cka_of_moments_is_that_of_the_rows():
    for n_rows, d in ((12, 5), (12, 40), (300, 8)):
        x, y = related(n_rows, d)
        assert cka_of_moments(joint_of(x, y)) == pytest.approx(linear_cka(x, y))
    assert np.isnan(cka_of_moments(joint_of(torch.ones(5, 2), normal(5, 3))))


def test_gram_matrices_are_centred_and_u_centred_ones_have_empty_diagonals():
    x, _ = related(12, 5)
    np.testing.assert_allclose(centred_gram(x).sum(axis=0), 0, atol=1e-9)
    u_centred = u_centred_gram(x)
    np.testing.assert_allclose(u_centred.sum(axis=0), 0, atol=1e-9)
    np.testing.assert_array_equal(u_centred.diagonal(), 0)
    ranks = dissimilarity_ranks(x)
    assert ranks.sum() == pytest.approx(0)
    np.testing.assert_array_equal(ranks.diagonal(), 0)


def test_the_cosine_of_matrices_is_that_of_their_entries():
    assert matrix_cosine(np.array([[3.0, 0], [0, 4]]), np.array([[1.0, 0], [0, 0]])) == pytest.approx(0.6)
    assert matrix_cosine(np.eye(2), -np.eye(2)) == pytest.approx(-1)
    assert np.isnan(matrix_cosine(np.zeros((2, 2)), np.eye(2)))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_principal_angles_are_scipys_from_the_smallest(k_a, k_b, seed):
    a, b = normal(k_a, 9, seed=seed), normal(k_b, 9, seed=seed + 1)
    theirs = scipy.linalg.subspace_angles(a.numpy().T, b.numpy().T)[::-1]
    np.testing.assert_allclose(principal_angles(a, b), theirs, atol=1e-8)
    np.testing.assert_allclose(principal_angles(b, a), theirs, atol=1e-8)


def test_planted_angles_are_found_whatever_spans_the_subspaces():
    axes, truth = rotation(12)[:6], np.array([0.0, 0.3, 1.2])
    other = axes[:3] * torch.from_numpy(np.cos(truth))[:, None] + axes[3:] * torch.from_numpy(np.sin(truth))[:, None]
    np.testing.assert_allclose(principal_angles(axes[:3], other), truth, atol=1e-7)
    np.testing.assert_allclose(principal_angles(normal(5, 3) @ axes[:3], normal(3, 3) @ other), truth, atol=1e-6)
    np.testing.assert_allclose(principal_angles(axes[:2], axes[2:5]), np.pi / 2)


def raw(function):
    """The function as users call it, without the shape checks that run during tests."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("measure", [linear_cka, procrustes, linear_cka_debiased, rsa])
def test_sides_of_unlike_rows_or_with_numbers_that_are_not_finite_are_refused(measure):
    with pytest.raises(InputError, match=r"^x and y need the same rows; got 12 and 11$"):
        raw(measure)(normal(12, 3), normal(11, 3))
    for value in (float("nan"), float("inf")):
        spoiled = normal(12, 3)
        spoiled[3, 1] = value
        for pair in ((spoiled, normal(12, 3)), (normal(12, 3), spoiled)):
            with pytest.raises(NumbersError, match=r"[xy]: not all finite; "):
                measure(*pair)


@pytest.mark.parametrize(
    ("measure", "least", "message"),
    [
        (linear_cka, 3, "a similarity needs 3 rows; got 2"),
        (procrustes, 3, "a similarity needs 3 rows; got 2"),
        (linear_cka_debiased, 10, "debiased CKA needs 10 rows; got 9"),
        (rsa, 4, "RSA needs 4 rows; got 3"),
    ],
)
def test_too_few_rows_are_refused_and_the_least_number_is_enough(measure, least, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        measure(normal(least - 1, 5), normal(least - 1, 5, seed=1))
    assert np.isfinite(measure(normal(least, 5), normal(least, 5, seed=1)))


def test_an_unknown_distance_is_refused():
    with pytest.raises(InputError, match=r"^distance is correlation, cosine or euclidean; got 'cityblock'$"):
        rsa(normal(5, 3), normal(5, 3), distance="cityblock")


def test_directions_that_span_nothing_together_are_refused():
    with pytest.raises(InputError, match=r"^the directions need the same width; got 3 and 4$"):
        principal_angles(normal(2, 3), normal(2, 4))
    with pytest.raises(InputError, match=r"^the second directions are all 0; they span nothing$"):
        principal_angles(normal(2, 3), torch.zeros(2, 3))
    with pytest.raises(NumbersError, match=r"^the first directions: not all finite; "):
        principal_angles(torch.full((2, 3), float("nan")), normal(2, 3).float())
