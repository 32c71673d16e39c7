"""PCA and SVD of a store: each layer against other libraries on the rows chosen by hand, and planted layers."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from cache import ActivationStore, Hook, plan_recording
from cache.errors import InputError
from geometry.layers.components import N_PERMUTATIONS, N_SPLITS
from geometry.layers.principal import pca_by_layer, svd_by_layer
from geometry.results.over import Loop
from tests.recordings import recorded
from tests.rerecording import rerecorded
from tests.views import analysed, arrays_of

COLUMNS = [
    "layer",
    "site",
    "hook",
    "component",
    "explained_variance",
    "explained_variance_ratio",
    "se",
    "stability",
    "null_mean",
    "null_max",
    "participation_ratio",
    "largest_row_share",
    "largest_dimension_share",
    "n_members",
    "n_templates",
    "n_rows",
]


def stored(model, prompts, path, **choices):
    return recorded(model, plan_recording(model, prompts, **choices), path)


@pytest.fixture(scope="module")
def store(gpt2, prompts, tmp_path_factory):
    with stored(gpt2, prompts, tmp_path_factory.mktemp("pca") / "a.h5", sites="resid,mlp") as store:
        yield store


@pytest.fixture(scope="module")
def result(store):
    return pca_by_layer(store.view(), k=3)


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
        np.testing.assert_allclose(result.values("explained_variance")[i], truth.explained_variance_, rtol=1e-6)
        spectrum = PCA(svd_solver="full").fit(x).explained_variance_
        np.testing.assert_allclose(result.values("spectrum")[i], spectrum, rtol=1e-4, atol=1e-6 * spectrum[0])
        np.testing.assert_allclose(result.values("mean")[i], truth.mean_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            result.values("explained_variance_ratio")[i], truth.explained_variance_ratio_, rtol=1e-6
        )
        np.testing.assert_allclose(result.values("directions")[i], truth.components_, atol=1e-5)
        np.testing.assert_allclose(result.values("scores")[i], truth.transform(x), atol=1e-3)


def test_axes_are_named_and_fit_the_values(store, result):
    lengths = {
        "hook": 4,
        "row": len(members_by_hand(store)),
        "component": 3,
        "d": 33,
        "all": 33,
        "permutation": N_PERMUTATIONS,
    }
    assert {name: axes for name, (axes, _) in arrays_of(result).items()} == {
        "explained_variance_ratio": ("hook", "component"),
        "explained_variance": ("hook", "component"),
        "se": ("hook", "component"),
        "stability": ("hook", "component"),
        "null": ("hook", "permutation", "component"),
        **dict.fromkeys(["null_mean", "null_max"], ("hook", "component")),
        "spectrum": ("hook", "all"),
        "participation_ratio": ("hook",),
        "largest_row_share": ("hook",),
        "largest_dimension_share": ("hook",),
        "mean": ("hook", "d"),
        "directions": ("hook", "component", "d"),
        "scores": ("hook", "row", "component"),
    }
    for axes, values in arrays_of(result).values():
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
    for name in ("explained_variance", "explained_variance_ratio", "se", "stability"):
        np.testing.assert_array_equal(table[name].to_numpy().reshape(4, 3), result.values(name))
    for column, best in (("null_mean", np.mean), ("null_max", np.max)):
        np.testing.assert_array_equal(table[column].to_numpy().reshape(4, 3), best(result.values("null"), axis=1))
    for name in ("participation_ratio", "largest_row_share", "largest_dimension_share"):
        np.testing.assert_array_equal(table[name], np.repeat(result.values(name), 3))


def test_shares_of_rows_dimensions_and_components_are_those_of_the_rows_by_hand(store, result):
    for i, hook in enumerate(result.hooks):
        x = store.load(hook).double().numpy()[members_by_hand(store)]
        squares = (x - x.mean(axis=0)) ** 2
        variances = np.linalg.eigvalsh(np.cov(x.T))
        by_hand = [variances.sum() ** 2 / (variances**2).sum()]
        by_hand += [squares.sum(axis=axis).max() / squares.sum() for axis in (1, 0)]
        found = [result.values(name)[i] for name in ("participation_ratio", *COLUMNS[-5:-3])]
        np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_the_table_counts_members_templates_and_rows(store, result):
    rows = store.rows.iloc[members_by_hand(store)]
    counts = result.table[["n_members", "n_templates", "n_rows"]].drop_duplicates().to_numpy().tolist()
    assert counts == [[12, 4, len(rows)]]
    few = pca_by_layer(store.view(layers="1", where="family == 'digits' and frame == 'list' and member >= 0"), k=2)
    # six windows of four digits, the lowest from 0 and the highest to 8
    assert few.table[["n_members", "n_templates", "n_rows"]].iloc[0].tolist() == [9, 1, 24]


def test_everything_that_the_values_depend_on_is_recorded(store):
    result = pca_by_layer(store.view("mlp_out", "1-2"), k=2, seed=4)
    assert result.name == "pca"
    assert result.source == store.fingerprint
    assert result.parameters == {
        "site": "mlp_out",
        "layers": "1-2",
        "where": "member >= 0 and position > 0",
        "k": 2,
        "seed": 4,
        "n_permutations": N_PERMUTATIONS,
        "n_splits": N_SPLITS,
        "weights": store.weights,
    }
    assert result.hooks == (Hook("mlp_out", 1), Hook("mlp_out", 2))


def test_the_seed_changes_the_null_and_the_halves_and_nothing_else(store, result):
    again, other = (pca_by_layer(store.view(layers="2"), k=3, seed=seed) for seed in (0, 1))
    for name in arrays_of(result):
        np.testing.assert_array_equal(again.values(name)[0], result.values(name)[-1])
        same = np.array_equal(other.values(name)[0], result.values(name)[-1])
        assert same == (name not in ("null", "null_mean", "null_max", "stability"))


def test_each_layer_is_told_when_it_is_done(store):
    told = []
    result = pca_by_layer(store.view("mlp_out"), k=1, loop=Loop(on_hook=told.append))
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
    with rerecorded(path) as file:
        for layer, x in enumerate(layers):
            file["activations"][f"blocks.{layer}.hook_mlp_out"][:] = x
    with ActivationStore.open(path) as store:
        yield store, axes, pca_by_layer(store.view("mlp_out"), k=3)


def test_a_planted_line_is_found_and_orders_the_members(planted):
    _, axes, result = planted
    assert abs(result.values("directions")[0, 0] @ axes[0]) > 0.9999
    assert result.values("explained_variance_ratio")[0, 0] > 0.99
    assert abs(np.corrcoef(result.values("scores")[0, :, 0], result.rows["unit"])[0, 1]) > 0.9999


def test_a_planted_plane_takes_two_components_and_leaves_the_third_nothing(planted):
    _, axes, result = planted
    ratios = result.values("explained_variance_ratio")[2]
    assert ratios[:2].sum() == pytest.approx(1)
    assert ratios[2] == pytest.approx(0, abs=1e-7)  # float32 carries no more
    assert ratios[0] == pytest.approx(25 / 34, abs=0.12)  # some forty rows are drawn
    cosines = np.linalg.svd(result.values("directions")[2, :2] @ axes[1:].T, compute_uv=False)
    assert cosines.min() > 0.9999


def test_a_planted_subspace_is_found_in_every_half_and_noise_is_not(planted):
    line, noise, plane = planted[2].values("stability")
    assert line[0] > 0.9999
    assert plane[1] > 0.9999
    assert noise.max() < 0.7


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
        analysed(pca_by_layer, store, **choices)


def test_below_five_members_there_is_no_standard_error(store):
    table = pca_by_layer(store.view(layers="1", where="member == 1 and value < 5"), k=2).table
    assert table["n_members"].eq(4).all()
    assert table["se"].isna().all()
    assert table["null_max"].notna().all()


def test_a_member_with_most_of_the_rows_may_be_left_out(sentences):
    long = "prompt == 4 or is_last"
    rows = sentences.select(f"({long}) and position >= 0")
    assert (len(rows), (rows["prompt"] != 4).sum()) == (8, 4)
    errors = pca_by_layer(sentences.view(layers="1", where=long), k=5).values("se")
    assert errors.shape == (1, 5)
    assert (errors > 0).all()


def test_texts_that_end_alike_are_analysed_where_they_differ(loaded, tmp_path):
    """Without position embeddings the last tokens of such texts are equal rows at the embedding, and only there."""
    texts = ["cat.", "dog.", "red bird.", "one.", "two blue.", "fish."]
    with stored(loaded["llama"], texts, tmp_path / "a.h5", sites="resid") as store:
        result = pca_by_layer(store.view(), k=2)
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
        pca_by_layer(store.view(), k=2)


def test_one_text_that_ends_otherwise_does_no_harm(loaded, tmp_path):
    texts = ["cat.", "dog.", "red bird.", "one.", "two blue.", "fish,"]
    with stored(loaded["llama"], texts, tmp_path / "a.h5", sites="resid") as store:
        table = pca_by_layer(store.view(), k=1).table.set_index("layer")
    assert table["se"].notna().all()
    # the embedding's shares are 1, and 0 where the odd one is left out
    assert table.loc[-1, "explained_variance_ratio"] == pytest.approx(1)
    assert table.loc[-1, "se"] == pytest.approx(np.sqrt(5 / 6 * (5 * (1 / 6) ** 2 + (5 / 6) ** 2)))


def test_svd_is_numpys_of_the_rows_with_their_mean(store):
    result = svd_by_layer(store.view(), k=3)
    assert result.name == "svd"
    for i, hook in enumerate(result.hooks):
        x = store.load(hook).double().numpy()[members_by_hand(store)]
        u, s, v = np.linalg.svd(x, full_matrices=False)
        np.testing.assert_allclose(result.values("explained_variance")[i], s[:3] ** 2 / len(x), rtol=2e-6)
        ratios = s**2 / (s**2).sum()
        np.testing.assert_allclose(result.values("explained_variance_ratio")[i], ratios[:3], rtol=2e-6)
        assert (np.abs((result.values("directions")[i] * v[:3]).sum(axis=1)) > 1 - 1e-6).all()
        np.testing.assert_allclose(np.abs(result.values("scores")[i]), np.abs(u * s)[:, :3], atol=1e-3)
        assert not result.values("mean")[i].any()


def test_rows_are_asked_for_in_blocks_of_8192_and_never_all_at_once(store, result, monkeypatch):
    asked = []
    blocks = ActivationStore.blocks
    monkeypatch.setattr(ActivationStore, "load", lambda *args: pytest.fail("all rows were loaded"))
    monkeypatch.setattr(
        ActivationStore, "blocks", lambda *args, n_rows: asked.append(n_rows) or blocks(*args, n_rows=n_rows)
    )
    again = pca_by_layer(store.view(layers="2"), k=3)
    assert set(asked) == {8192}
    np.testing.assert_array_equal(again.values("scores")[0], result.values("scores")[-1])
