"""NMF of a store: the same as of the rows loaded by hand, planted parts found, and rows drawn."""

import numpy as np
import pytest
import torch

from cache import ActivationStore, Hook, plan_recording, record
from cache.errors import InputError
from geometry.bases.nonnegative import matched_cosines, nmf
from geometry.layers import nmf as module
from geometry.layers.nmf import N_NULL, nmf_by_layer
from geometry.results.over import Loop
from tests.geometry.layers.planted_parts import chosen_by_hand, planted_parts
from tests.rerecording import rerecorded
from tests.views import analysed, arrays_of

COLUMNS = ["layer", "site", "hook", "component", "explained_variance_ratio", "agreement", "stability"]
COLUMNS += ["null_mean", "null_max", "reconstruction_error", "split_by_sign", "n_members", "n_templates", "n_rows"]


@pytest.fixture(scope="module")
def planted(gpt2, prompts, tmp_path_factory):
    path = tmp_path_factory.mktemp("nmf") / "a.h5"
    parts = planted_parts(gpt2, prompts, path)
    with ActivationStore.open(path) as store:
        yield store, parts


@pytest.fixture(scope="module")
def result(planted):
    return nmf_by_layer(planted[0].view("mlp_out", "0-1"), k=3)


def test_every_layer_is_nmf_of_the_rows_chosen_by_hand(planted, result):
    for i, hook in enumerate(result.hooks):
        x = planted[0].load(hook)[chosen_by_hand(planted[0])]
        truth = nmf(x, k=3)
        found = truth.decomposition
        np.testing.assert_array_equal(result.values("directions")[i], found.directions)
        np.testing.assert_array_equal(result.values("scores")[i], found.scores(x))
        np.testing.assert_array_equal(result.values("explained_variance_ratio")[i], found.explained_variance_ratio)
        np.testing.assert_array_equal(result.values("agreement")[i], truth.agreement)
        assert result.values("reconstruction_error")[i] == found.reconstruction_error
    assert result.values("split_by_sign").tolist() == [False, True]


def test_planted_parts_are_found_and_beat_permuted_columns(planted, result):
    assert matched_cosines(result.values("directions")[0], planted[1]).min() > 0.99
    assert result.values("reconstruction_error")[0] < 1e-3
    assert result.values("agreement")[0].min() > 0.99
    assert result.values("stability")[0].min() > 0.99
    assert result.values("explained_variance_ratio")[0].min() > 2 * result.values("null")[0].max()
    scores = result.values("scores")[0]
    assert (scores >= 0).all()
    x = planted[0].load(result.hooks[0])[chosen_by_hand(planted[0])].numpy()
    np.testing.assert_allclose(scores @ result.values("directions")[0], x, atol=0.1)


def test_nmf_axes_are_named_and_fit_the_values(planted, result):
    lengths = {"hook": 2, "row": len(chosen_by_hand(planted[0])), "component": 3, "d": 33, "permutation": N_NULL}
    assert {name: axes for name, (axes, _) in arrays_of(result).items()} == {
        "explained_variance_ratio": ("hook", "component"),
        "agreement": ("hook", "component"),
        "stability": ("hook", "component"),
        "null": ("hook", "permutation", "component"),
        **dict.fromkeys(["null_mean", "null_max"], ("hook", "component")),
        "reconstruction_error": ("hook",),
        "split_by_sign": ("hook",),
        "directions": ("hook", "component", "d"),
        "scores": ("hook", "row", "component"),
    }
    for axes, values in arrays_of(result).values():
        assert values.shape == tuple(lengths[axis] for axis in axes)
    assert len(result.rows) == lengths["row"]


def test_the_nmf_table_is_tidy_and_says_what_the_arrays_say(planted, result):
    table = result.table
    assert list(table.columns) == COLUMNS
    assert table[["layer", "component"]].to_numpy().tolist() == [[i, j] for i in (0, 1) for j in range(3)]
    for name in ("explained_variance_ratio", "agreement", "stability"):
        np.testing.assert_array_equal(table[name].to_numpy().reshape(2, 3), result.values(name))
    for name, best in (("null_mean", np.mean), ("null_max", np.max)):
        np.testing.assert_array_equal(table[name].to_numpy().reshape(2, 3), best(result.values("null"), axis=1))
    np.testing.assert_array_equal(table["reconstruction_error"], np.repeat(result.values("reconstruction_error"), 3))
    units = planted[0].rows.iloc[chosen_by_hand(planted[0])]["value"].nunique()
    counts = [units, result.rows["template"].nunique(), len(result.rows)]
    assert table[["n_members", "n_templates", "n_rows"]].drop_duplicates().to_numpy().tolist() == [counts]


