"""Demixing: every part by loops over cells, planted parts of known size, and what is not there."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError, NumbersError
from geometry.demixing import N_PERMUTATIONS, PARTS, demix
from tests.geometry.simulate import families

cases = st.tuples(st.integers(2, 3), st.integers(4, 5), st.integers(3, 5), st.integers(2, 6), st.integers(0, 1000))


def cells(n_families=2, n_contexts=4, n_members=4, d=5, seed=0):
    """Cells with something of everything, and a mean that is not zero."""
    rng = np.random.default_rng([seed, n_families, n_contexts, n_members, d])
    parts = [(1, 1, n_members), (n_families, 1, n_members), (n_families, 1, 1), (1, n_contexts, 1)]
    x = sum(rng.normal(size=(*shape, d)) for shape in parts) + 0.5 * rng.normal(
        size=(n_families, n_contexts, n_members, d)
    )
    return torch.from_numpy((x + 3).astype(np.float32))


def naive_shares(x):
    """Means over pairs of cells that share a part and nothing else, pair by pair."""
    x = x.double().numpy()
    n_f, n_c, n_m, _ = x.shape
    means = x.mean(axis=2)
    u = x - means[:, :, None]
    other_contexts = [(s, t) for s, t in product(range(n_c), repeat=2) if s != t]
    other_families = [(f, g) for f, g in product(range(n_f), repeat=2) if f != g]
    members = range(n_m)
    shared = np.mean([u[f, s, i] @ u[g, t, i] for f, g in other_families for s, t in other_contexts for i in members])
    own = np.mean([u[f, s, i] @ u[f, t, i] for f in range(n_f) for s, t in other_contexts for i in members])
    family_of = means - means.mean(axis=0)
    family = np.mean([family_of[f, s] @ family_of[f, t] for f in range(n_f) for s, t in other_contexts])
    template_of = means - means.mean(axis=1, keepdims=True)
    template = np.mean([template_of[f, s] @ template_of[g, s] for f, g in other_families for s in range(n_c)])
    deviations = x - x.mean(axis=(0, 1, 2))
    total = np.mean([deviations[cell] @ deviations[cell] for cell in np.ndindex(n_f, n_c, n_m)])
    parts = [shared, own - shared, family, template]
    return np.array([*parts, total - sum(parts)]) / total, total


@given(cases)
@settings(deadline=None, max_examples=12)
def test_the_shares_are_means_over_pairs_of_cells(case):
    x = cells(*case)
    result, (truth, total) = demix(x), naive_shares(x)
    np.testing.assert_allclose(result.share, truth, atol=1e-9)
    assert result.total == pytest.approx(total)
    assert result.share.sum() == pytest.approx(1)
    assert dict(result.shares) == dict(zip(PARTS, result.share.tolist(), strict=True))


def test_the_errors_are_a_jackknife_over_members_and_missing_below_five():
    x = cells(n_members=6)
    left = np.stack([naive_shares(x[:, :, [j for j in range(6) if j != i]])[0] for i in range(6)])
    by_hand = np.sqrt(5 / 6 * np.square(left - left.mean(axis=0)).sum(axis=0))
    np.testing.assert_allclose(demix(x).se, by_hand, rtol=1e-6)
    assert np.isnan(demix(cells(n_members=4)).se).all()
    assert np.isfinite(demix(cells(n_members=5)).se).all()


@pytest.mark.parametrize(("cosine", "shared"), [(1.0, 1.0), (0.6, 0.6), (0.0, 0.0)])
def test_planted_parts_have_their_sizes_whatever_the_noise(cosine, shared):
    """Index and family 1, context 2, noise 4: the family part loses what two families' mean takes, 1/2."""
    found = [demix(families(cosine=cosine, n_contexts=12, d=100, context=2.0, noise=4.0, seed=s)) for s in range(5)]
    shares = np.mean([one.share * one.total for one in found], axis=0)
    np.testing.assert_allclose(shares[:2], [shared, 1 - shared], atol=0.06)
    assert shares[2] == pytest.approx(0.5, abs=0.1)
    assert shares[3] == pytest.approx(2 * 11 / 12, abs=0.2)


def test_p_is_at_its_floor_for_a_shared_index_and_not_for_private_ones():
    floor = 1 / N_PERMUTATIONS
    assert [demix(families(cosine=0.6, seed=seed)).p for seed in range(5)] == [floor] * 5
    private = []
    for seed in range(40):
        pair = [families(n_families=1, n_contexts=4, d=12, seed=2 * seed + side, context=0.0) for side in (0, 1)]
        private.append(demix(torch.cat(pair)).p)
    assert np.mean(np.array(private) <= 0.05) < 0.15
    assert 0.3 < np.mean(private) < 0.7


