"""Layer against layer: the measures of `similarity` on loaded rows, held or streamed, of one store or two."""

import json

import numpy as np
import pandas as pd
import pytest

from cache import ActivationStore, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from geometry.bases.canonical import svcca
from geometry.between import layers as layer_grid
from geometry.between.grid import N_PERMUTATIONS
from geometry.between.layers import between_layers, between_stores
from geometry.results.result import LayerResult
from geometry.similarity.of_rows import linear_cka, linear_cka_debiased, procrustes
from tests.recordings import recorded
from tests.rerecording import rerecorded
from tests.views import analysed, arrays_of

TRUE = {"cka": linear_cka, "cka_debiased": linear_cka_debiased, "svcca": svcca, "procrustes": procrustes}
COLUMNS = ["layer", "site", "hook", "layer_b", "hook_b", "measure", "value", "se"]
COLUMNS += ["null_mean", "null_max", "n_members", "n_templates", "n_rows"]
MEASURES = pytest.mark.parametrize("measure", TRUE)


def stored(model, prompts, path, **choices):
    return recorded(model, plan_recording(model, prompts, **{"sites": "resid,heads", **choices}), path)


@pytest.fixture(scope="module")
def few():
    """Two families of seven ordinals, in four templates."""
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=tuple(range(1, 8)))
    return load_dataset("digits,months", design)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def store(gpt2, few, folder):
    with stored(gpt2, few, folder / "gpt2.h5") as store:
        yield store


@pytest.fixture(scope="module")
def llama(loaded, few, folder):
    """The same prompts in a model of another width, whose rows of last tokens are all equal at the embedding."""
    with stored(loaded["llama"], few, folder / "llama.h5", batch_tokens=64) as store:
        yield store


def by_hand(measure, left, right):
    return np.array([[TRUE[measure](x, y) for y in right] for x in left])


def blocks_of(store, where="is_last"):
    return [store.load(("resid_post", layer), where) for layer in range(3)]


def streamed(monkeypatch):
    monkeypatch.setattr(layer_grid, "IN_MEMORY", 2)


@MEASURES
def test_every_pair_of_layers_has_the_measure_of_its_rows(store, measure):
    result = between_layers(store.view(where="member >= 0"), measure=measure)
    layers = [store.load(hook, "member >= 0") for hook in result.hooks]
    assert [hook.table_layer for hook in result.hooks] == [-1, 0, 1, 2]
    values = result.values("value")
    upper = np.triu_indices(4, 1)
    np.testing.assert_allclose(values[upper], by_hand(measure, layers, layers)[upper], atol=1e-6)
    np.testing.assert_array_equal(values, values.T)
    np.testing.assert_allclose(values.diagonal(), 1, atol=1e-9)


