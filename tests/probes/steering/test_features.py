"""Steps through features: the mean difference where nothing is lost, few features, and others in their place."""

import numpy as np
import pytest
import torch

from cache.errors import InputError
from geometry.bases.basis import orthonormal_basis
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.estimators import mean_differences
from probes.steering.directions import gather_material, steps_at
from probes.steering.features import N_NEAR, feature_parts, feature_step, in_their_place
from probes.steering.settings import Grid
from probes.steering.sweep import sweep
from tests.probes.planted_model import N_CODES, planted_model, planted_prompts, planted_store
from tests.probes.sae.saved import SITE, halves


@pytest.fixture(scope="module")
def planted(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    model = planted_model(tokenizer, folder / "planted")
    with planted_store(model, planted_prompts(("digits", "numwords", "months"), templates=3), folder / "a.h5") as store:
        yield store, model, contrast(store.view(), "digits", "numwords")


def steps(planted, basis, methods, n_features=None, seed=0):
    store, model, pairs = planted
    return steps_at(gather_material(store.view(), model, pairs, (basis, n_features), seed=seed), SITE, methods)


def test_of_an_sae_that_loses_nothing_the_step_is_the_mean_difference(planted):
    d = planted[1].d_model
    found = steps(planted, halves(d), ["mean_difference", "feature_difference"])
    torch.testing.assert_close(found["feature_difference"], found["mean_difference"])
    assert found["mean_difference"].any()


def test_without_the_features_that_tell_the_groups_apart_there_is_no_step(planted):
    families = range(N_CODES, N_CODES + 2)
    d = planted[1].d_model
    rest = [i for i in range(d) if i not in families]
    assert not steps(planted, halves(d, rest), ["feature_difference"])["feature_difference"].any()


def test_few_features_are_those_that_write_most_and_the_step_is_as_long_as_the_mean_difference(planted):
    store, model, pairs = planted
    scale = torch.rand(2 * model.d_model, generator=torch.Generator().manual_seed(0)) + 0.1
    basis = halves(model.d_model, scale=scale)
    x, y = load_pairs(store, SITE, pairs)
    keep = np.ones((1, len(x)), dtype=bool)
    found = feature_step("feature_difference", basis, (x, y), keep, 1, 0)[0]
    difference = mean_differences(x, y, keep)[0]
    (written,) = found.nonzero()[:, 0].tolist()
    assert float(found[written]) == pytest.approx(float(difference[written]))
    assert float(difference[written].abs()) == pytest.approx(float(difference.abs().max()))
    one = steps(planted, basis, ["mean_difference", "feature_difference"], 1)
    torch.testing.assert_close(one["feature_difference"].norm(dim=1), one["mean_difference"].norm(dim=1))
    assert (one["feature_difference"].count_nonzero(dim=1) == 1).all()


def test_parts_are_mean_differences_of_feature_values():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 6, 4, generator=draw)
    basis = orthonormal_basis(torch.eye(4), torch.zeros(4))
    keep = np.array([[True, True, False, False, False, True], [False] * 6])
    parts = feature_parts(basis, (x, y), keep)
    torch.testing.assert_close(parts[0], (y - x)[[0, 1, 5]].mean(dim=0).double())
    assert not parts[1].any()
    largest = parts[0].abs().argsort(descending=True)[:2]
    few = feature_parts(basis, (x, y), keep, 2)
    assert set(few[0].nonzero()[:, 0].tolist()) == set(largest.tolist())
    assert torch.equal(few[0][largest], parts[0][largest])
    assert torch.equal(feature_parts(basis, (x, y), keep, 4), parts)


# --- other features in their place


def many(n_features=400, n_rows=500, seed=0):
    """Values of features of many frequencies and sizes, and a basis whose directions have many lengths."""
    rng = np.random.default_rng(seed)
    frequency, size = rng.uniform(0.02, 0.9, n_features), 10 ** rng.uniform(-1, 1, n_features)
    values = (rng.random((n_rows, n_features)) < frequency) * rng.random((n_rows, n_features)) * size
    directions = torch.from_numpy(rng.normal(size=(n_features, 16)) * 10 ** rng.uniform(-1, 1, (n_features, 1)))
    return torch.from_numpy(values).float(), orthonormal_basis(directions.float(), torch.zeros(16))


