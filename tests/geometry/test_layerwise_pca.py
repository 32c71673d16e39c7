"""PCA of a store: each layer against scikit-learn on the rows chosen by hand, and planted layers."""

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from cache import ActivationStore, Hook, Prompts, load_model, open_stores, plan_recording, record
from cache.errors import InputError
from cache.prompts import Prompt
from geometry.layerwise_pca import N_PERMUTATIONS, default_rows, pca_by_layer, unit_of_rows

COLUMNS = [
    "layer",
    "site",
    "hook",
    "component",
    "explained_variance",
    "explained_variance_ratio",
    "se",
    "null_mean",
    "null_max",
    "n_members",
    "n_templates",
    "n_rows",
]


def stored(model, prompts, path, **choices):
    return record(model, plan_recording(model, prompts, **choices), path)


@pytest.fixture(scope="module")
def store(gpt2, prompts, tmp_path_factory):
    with stored(gpt2, prompts, tmp_path_factory.mktemp("pca") / "a.h5", sites="resid,mlp") as store:
        yield store


@pytest.fixture(scope="module")
def result(store):
    return pca_by_layer(store, k=3)


@pytest.fixture(scope="module")
def sentences(gpt2, tmp_path_factory):
    """Plain strings, which show no members; one is a single token."""
    texts = ["one two three", "cat", "dog bird fish", "red blue", "Tom Sam Ben Max"]
    with stored(gpt2, texts, tmp_path_factory.mktemp("own") / "a.h5", sites="resid") as store:
        yield store


def members_by_hand(store):
    """Rows of shown members that do not begin their text, by a loop over prompts."""
    rows = store.rows
    return [
        i
        for i in range(len(rows))
        if rows["member"][i] >= 0 and rows["position"][i] >= 1 and rows["token"][i] != 0  # 0 is BOS
    ]


def test_every_layer_is_scikit_learns_pca_of_the_same_rows(store, result):
    chosen = members_by_hand(store)
    assert [hook.name for hook in result.hooks] == ["blocks.0.hook_resid_pre"] + [
        f"blocks.{layer}.hook_resid_post" for layer in range(3)
    ]
    for i, hook in enumerate(result.hooks):
        x = store.load(hook).double().numpy()[chosen]
        truth = PCA(3, svd_solver="full").fit(x)
        np.testing.assert_allclose(result.values("explained_variance")[i], truth.explained_variance_, rtol=1e-8)
        np.testing.assert_allclose(
            result.values("explained_variance_ratio")[i], truth.explained_variance_ratio_, rtol=1e-8
        )
        np.testing.assert_allclose(result.values("directions")[i], truth.components_, atol=1e-5)
        np.testing.assert_allclose(result.values("scores")[i], truth.transform(x), atol=1e-3)


def test_axes_are_named_and_fit_the_values(store, result):
    lengths = {
        "hook": 4,
        "row": len(members_by_hand(store)),
        "component": 3,
        "d": 33,
        "permutation": N_PERMUTATIONS,
    }
    assert {name: axes for name, (axes, _) in result.arrays.items()} == {
        "explained_variance_ratio": ("hook", "component"),
        "explained_variance": ("hook", "component"),
        "se": ("hook", "component"),
        "null": ("hook", "permutation", "component"),
        "directions": ("hook", "component", "d"),
        "scores": ("hook", "row", "component"),
    }
    for axes, values in result.arrays.values():
        assert values.shape == tuple(lengths[axis] for axis in axes)


def test_the_standard_error_leaves_out_all_rows_of_one_ordinal_in_every_family(store, result):
    rows = store.rows.iloc[members_by_hand(store)]
    ordinals = rows["value"].to_numpy()
    assert set(ordinals) == set(range(1, 12)) | {0}
    for i, hook in enumerate(result.hooks):
        x = store.load(hook).double().numpy()[rows.index]
        left = [
            PCA(3, svd_solver="full").fit(x[ordinals != value]).explained_variance_ratio_ for value in set(ordinals)
        ]
        by_hand = np.sqrt((len(left) - 1) / len(left) * ((left - np.mean(left, axis=0)) ** 2).sum(axis=0))
        np.testing.assert_allclose(result.values("se")[i], by_hand, rtol=1e-6)


