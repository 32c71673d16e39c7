"""The measures of a comparison: every null begins with the value and is the measure of members in each order."""

import numpy as np
import pytest
import torch

from geometry.bases.canonical import held_out_cca
from geometry.similarity.family_measures import MEASURES, cell_rows, member_means
from geometry.similarity.of_rows import linear_cka, principal_angles
from geometry.stats.permutations import member_permutations, permutation_p
from tests.geometry.simulate import families

ORDERS = member_permutations(10, most=6, seed=1)

PERMUTED = [name for name in MEASURES if name != "principal_angles"]


def pair_of(n_contexts=3, n_members=10, d=8, seed=0):
    x, y = families(cosine=0.6, n_contexts=n_contexts, n_members=n_members, d=d, rank=2, noise=1.0, seed=seed)
    return x, y


@pytest.mark.parametrize("name", PERMUTED)
@pytest.mark.parametrize("d", [8, 40])
def test_the_null_is_the_measure_of_ys_members_in_every_order(name, d):
    measure, (x, y) = MEASURES[name], pair_of(d=d)
    null = measure.permuted(x, y, ORDERS)
    brute_force = [measure.value(x, y[:, order.tolist()]) for order in ORDERS]
    np.testing.assert_allclose(null, brute_force, atol=1e-9)
    assert null[0] == pytest.approx(measure.value(x, y), abs=1e-12)
    few_rows = name == "pwcca" and d == 40  # 30 rows of 40 dimensions correlate perfectly in any order
    assert len(set(np.round(null, 9))) == 1 if few_rows else len(set(np.round(null, 9))) > 1


def test_the_angles_between_subspaces_know_no_order_and_have_no_null_but_their_value():
    measure, (x, y) = MEASURES["principal_angles"], pair_of()
    assert measure.permuted(x, y, ORDERS).tolist() == [measure.value(x, y)]
    for order in ORDERS:
        assert measure.value(x, y[:, order.tolist()]) == pytest.approx(measure.value(x, y))


def test_the_angles_are_those_of_the_first_four_directions_of_the_members_means():
    x, y = pair_of(d=40)
    spans = [torch.linalg.svd(member_means(z), full_matrices=False)[2][:4] for z in (x, y)]
    truth = np.mean(np.cos(principal_angles(*spans)) ** 2)
    assert MEASURES["principal_angles"].value(x, y) == pytest.approx(truth)
    few = pair_of(n_members=3, d=40)
    spans = [torch.linalg.svd(member_means(z), full_matrices=False)[2][:2] for z in few]
    assert MEASURES["principal_angles"].value(*few) == pytest.approx(np.mean(np.cos(principal_angles(*spans)) ** 2))


@pytest.mark.parametrize("name", MEASURES)
def test_a_familys_measure_with_itself_is_as_high_as_can_be(name):
    x = families(noise=1e-4, n_members=10)[0]
    assert MEASURES[name].value(x, x) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", MEASURES)
def test_what_a_whole_context_has_in_common_changes_no_measure(name):
    x, y = pair_of()
    effects = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 1, 8)))
    moved = MEASURES[name].value(x.double() + 10 * effects[0], y.double() + 10 * effects[1])
    assert moved == pytest.approx(MEASURES[name].value(x, y), abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_the_least_members_are_enough(name):
    measure = MEASURES[name]
    x, y = pair_of(n_members=measure.least_members)
    assert np.isfinite(measure.value(x, y))
    assert np.isfinite(measure.permuted(x, y, member_permutations(measure.least_members, most=3))).all()


@pytest.mark.parametrize("name", PERMUTED)
def test_a_planted_code_stands_out_from_its_null_but_for_svcca_which_averages_noise_in(name):
    x, y = families(n_members=12, n_contexts=6, d=40, noise=0.3)
    p = permutation_p(MEASURES[name].permuted(x, y, member_permutations(12, most=30)))
    assert p > 0.1 if name == "svcca" else p < 0.1
    assert p == 1 / 30 or name in ("cca", "svcca")  # 30 orders; held-out CCA has one more above


def test_only_those_that_keep_coordinates_decide():
    assert [name for name, measure in MEASURES.items() if measure.decides] == [
        "matched_cosine",
        "shared_share",
        "retrieval",
    ]
    x, _ = families(n_members=10, d=128)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(128, 128)))[0]).float()
    for measure in MEASURES.values():
        if measure.decides:
            assert measure.value(x, x @ turn) < 0.5
    for name in ("cka", "cka_debiased", "procrustes", "cca", "svcca"):
        assert MEASURES[name].value(x, x @ turn) > 0.9


@pytest.mark.parametrize("name", ["matched_cosine", "shared_share", "cka", "cka_debiased", "rsa", "procrustes"])
def test_without_an_index_effect_there_is_neither_value_nor_null(name):
    x, _ = pair_of()
    still = x[:, :1].repeat(1, 10, 1)
    assert np.isnan(MEASURES[name].value(still, still))
    assert np.isnan(MEASURES[name].permuted(still, still, ORDERS)).all()


def test_an_effect_that_does_not_recur_on_either_side_has_no_null_either():
    """Both ceilings are negative, and their product is not."""
    x, _ = pair_of(n_contexts=2)
    opposite = torch.stack([x[0], -x[0]])
    assert np.isnan(MEASURES["matched_cosine"].value(opposite, opposite))
    assert np.isnan(MEASURES["matched_cosine"].permuted(opposite, opposite, ORDERS)).all()


def test_member_means_and_cell_rows_are_what_they_are_called():
    x, y = (z.double() for z in pair_of())
    centred = x.numpy() - x.numpy().mean(axis=1, keepdims=True)
    np.testing.assert_allclose(member_means(x), centred.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(cell_rows(x)[13], centred[1, 3], atol=1e-12)
    assert cell_rows(x).shape == (30, 8)
    assert MEASURES["cka"].value(x, y) == linear_cka(member_means(x), member_means(y))
    members = np.array([i for _ in range(3) for i in range(10)])
    assert MEASURES["cca"].value(x, y) == held_out_cca(cell_rows(x), cell_rows(y), members)


def test_held_out_cca_of_cells_without_anything_in_common_is_near_0():
    values = [
        MEASURES["cca"].value(
            *(torch.from_numpy(np.random.default_rng([s, i]).normal(size=(6, 9, 20))) for i in (0, 1))
        )
        for s in range(60)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert np.mean(values) < 0.1
