"""Demixing: every part by loops over cells, planted parts of known size, and what is not there."""

import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError, NumbersError
from geometry.bases.demixing import PARTS, demix
from geometry.similarity.sharing_null import studentised
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.unrelated_codes import (
    draw_directions,
    draw_weights,
    expected_spread,
    mean_code,
    unrelated_codes,
    unrelated_products,
)
from tests.geometry.simulate import families
from tests.geometry.unrelated_families import KINDS, codes, mixed
from tests.geometry.unrelated_families import cells as cells_of
from tests.type_one import in_range
from tests.variants import some

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


@pytest.mark.parametrize(("cosine", "shared"), [(1.0, 1.0), (0.6, 0.6), (0.0, 0.0)])
def test_planted_parts_have_their_sizes_whatever_the_noise(cosine, shared):
    """Index and family 1, context 2, noise 4: the family part loses what two families' mean takes, 1/2."""
    found = [demix(families(cosine=cosine, n_contexts=12, d=100, context=2.0, noise=4.0, seed=s)) for s in range(5)]
    shares = np.mean([one.share * one.total for one in found], axis=0)
    np.testing.assert_allclose(shares[:2], [shared, 1 - shared], atol=0.06)
    assert shares[2] == pytest.approx(0.5, abs=0.1)
    assert shares[3] == pytest.approx(2 * 11 / 12, abs=0.2)


def drawn(rng, n_members, n_families=3, n_draws=100, n_layers=1):
    """Directions from 20 windowed control families at every layer."""
    controls = [cells_of(rng, codes(rng, "windowed", n_members, n_layers)) for _ in range(20)]
    weights = draw_weights(n_draws * (n_families - 1), n_members, 20 * n_members, seed=int(rng.integers(1_000_000)))
    return [draw_directions([mean_code(one[layer]) for one in controls], weights) for layer in range(n_layers)]


def test_without_directions_there_is_no_p():
    result = demix(families())
    assert len(result.null) == 0
    assert np.isnan(result.p)


def test_p_is_at_its_floor_for_an_index_that_is_shared():
    rng = np.random.default_rng(0)
    code = codes(rng, "walk", 7, 1)
    x = torch.stack([cells_of(rng, mixed(rng, code, "walk", 0.8))[0] for _ in range(3)])
    result = demix(x, directions=drawn(rng, 7)[0])
    assert len(result.null) == 200
    assert result.p == 1 / 201
    assert result.share[0] > 0.2


def test_what_rounding_leaves_of_members_that_are_all_alike_is_no_index():
    """As the embedding of a last token that frames choose: means of equal numbers are not equal to the last bit."""
    context = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 6, 1, 33))).float()
    controls = [np.random.default_rng(i).normal(size=(7, 33)) for i in range(10)]
    drawn = draw_directions(controls, draw_weights(99, 7, 70))
    result = demix((context / 3).expand(2, 6, 7, 33) + 0.1, directions=drawn)
    assert result.share[:3].tolist() == [0, 0, 0]
    assert result.share[3] == pytest.approx(1)
    assert result.p == 1
    assert rank_p_over_layers(result.studentised[None]).tolist() == [1]


def test_of_two_families_the_null_is_that_of_their_matched_products():
    rng = np.random.default_rng(1)
    x, y = (cells_of(rng, codes(rng, "line", 6, 1))[0] for _ in range(2))
    (directions,) = drawn(rng, 6, n_families=2)
    result = demix(torch.stack([x, y]), directions=directions)
    products = [unrelated_products(mean_code(a), mean_code(b), directions) for a, b in ((x, y), (y, x))]
    np.testing.assert_allclose(result.null * result.total, np.concatenate(products) / 6, rtol=1e-3)
    np.testing.assert_allclose(result.studentised, studentised(x, y, directions), rtol=1e-3, atol=1e-6)


def test_of_three_families_each_draw_is_in_the_spread_that_its_own_structure_has():
    rng = np.random.default_rng(2)
    x = torch.stack([cells_of(rng, codes(rng, "walk", 6, 1))[0] for _ in range(3)])
    (directions,) = drawn(rng, 6, n_families=3)
    result, families = demix(x, directions=directions), [mean_code(one) for one in x]
    halves = [replace(directions, drawn=half) for half in np.split(directions.drawn, 2)]
    expected, own = [], 0.0
    for a, b, c in (families, families[::-1]):
        steps = ((a, b, halves[0]), (a + b, c, halves[1]))
        made = [unrelated_codes(new, half) @ half.axes for _, new, half in steps]
        own += sum(expected_spread(before, new, half) ** 2 / 2 for before, new, half in steps)
        for pair in zip(*made, strict=True):
            product = sum(np.vdot(before, code) for (before, _, _), code in zip(steps, pair, strict=True))
            squares = [expected_spread(s[0], code, s[2]) ** 2 for s, code in zip(steps, pair, strict=True)]
            expected.append(product / np.sqrt(np.sum(squares)))
    np.testing.assert_allclose(result.studentised[1:], expected, rtol=2e-3, atol=1e-4)
    assert result.studentised[0] == pytest.approx(result.share[0] * result.total * 18 / np.sqrt(own))


def false_alarms(kind, n_members, n_layers, n_worlds, seed=0):
    """In how many worlds three unrelated families have a shared index at p <= .05: at one layer, and over all."""
    rng = np.random.default_rng([seed, n_members, n_layers])
    found = []
    for _ in range(n_worlds):
        directions = drawn(rng, n_members, n_layers=n_layers)
        x = torch.stack([torch.stack(cells_of(rng, codes(rng, kind, n_members, n_layers))) for _ in range(3)])
        split = [demix(x[:, layer], directions=one) for layer, one in enumerate(directions)]
        found.append(
            (split[0].p <= 0.05, rank_p_over_layers(np.stack([one.studentised for one in split])).min() <= 0.05)
        )
    return np.sum(found, axis=0)


@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_unrelated_families_rarely_share_an_index(kind):
    assert all(in_range(count, 40) for count in false_alarms(kind, 7, 2, 40))


@pytest.mark.slow
@pytest.mark.parametrize(("n_layers", "n_worlds"), [(1, 1000), (8, 500), (30, 200)])
@pytest.mark.parametrize("n_members", [5, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_type_one_error_in_full(kind, n_members, n_layers, n_worlds):
    one, over = false_alarms(kind, n_members, n_layers, n_worlds, seed=1)
    rates = f"{one / n_worlds:.3f} at one, {over / n_worlds:.3f} over all of {n_worlds}"
    sys.stdout.write(f"type I demix {kind} n={n_members} layers={n_layers}: {rates}\n")
    assert in_range(one, n_worlds)
    assert in_range(over, n_worlds)


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


def test_cells_that_cannot_be_split_are_refused():
    for shape, counts in (((1, 4, 3), "1, 4 and 3"), ((2, 3, 3), "2, 3 and 3"), ((2, 4, 2), "2, 4 and 2")):
        with pytest.raises(InputError, match=f"^demix needs 2 families, 4 contexts and 3 members; got {counts}$"):
            demix(torch.ones(*shape, 5))
    assert np.isfinite(demix(cells(2, 4, 3)).share).all()
    with pytest.raises(InputError, match=r"^all activations are equal; there is no variance to split$"):
        demix(torch.full((2, 4, 3, 5), 2.7))
    gap = cells()
    gap[1, 2, 3] = float("nan")
    message = r"^x: not all finite; .* of 2 families: leave these out "
    with pytest.raises(NumbersError, match=message):
        demix(gap)