def test_the_table_is_tidy_and_says_what_the_arrays_say(store, result):
    table = result.table
    assert list(table.columns) == COLUMNS
    assert table[["layer", "component"]].to_numpy().tolist() == [[i, j] for i in (-1, 0, 1, 2) for j in range(3)]
    assert table["hook"].tolist() == [hook.name for hook in result.hooks for _ in range(3)]
    assert set(table["site"]) == {"resid_post"}
    for name in ("explained_variance", "explained_variance_ratio", "se"):
        np.testing.assert_array_equal(table[name].to_numpy().reshape(4, 3), result.values(name))
    for column, best in (("null_mean", np.mean), ("null_max", np.max)):
        np.testing.assert_array_equal(table[column].to_numpy().reshape(4, 3), best(result.values("null"), axis=1))


def test_the_table_counts_members_templates_and_rows(store, result):
    rows = store.rows.iloc[members_by_hand(store)]
    counts = result.table[["n_members", "n_templates", "n_rows"]].drop_duplicates().to_numpy().tolist()
    assert counts == [[12, 4, len(rows)]]
    few = pca_by_layer(store, layers="1", where="family == 'digits' and frame == 'list' and member >= 0", k=2)
    # six windows of four digits, the lowest from 0 and the highest to 8
    assert few.table[["n_members", "n_templates", "n_rows"]].iloc[0].tolist() == [9, 1, 24]


def test_rows_are_the_stores_with_the_member_that_each_counts_under(store, result):
    expected = store.rows.iloc[members_by_hand(store)].reset_index(drop=True)
    pd.testing.assert_frame_equal(result.rows.drop(columns="unit"), expected)
    assert result.rows["unit"].tolist() == expected["value"].tolist()


def test_rows_that_show_nothing_carry_the_last_member_their_prompt_has_shown(store, sentences):
    rows = pca_by_layer(store, layers="1", where="is_last", k=1).rows
    assert rows["shown"].tolist() == [store.prompts["members"][prompt][-1] for prompt in rows["prompt"]]
    assert pca_by_layer(sentences, layers="1", k=1).rows["shown"].tolist() == [""] * 5


def test_everything_that_the_values_depend_on_is_recorded(store):
    result = pca_by_layer(store, "mlp_out", layers="1-2", k=2, seed=4)
    assert result.name == "pca"
    assert result.source == store.fingerprint
    assert result.parameters == {
        "site": "mlp_out",
        "layers": "1-2",
        "where": "member >= 0 and position > 0",
        "k": 2,
        "seed": 4,
        "n_permutations": N_PERMUTATIONS,
    }
    assert result.hooks == (Hook("mlp_out", 1), Hook("mlp_out", 2))


def test_the_seed_changes_the_null_and_nothing_else(store, result):
    again, other = (pca_by_layer(store, k=3, seed=seed) for seed in (0, 1))
    for name in result.arrays:
        np.testing.assert_array_equal(again.values(name), result.values(name))
        same = np.array_equal(other.values(name), result.values(name))
        assert same == (name != "null")


@pytest.mark.parametrize("where", [None, "position < 3", "prompt == 0", "position == -1 or is_last"])
def test_bos_is_never_among_the_rows(store, where):
    assert (store.rows["position"] == -1).any()
    rows = pca_by_layer(store, layers="1", where=where, k=1).rows
    assert rows["position"].min() >= 0
    if where:
        assert len(rows) == (store.rows.eval(where).to_numpy() & (store.rows["position"] >= 0)).sum()


def test_a_member_that_begins_its_text_is_left_out_with_and_without_bos(store, model_folders, prompts, tmp_path):
    without = load_model(str(model_folders["gpt2"]), device="cpu", bos=False)
    few = prompts.subset(range(0, 105, 4))
    with stored(without, few, tmp_path / "a.h5", sites="resid") as bare:
        for tested, shown in ((store, prompts), (bare, few)):
            rows = tested.select(default_rows(tested))
            assert not (rows["frame"].eq("list") & rows["member"].eq(0)).any()
            assert len(rows) == sum(len(prompt.members) - (prompt.frame == "list") for prompt in shown)