def test_the_null_permutes_each_familys_members_and_begins_with_the_truth():
    x = cells(n_families=2, n_members=3)
    result = demix(x)
    assert len(result.null) == N_PERMUTATIONS
    assert result.null[0] == pytest.approx(result.share[0])
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    possible = [naive_shares(torch.stack([x[0], x[1][:, order]]))[0][0] for order in orders]
    distance = np.abs(result.null[:, None] - np.array(possible))
    assert distance.min(axis=1).max() < 1e-9
    assert set(distance.argmin(axis=1)) == set(range(6))
    assert result.p == pytest.approx(np.mean(result.null >= result.null[0] - 1e-9))


def test_the_planted_index_subspace_is_found_and_is_stable_and_captures_what_is_shared():
    for seed in range(3):
        clean = families(noise=0.0, family=0.0, context=0.0, seed=seed)[0, 0].double()
        planted = torch.linalg.svd(clean - clean.mean(dim=0), full_matrices=False)[2][:3]
        result = demix(families(n_contexts=12, noise=0.3, seed=seed), k=4)
        found = result.index.directions.double()
        assert torch.linalg.svdvals(found[:3] @ planted.T).min() > 0.97
        assert (result.stability[:3] > 0.9).all()
        assert result.captured[2] == pytest.approx(1, abs=0.06)
        assert result.captured[0] < 0.95
        assert abs(result.captured[3] - result.captured[2]) < 0.02


def test_the_family_subspace_holds_the_families_means_and_nothing_else():
    x = families(n_families=3, n_contexts=12, noise=0.1, seed=1)
    means = x.double().mean(dim=(1, 2))
    directions = demix(x).family.directions.double()
    assert directions.shape == (2, 64)
    apart = means - means.mean(dim=0)
    torch.testing.assert_close(apart @ directions.T @ directions, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 4, 4, 5), (3, 5, 5, 90)])
def test_bases_are_orthonormal_around_the_grand_mean_with_signs_fixed(shape):
    x = cells(*shape)
    result = demix(x)
    for basis in (result.index, result.family):
        torch.testing.assert_close(
            basis.directions @ basis.directions.T, torch.eye(len(basis.directions)), atol=1e-5, rtol=0
        )
        assert (basis.directions.max(dim=1).values >= -basis.directions.min(dim=1).values).all()
        torch.testing.assert_close(
            basis.encode(x.mean(dim=(0, 1, 2))), torch.zeros(len(basis.directions)), atol=1e-4, rtol=0
        )
    assert len(result.index.directions) == min(4, shape[2] - 1, shape[3])


@given(cases, st.floats(0.01, 100))
@settings(deadline=None, max_examples=8)
def test_rotation_scale_shift_and_the_order_of_anything_change_no_share(case, scale):
    x = cells(*case)
    share = demix(x).share
    rng = np.random.default_rng(case[4])
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(case[3], case[3])))[0])
    np.testing.assert_allclose(demix(scale * x.double() @ turn + 5).share, share, atol=1e-6)
    orders = [torch.from_numpy(rng.permutation(n)) for n in x.shape[:3]]
    moved = x[orders[0]][:, orders[1]][:, :, orders[2]]
    np.testing.assert_allclose(demix(moved).share, share, atol=1e-9)


def test_a_rotation_of_one_family_makes_a_shared_index_private():
    x = families(n_contexts=6, d=128)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0]).float()
    before, after = demix(x).shares, demix(torch.stack([x[0], x[1] @ turn])).shares
    assert before["shared index"] > 0.25
    assert abs(after["shared index"]) < 0.1
    assert after["index x family"] > before["index x family"] + 0.2


def test_a_float32_mean_of_ten_thousand_times_the_spread_and_constant_dimensions_cost_no_digits():
    x = cells() + 1e4
    near = x.double() - 1e4
    np.testing.assert_allclose(demix(x).share, demix(near).share, atol=1e-9)
    wider = torch.cat([near, torch.full((2, 4, 4, 3), -7.5, dtype=torch.float64)], dim=3)
    np.testing.assert_allclose(demix(wider).share, demix(near).share, atol=1e-9)


def test_the_seed_sets_the_null_alone():
    x = cells(n_members=5)
    one, again, other = (demix(x, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.null, again.null)
    assert (one.null[1:] != other.null[1:]).any()
    np.testing.assert_array_equal(one.share, other.share)


def test_cells_that_cannot_be_split_are_refused():
    for shape, counts in (((1, 4, 3), "1, 4 and 3"), ((2, 3, 3), "2, 3 and 3"), ((2, 4, 2), "2, 4 and 2")):
        with pytest.raises(InputError, match=f"^demix needs 2 families, 4 contexts and 3 members; got {counts}$"):
            demix(torch.ones(*shape, 5))
    assert np.isfinite(demix(cells(2, 4, 3)).share).all()
    with pytest.raises(InputError, match=r"^all activations are equal; there is no variance to split$"):
        demix(torch.full((2, 4, 3, 5), 2.7))
    gap = cells()
    gap[1, 2, 3] = float("nan")
    message = r"^the activations are not all finite; every family needs every member in every context$"
    with pytest.raises(NumbersError, match=message):
        demix(gap)