@MEASURES
@pytest.mark.parametrize("where", [None, "member == 1 and family == 'digits'"])
def test_the_standard_error_leaves_out_all_rows_of_a_member(store, measure, where):
    result = between_layers(store.view(layers="0-2", where=where), measure=measure)
    rows = store.select(where or "is_last")
    units = np.array([store.prompts["values"][prompt][-1] for prompt in rows["prompt"]])
    assert sorted(set(units)) == list(range(2, 9))
    layers = blocks_of(store, where or "is_last")
    left = []
    for unit in range(2, 9):
        kept = [x[units != unit] for x in layers[1:]]
        left.append(by_hand(measure, kept, kept))
    se = np.sqrt(6 / 7 * ((left - np.mean(left, axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(result.values("se")[2:, 2:], se, atol=1e-7)
    assert result.table[["n_members", "n_templates", "n_rows"]].drop_duplicates().to_numpy().tolist() == [
        [7, 4, len(rows)]
    ]


@MEASURES
def test_permuted_rows_are_the_null_of_every_pair(store, measure):
    result = between_layers(store.view(layers="1-2"), measure=measure, seed=3)
    x, y = blocks_of(store)[1:]
    rng = np.random.default_rng(3)
    orders = [rng.permutation(len(x)) for _ in range(N_PERMUTATIONS - 1)]
    null = np.array([by_hand(measure, [x, y], [x[order], y[order]]) for order in orders])
    np.testing.assert_allclose(result.values("null_mean"), null.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(result.values("null_max"), null.max(axis=0), atol=1e-7)
    other = between_layers(store.view(layers="1-2"), measure=measure, seed=4)
    assert not np.array_equal(other.values("null_mean"), result.values("null_mean"))
    np.testing.assert_array_equal(other.values("value"), result.values("value"))


@MEASURES
def test_streamed_rows_give_what_held_rows_give_without_error_and_null(store, measure, monkeypatch):
    held = between_layers(store.view(layers="0-2", where="family == 'digits'", rows="all"), measure=measure)
    streamed(monkeypatch)
    monkeypatch.setattr(ActivationStore, "load", lambda *args: pytest.fail("all rows were loaded"))
    result = between_layers(store.view(layers="0-2", where="family == 'digits'", rows="all"), measure=measure)
    np.testing.assert_allclose(result.values("value"), held.values("value"), atol=1e-6)
    assert 300 < result.table["n_rows"][0] <= 1024
    for name in ("se", "null_mean", "null_max"):
        assert np.isfinite(held.values(name)).all()
        assert np.isnan(result.values(name)).all()


@MEASURES
@pytest.mark.parametrize("way", ["held", "streamed"])
def test_equal_rows_at_one_layer_have_no_similarity_there_and_the_others_theirs(llama, measure, way, monkeypatch):
    if way == "streamed":
        streamed(monkeypatch)
    values = between_layers(llama.view(), measure=measure).values("value")
    assert np.isnan(values[0]).all()
    assert np.isnan(values[:, 0]).all()
    np.testing.assert_allclose(values[1:, 1:].diagonal(), 1, atol=1e-9)
    layers = blocks_of(llama)
    np.testing.assert_allclose(values[1, 2:], by_hand(measure, layers[:1], layers[1:])[0], atol=1e-6)


@MEASURES
@pytest.mark.parametrize("way", ["held", "streamed"])
def test_layers_of_two_models_are_compared_on_rows_matched_by_hand(store, llama, measure, way, monkeypatch):
    if way == "streamed":
        streamed(monkeypatch)
    result = between_stores(
        store.view(layers="1-2", where="member >= 0 or is_last"),
        llama.view(layers="1-2", where="member >= 0 or is_last"),
        measure=measure,
    )
    keys = []
    for one in (store, llama):
        rows = one.rows
        chosen = rows[(rows["member"] >= 0) | rows["is_last"]]
        keys.append({(r.family, r.pair_key, r.member): i for i, r in chosen.iterrows()})
    assert set(keys[0]) == set(keys[1])
    sides = [
        [one.load(("resid_post", layer))[[index[key] for key in sorted(keys[0])]] for layer in (1, 2)]
        for one, index in zip((store, llama), keys, strict=True)
    ]
    assert [x.shape for side in sides for x in side] == [(168, 33)] * 2 + [(168, 42)] * 2
    np.testing.assert_allclose(result.values("value"), by_hand(measure, *sides), atol=1e-6)
    assert result.source == f"{store.fingerprint}+{llama.fingerprint}"
    assert result.table["n_rows"].eq(168).all()


@MEASURES
@pytest.mark.parametrize("way", ["held", "streamed"])
def test_a_store_with_itself_is_layer_against_layer(store, measure, way, monkeypatch):
    if way == "streamed":
        streamed(monkeypatch)
    within, between = (
        between_layers(store.view(), measure=measure),
        between_stores(store.view(), store.view(), measure=measure),
    )
    for name in arrays_of(within):
        np.testing.assert_allclose(between.values(name), within.values(name), atol=1e-6)
    assert between.source == within.source == store.fingerprint


def test_a_store_of_more_prompts_is_compared_on_those_in_common(gpt2, loaded, store, few, folder):
    half = few.subset(range(0, len(few), 2))
    with stored(loaded["llama"], half, folder / "half.h5") as part:
        result = between_stores(store.view(layers="2"), part.view(layers="2"))
        back = between_stores(part.view(layers="2"), store.view(layers="2"))
        y = part.load(("resid_post", 2), "is_last")
    mask = store.rows["is_last"] & (store.rows["prompt"] % 2 == 0)
    x = store.load(("resid_post", 2), mask)
    assert len(x) == len(y) == len(half)
    assert result.values("value")[0, 0] == pytest.approx(linear_cka(x, y), abs=1e-9)
    for name in ("value", "se"):
        np.testing.assert_allclose(back.values(name), result.values(name).T, atol=1e-9)


def test_plain_texts_are_matched_by_their_words(gpt2, loaded, folder):
    texts = ["one two three", "cat dog", "red", "blue bird fish", "Tom Sam", "Ben"]
    with (
        stored(gpt2, texts, folder / "own-a.h5") as a,
        stored(loaded["neox"], texts[1:], folder / "own-b.h5") as b,
    ):
        result = between_stores(a.view(layers="2"), b.view(layers="2"))
        with pytest.raises(InputError, match=r"own-a.h5 and own-b.h5 have no row of the same prompt in common"):
            between_stores(a.view(where="prompt == 0 and is_last"), b.view(where="prompt == 0 and is_last"))
        x, y = a.load(("resid_post", 2), "is_last"), b.load(("resid_post", 2), "is_last")
    assert result.values("value")[0, 0] == pytest.approx(linear_cka(x[1:], y), abs=1e-9)
    assert result.table["n_rows"].tolist() == [5]


def test_stores_of_other_prompts_or_another_order_are_refused(gpt2, store, few, folder):
    backwards = few.subset(range(len(few) - 1, -1, -1))
    with (
        stored(gpt2, ["x", "y z", "one"], folder / "other.h5") as other,
        stored(gpt2, backwards, folder / "backwards.h5") as turned,
    ):
        with pytest.raises(InputError, match=r"gpt2.h5 and other.h5 have no row of the same prompt in common"):
            between_stores(store.view(), other.view())
        with pytest.raises(
            InputError, match=r"gpt2.h5 and backwards.h5 hold the same prompts in different orders or .*;"
        ):
            between_stores(store.view(), turned.view())


@pytest.fixture(scope="module")
def planted(gpt2, few, folder):
    """Layer 1 is layer 0 turned and scaled; layer 2 is unrelated."""
    path = folder / "planted.h5"
    stored(gpt2, few, path, sites="resid_post", positions="last").close()
    rng = np.random.default_rng(0)
    with rerecorded(path) as file:
        sites = file["activations"]
        x = rng.normal(size=sites["blocks.0.hook_resid_post"].shape)
        turn = np.linalg.qr(rng.normal(size=(33, 33)))[0]
        for layer, values in enumerate((x, 4 * x @ turn + 9, rng.normal(size=x.shape))):
            sites[f"blocks.{layer}.hook_resid_post"][:] = values
    with ActivationStore.open(path) as store:
        yield store


@MEASURES
@pytest.mark.parametrize("way", ["held", "streamed"])
def test_a_turned_layer_is_the_same_and_an_unrelated_one_is_not(planted, measure, way, monkeypatch):
    if way == "streamed":
        streamed(monkeypatch)
    table = between_layers(planted.view(), measure=measure).table.set_index(["layer", "layer_b"])
    assert table.loc[(0, 1), "value"] == pytest.approx(1, abs=1e-6)
    assert table.loc[(0, 2), "value"] < 0.9
    if way == "held":
        assert table.loc[(0, 1), "value"] > table.loc[(0, 1), "null_max"]
        assert table.loc[(0, 2), "value"] < table.loc[(0, 2), "null_max"] + 0.05


def test_the_table_says_what_the_arrays_say_and_is_saved_whole(store, tmp_path):
    result = between_layers(store.view(layers="0,2", where="member >= 0"), measure="svcca", seed=5)
    table = result.table
    assert list(table.columns) == COLUMNS
    labels = [-1, 0, 2]
    assert table[["layer", "layer_b"]].to_numpy().tolist() == [[i, j] for i in labels for j in labels]
    names = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
    assert table["hook"].tolist() == [name for name in names for _ in range(3)]
    assert table["hook_b"].tolist() == names * 3
    for name, (axes, values) in arrays_of(result).items():
        assert axes == ("hook", "hook_b")
        np.testing.assert_array_equal(table[name], values.ravel())
    result.save(tmp_path / "out")
    described = json.loads((tmp_path / "out" / "result.json").read_text())
    assert described["parameters"] == {
        "site": "resid_post",
        "layers": "0,2",
        "where": "member >= 0",
        "seed": 5,
        "measure": "svcca",
        "hooks_b": names,
    }
    assert (described["name"], described["hooks"], described["source"]) == ("grid", names, store.fingerprint)
    saved = LayerResult.load(tmp_path / "out")
    assert saved.dataset.equals(result.dataset)
    assert {name: list(axes) for name, (axes, _) in arrays_of(saved).items()} == {
        name: axes for name, axes in described["axes"].items() if axes
    }
    assert len(pd.read_csv(tmp_path / "out" / "table.csv")) == 9


def test_below_five_members_there_is_no_standard_error(store):
    result = between_layers(store.view(layers="1-2", where="is_last and value < 0 and prompt < 12"))
    assert result.table["n_members"].eq(3).all()
    assert np.isnan(result.values("se")).all()
    assert np.isfinite(result.values("null_max")).all()


@MEASURES
def test_a_member_with_almost_all_rows_leaves_too_few_for_an_error_where_it_does(gpt2, folder, measure):
    texts = ["one two three four five six seven eight nine ten", "cat", "dog", "red", "fish"]
    with stored(gpt2, texts, folder / f"long-{measure}.h5") as store:
        few = between_layers(store.view(layers="2", where="prompt == 0 or prompt == 1", rows="all"), measure=measure)
        most = between_layers(store.view(layers="2", where="position >= 0"), measure=measure)
    assert few.table["n_members"].eq(2).all()
    assert np.isnan(few.values("se")).all()
    assert most.table["n_members"].eq(5).all()
    assert np.isfinite(most.values("se")).all()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"measure": "rsa"}, "no measure 'rsa' between layers; there are cka, cka_debiased, svcca, procrustes"),
        ({"site": "mlp_out"}, "the store has no 'mlp_out'; it has resid_pre, z, resid_post"),
        ({"layers": "7"}, "the store has resid_post at layers 0, 1, 2; got '7'"),
        ({"where": "is_last and prompt < 2"}, "a similarity needs 3 rows; got 2 for 'is_last and prompt < 2'"),
        ({"where": "position == -1"}, "a similarity needs 3 rows; got 0"),
        ({"where": "is_last and prompt < 9", "measure": "cka_debiased"}, "debiased CKA needs 10 rows; got 9"),
        ({"where": "colour"}, "name 'colour' is not defined; columns are"),
    ],
)
def test_what_cannot_be_compared_is_told(store, choices, message):
    with pytest.raises(InputError, match=message):
        analysed(between_layers, store, **choices)
    if choices.get("where") != "position == -1":
        with pytest.raises(InputError, match=message):
            analysed(lambda view, **rest: between_stores(view, view, **rest), store, **choices)