def test_last_tokens_are_taken_where_no_members_are_shown(sentences):
    assert default_rows(sentences) == "is_last"
    rows = pca_by_layer(sentences, k=2).rows
    assert rows["prompt"].tolist() == [0, 1, 2, 3, 4]
    assert rows["is_last"].all()


def test_last_tokens_are_taken_where_every_member_begins_its_text(gpt2, tmp_path):
    prompts = Prompts(
        tuple(
            Prompt(f"{word}:{end}", family="own", values=(i,), members=(word,), spans=((0, len(word)),))
            for i, (word, end) in enumerate((("cat", 1), ("dog", 2), ("fish", 1)), 1)
        )
    )
    with stored(gpt2, prompts, tmp_path / "a.h5", sites="resid") as store:
        assert (store.rows["member"] == 0).sum() == 3
        result = pca_by_layer(store, k=1)
    assert result.parameters["where"] == "is_last"
    assert result.rows["unit"].tolist() == [1, 2, 3]


def test_a_row_counts_under_its_own_member_else_under_the_last_its_prompt_shows(store):
    rows = store.rows[(store.rows["family"] == "months") & (store.rows["pair_key"] == "list|0|increasing|3,4,5,6")]
    # BOS, then March , April , May , June ,
    assert [(text, unit) for text, unit in zip(rows["token_text"], unit_of_rows(store, rows), strict=True)] == [
        ("<|endoftext|>", 6),
        ("March", 3),
        (",", 6),
        ("April", 4),
        (",", 6),
        ("May", 5),
        (",", 6),
        ("June", 6),
        (",", 6),
    ]


def test_rows_of_a_prompt_without_members_count_under_the_prompt(sentences):
    assert unit_of_rows(sentences, sentences.rows) == [-1 - prompt for prompt in sentences.rows["prompt"]]


def test_prompts_of_joined_stores_are_units_of_their_own(sentences, gpt2, tmp_path):
    stored(gpt2, ["x y", "z"], tmp_path / "b.h5", sites="resid").close()
    with open_stores([*sentences.paths, tmp_path / "b.h5"]) as both:
        rows = both.select("is_last")
        assert unit_of_rows(both, rows) == [-1, -2, -3, -4, -5, -6, -7]
        assert pca_by_layer(both, k=2).table["n_members"].eq(7).all()


def test_each_layer_is_told_when_it_is_done(store):
    told = []
    result = pca_by_layer(store, "mlp_out", k=1, on_hook=told.append)
    assert tuple(told) == result.hooks == tuple(Hook("mlp_out", layer) for layer in range(3))


@pytest.fixture(scope="module")
def planted(gpt2, prompts, tmp_path_factory):
    """Layer 0: a line through the ordinals. Layer 1: unrelated numbers. Layer 2: a plane, and nothing outside it."""
    path = tmp_path_factory.mktemp("planted") / "a.h5"
    stored(gpt2, prompts.subset(range(0, 105, 2)), path, sites="mlp").close()
    with ActivationStore.open(path) as store:
        value = store.rows["value"].to_numpy()
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(33, 3)))[0].T
    noise = rng.normal(size=(3, len(value), 33))
    layers = [
        np.outer(value, axes[0]) + 0.01 * noise[0] + 50,
        noise[1],
        noise[2][:, :2] * (5, 3) @ axes[1:] - 20,
    ]
    with h5py.File(path, "r+") as file:
        for layer, x in enumerate(layers):
            file["activations"][f"blocks.{layer}.hook_mlp_out"][:] = x
    with ActivationStore.open(path) as store:
        yield store, axes, pca_by_layer(store, "mlp_out", k=3)


def test_a_planted_line_is_found_and_orders_the_members(planted):
    _, axes, result = planted
    assert abs(result.values("directions")[0, 0] @ axes[0]) > 0.9999
    assert result.values("explained_variance_ratio")[0, 0] > 0.99
    assert abs(np.corrcoef(result.values("scores")[0, :, 0], result.rows["unit"])[0, 1]) > 0.9999