def test_others_are_alike_in_frequency_and_deviation_and_write_as_much():
    values, basis = many()
    lengths = basis.directions.double().norm(dim=1)
    parts = torch.zeros(200, 400, dtype=torch.float64)
    parts[:, 7] = 3.0
    parts[:100, 12] = -1.0
    moved = in_their_place(parts, values, basis, np.random.default_rng(0))
    assert not moved[:, [7, 12]].any()
    only = moved[100:]
    assert (only.count_nonzero(dim=1) == 1).all()
    to = only.abs().argmax(dim=1)
    written = only[torch.arange(100), to] * lengths[to]
    torch.testing.assert_close(written.abs(), (3 * lengths[7]).expand(100))
    assert 20 < int((written > 0).sum()) < 80
    assert len(set(to.tolist())) == N_NEAR
    frequency = (values != 0).double().mean(dim=0).log2()
    deviation = (values.double().std(dim=0, correction=0) * lengths).log2()
    away = (frequency - frequency[7]).abs() + (deviation - deviation[7]).abs()
    away[[7, 12]] = torch.inf
    assert set(to.tolist()) == set(away.argsort()[:N_NEAR].tolist())


def test_where_all_features_change_others_of_them_take_their_place():
    values, basis = many(n_features=8)
    parts = torch.eye(8, dtype=torch.float64)
    moved = in_their_place(parts, values, basis, np.random.default_rng(0))
    assert not moved.diagonal().any()
    assert (moved.count_nonzero(dim=1) == 1).all()


def test_dead_features_take_no_part():
    values, basis = many()
    values[:, 50:] = 0
    parts = torch.zeros(300, 400, dtype=torch.float64)
    parts[:, 3] = 1.0
    moved = in_their_place(parts, values, basis, np.random.default_rng(0))
    assert moved.any()
    assert not moved[:, 50:].any()
    alone, one = values.clone(), parts.clone()
    alone[:, 1:] = 0
    one[:, 0], one[:, 3] = 1.0, 0.0
    assert not in_their_place(one, alone, basis, np.random.default_rng(0)).any()


def test_random_features_are_as_long_as_the_mean_difference_and_drawn_with_the_seed(planted):
    basis = halves(planted[1].d_model)
    first, same, other = (steps(planted, basis, ["mean_difference", "random_features"], 2, seed) for seed in (0, 0, 1))
    lengths = (first[name].norm(dim=1) for name in ("mean_difference", "random_features"))
    torch.testing.assert_close(*lengths)
    assert torch.equal(first["random_features"], same["random_features"])
    assert not torch.equal(first["random_features"], other["random_features"])


# --- in a sweep


@pytest.mark.parametrize("lost", [False, True])
def test_a_sweep_tells_whether_the_features_carry_the_difference(planted, lost):
    """digits and numwords share their codes: what tells them apart are two dimensions of the family."""
    store, model, _ = planted
    kept = [i for i in range(model.d_model) if not (lost and i in (N_CODES, N_CODES + 1))]
    grid = Grid((1.0, 2.0), "last", "mean_difference", halves(model.d_model, kept), None if lost else 2)
    result = sweep(store.view(SITE.name), model, "digits", "numwords", grid)
    means = result.table.groupby("method")["success"].max()
    assert means["mean_difference"] == 1
    assert means["feature_difference"] == (0 if lost else 1)
    assert means["random_features"] < 0.5
    assert (result.parameters["n_features"], "basis" in result.parameters) == (grid.n_features, True)


def test_without_a_basis_nothing_is_said_of_one(planted):
    store, model, _ = planted
    result = sweep(store.view(SITE.name), model, "digits", "numwords", Grid((1.0,), "last", "mean_difference"))
    assert not {"basis", "n_features"} & set(result.parameters)
    assert not {"feature_difference", "random_features"} & set(result.table["method"])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"n_features": 3}, "a number of features is of a basis; give the basis too"),
        ({"basis": halves(4), "n_features": 0}, "the basis has 8 features; of these 1 or more count, got 0"),
        ({"basis": halves(4), "n_features": 9}, "the basis has 8 features; of these 1 or more count, got 9"),
        ({"basis": halves(4), "n_features": True}, "the basis has 8 features; of these 1 or more count, got True"),
    ],
)
def test_what_is_no_basis_or_too_many_features_is_told(choices, message):
    with pytest.raises(InputError) as told:
        Grid(**choices)
    assert str(told.value) == message


def test_a_basis_of_another_site_is_told(planted):
    store, model, _ = planted
    with pytest.raises(InputError, match=r"the basis is of blocks\.1\.hook_resid_post, and the view of blocks\.0\."):
        sweep(store.view(layers=0), model, "digits", "numwords", Grid(basis=halves(model.d_model)))
    with pytest.raises(InputError, match="feature_difference is of a basis's features; give a basis"):
        steps(planted, None, ["feature_difference"])