def test_stability_compares_two_halves_of_the_members(planted, result):
    store = planted[0]
    rows = chosen_by_hand(store)
    units = store.rows["value"].to_numpy()[rows]
    half = np.isin(units, np.random.default_rng(0).permutation(np.unique(units))[: len(set(units)) // 2])
    x = store.load(result.hooks[1])[rows]
    a, b = (nmf(x[torch.from_numpy(side)], k=3, n_runs=1).decomposition.directions for side in (half, ~half))
    np.testing.assert_allclose(result.values("stability")[1], matched_cosines(a.numpy(), b.numpy()), rtol=1e-6)


def test_halves_too_small_for_the_parts_have_no_stability(planted):
    few = nmf_by_layer(planted[0].view("mlp_out", "0", where="prompt == 2 and member >= 0"), k=3)
    assert len(few.rows) == 4
    assert np.isnan(few.values("stability")).all()
    assert np.isfinite(few.values("explained_variance_ratio")).all()


def test_what_nmf_depends_on_is_recorded_and_the_seed_counts(planted, result):
    assert result.name == "nmf"
    assert result.source == planted[0].fingerprint
    parameters = {"site": "mlp_out", "layers": "0-1", "where": "member >= 0 and position > 0", "k": 3}
    assert result.parameters == parameters | {"seed": 0, "n_null": N_NULL, "weights": planted[0].weights}
    one, again = (nmf_by_layer(planted[0].view("mlp_out", "1"), k=3, seed=seed) for seed in (0, 5))
    assert again.parameters["seed"] == 5
    for name in arrays_of(result):
        np.testing.assert_array_equal(one.values(name)[0], result.values(name)[1])
    assert not np.array_equal(one.values("null"), again.values("null"))


def test_of_too_many_rows_some_are_drawn_for_the_fit_and_all_are_read(planted, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 60)
    store = planted[0]
    found = nmf_by_layer(store.view("mlp_out", "0"), k=3, seed=2)
    x = store.load(("mlp_out", 0))[chosen_by_hand(store)]
    assert len(x) > 120
    drawn = np.sort(np.random.default_rng(2).choice(len(x), 60, replace=False))
    truth = nmf(x[torch.from_numpy(drawn)], k=3, seed=2).decomposition
    np.testing.assert_array_equal(found.values("directions")[0], truth.directions)
    np.testing.assert_array_equal(found.values("scores")[0], truth.scores(x))
    assert found.table["n_rows"].eq(len(x)).all()
    assert matched_cosines(found.values("directions")[0], planted[1]).min() > 0.99


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"layers": "0", "k": 34}, "rows of width 33 have at most 33 components; got k = 34"),
        ({"site": "z"}, "the store has no 'z'; it has mlp_out"),
        ({"where": "position == -1"}, "no row fits .*position == -1"),
    ],
)
def test_what_cannot_be_analysed_is_told(planted, choices, message):
    with pytest.raises(InputError, match=message):
        analysed(nmf_by_layer, planted[0], **({"site": "mlp_out"} | choices))


def test_activations_of_zeros_have_no_parts(gpt2, tmp_path):
    record(gpt2, plan_recording(gpt2, ["a b c", "d e", "f"], sites="mlp", layers="0"), tmp_path / "a.h5")
    with rerecorded(tmp_path / "a.h5") as file:
        file["activations"]["blocks.0.hook_mlp_out"][:] = 0
    with (
        ActivationStore.open(tmp_path / "a.h5") as store,
        pytest.raises(InputError, match="all activations are 0; there is nothing to factorise"),
    ):
        nmf_by_layer(store.view("mlp_out"), k=1)


def test_each_layer_is_told_when_it_is_done(planted):
    told = []
    nmf_by_layer(planted[0].view("mlp_out", "0,2"), k=1, loop=Loop(on_hook=told.append))
    assert told == [Hook("mlp_out", 0), Hook("mlp_out", 2)]