def test_a_planted_plane_takes_two_components_and_leaves_the_third_nothing(planted):
    _, axes, result = planted
    ratios = result.values("explained_variance_ratio")[2]
    assert ratios[:2].sum() == pytest.approx(1)
    assert ratios[2] == pytest.approx(0, abs=1e-9)
    assert ratios[0] == pytest.approx(25 / 34, abs=0.05)
    cosines = np.linalg.svd(result.values("directions")[2, :2] @ axes[1:].T, compute_uv=False)
    assert cosines.min() > 0.9999


def test_structure_is_above_the_null_and_noise_is_inside_it(planted):
    first = planted[2].table.query("component == 0").set_index("layer")
    margin = first["explained_variance_ratio"] / first["null_max"]
    assert margin[0] > 5
    assert margin[2] > 2
    assert margin[1] < 1.1


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"site": "z"}, "the store has no 'z'; it has resid_pre, mlp_out, resid_post"),
        ({"layers": "3"}, "the store has resid_post at layers 0, 1, 2; got '3'"),
        ({"where": "colour == 'red'"}, r"name 'colour' is not defined; columns are prompt, position"),
        ({"where": "position == -1"}, r"no row fits .*position == -1"),
        ({"where": "is_last and prompt == 0", "k": 1}, "1 rows of width 33 have at most 0 components; got k = 1"),
        ({"k": 34}, r"rows of width 33 have at most 33 components; got k = 34"),
    ],
)
def test_what_cannot_be_analysed_is_told(store, choices, message):
    with pytest.raises(InputError, match=message):
        pca_by_layer(store, **choices)


def test_below_five_members_there_is_no_standard_error(store):
    table = pca_by_layer(store, layers="1", where="member == 1 and value < 5", k=2).table
    assert table["n_members"].eq(4).all()
    assert table["se"].isna().all()
    assert table["null_max"].notna().all()


def test_a_member_with_most_of_the_rows_may_be_left_out(sentences):
    long = "prompt == 4 or is_last"
    rows = sentences.select(f"({long}) and position >= 0")
    assert (len(rows), (rows["prompt"] != 4).sum()) == (8, 4)
    errors = pca_by_layer(sentences, layers="1", where=long, k=5).values("se")
    assert errors.shape == (1, 5)
    assert (errors > 0).all()


def test_texts_that_end_alike_are_analysed_where_they_differ(loaded, tmp_path):
    """Without position embeddings the last tokens of such texts are equal rows at the embedding, and only there."""
    texts = ["cat.", "dog.", "red bird.", "one.", "two blue.", "fish."]
    with stored(loaded["llama"], texts, tmp_path / "a.h5", sites="resid") as store:
        result = pca_by_layer(store, k=2)
    blocks, embedding = result.table.query("layer >= 0"), result.table.query("layer < 0")
    assert blocks["layer"].nunique() == 3
    assert blocks[["explained_variance_ratio", "se", "null_max"]].gt(0).all(axis=None)
    assert embedding["explained_variance"].eq(0).all()
    assert embedding[["explained_variance_ratio", "se", "null_mean", "null_max"]].isna().all(axis=None)
    assert not result.values("scores")[0].any()
    assert np.isnan(result.values("directions")[0]).all()


def test_too_few_equal_rows_are_refused_all_the_same(loaded, tmp_path):
    with (
        stored(loaded["llama"], ["cat.", "dog."], tmp_path / "a.h5", sites="resid") as store,
        pytest.raises(InputError, match="2 rows of width 42 have at most 1 components; got k = 2"),
    ):
        pca_by_layer(store, k=2)


def test_one_text_that_ends_otherwise_does_no_harm(loaded, tmp_path):
    texts = ["cat.", "dog.", "red bird.", "one.", "two blue.", "fish,"]
    with stored(loaded["llama"], texts, tmp_path / "a.h5", sites="resid") as store:
        table = pca_by_layer(store, k=1).table.set_index("layer")
    assert table["se"].notna().all()
    # the embedding's shares are 1, and 0 where the odd one is left out
    assert table.loc[-1, "explained_variance_ratio"] == pytest.approx(1)
    assert table.loc[-1, "se"] == pytest.approx(np.sqrt(5 / 6 * (5 * (1 / 6) ** 2 + (5 / 6) ** 2)))
