"""Variance split at every layer: against `demix` on cells cut by hand, with planted parts."""

import numpy as np
import pytest
import torch

from cache import ActivationStore, Hook, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from geometry.bases.demixing import N_DRAWS, PARTS, demix
from geometry.layers.demix import demix_by_layer
from geometry.results.over import Loop
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.unrelated_codes import draw_directions, draw_weights, mean_code
from tests.recordings import recorded
from tests.rerecording import rerecorded
from tests.views import analysed, arrays_of

COLUMNS = ["layer", "site", "hook", "part", "share", "null_mean", "null_max", "p", "p_layers", "p_floor"]
COLUMNS += ["n_controls", "n_members", "n_templates", "n_rows"]
FOUND = ("digits", "months", "days")
CONTROLS = [f"control:{i}" for i in range(10)]


def stored(model, names, path, **choices):
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=(1, 2, 3, 4, 5))
    plan = plan_recording(model, load_dataset(names, design), **{"sites": "resid", "positions": "last", **choices})
    return recorded(model, plan, path)


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    """Three families and ten controls; days end with 7, so that 2 to 6 are shown last by all."""
    with stored(gpt2, "digits,months,days,control:0-9", tmp_path_factory.mktemp("demix") / "a.h5") as store:
        yield store


@pytest.fixture(scope="module")
def result(store):
    return demix_by_layer(store.view(), k=3)


def cells_of(store, hook, families=FOUND, members=range(2, 7)):
    x, found = store.load(hook).double(), {}
    for i, prompt in enumerate(store.rows["prompt"]):
        line = store.prompts.iloc[prompt]
        found[line["family"], line["template"], line["values"][-1]] = x[i]
    return torch.stack(
        [torch.stack([torch.stack([found[f, t, m] for m in members]) for t in range(4)]) for f in families]
    )


def test_every_layer_is_demix_of_cells_cut_by_hand(store, result):
    for i, hook in enumerate(result.hooks[1:], 1):
        controls = [mean_code(one) for one in cells_of(store, hook, CONTROLS)]
        directions = draw_directions(controls, draw_weights(2 * N_DRAWS, 5, 50, seed=0))
        truth = demix(cells_of(store, hook), k=3, directions=directions)
        np.testing.assert_allclose(result.values("share")[i], truth.share, atol=1e-9)
        np.testing.assert_allclose(result.values("null")[i], truth.null, atol=1e-6)
        np.testing.assert_allclose(result.values("studentised")[i], truth.studentised, atol=1e-6)
        np.testing.assert_allclose(result.values("stability")[i], truth.stability, atol=1e-6)
        np.testing.assert_allclose(result.values("captured")[i], truth.captured, atol=1e-6)
        np.testing.assert_allclose(result.values("index_directions")[i], truth.index.directions, atol=1e-5)
        assert result.values("p")[i, 0] == truth.p
    over = rank_p_over_layers(result.values("studentised"))
    np.testing.assert_array_equal(result.values("p_layers")[:, 0], over)


def test_without_ten_controls_there_is_no_p(gpt2, tmp_path):
    with stored(gpt2, "digits,months,control:0-8", tmp_path / "few.h5", layers="1") as store:
        result = demix_by_layer(store.view())
    assert result.values("null").shape == (len(result.hooks), 0)
    assert result.table[["p", "p_layers", "p_floor", "null_max"]].isna().all(axis=None)
    assert result.table["n_controls"].eq(9).all()


def test_axes_are_named_and_fit_the_values(result):
    lengths = {"hook": 4, "part": len(PARTS), "draw": 2 * N_DRAWS, "score": 1 + 2 * N_DRAWS, "component": 3, "d": 33}
    assert {name: axes for name, (axes, _) in arrays_of(result).items()} == {
        "share": ("hook", "part"),
        "null": ("hook", "draw"),
        "studentised": ("hook", "score"),
        **dict.fromkeys(["null_mean", "null_max", "p", "p_layers", "p_floor"], ("hook", "part")),
        "stability": ("hook", "component"),
        "captured": ("hook", "component"),
        "index_directions": ("hook", "component", "d"),
    }
    for axes, values in arrays_of(result).values():
        assert values.shape == tuple(lengths[axis] for axis in axes)


def test_the_table_is_tidy_and_says_what_the_arrays_say(result):
    table = result.table
    assert list(table.columns) == COLUMNS
    assert table[["layer", "part"]].to_numpy().tolist() == [[i, part] for i in (-1, 0, 1, 2) for part in PARTS]
    np.testing.assert_array_equal(table["share"].to_numpy().reshape(4, -1), result.values("share"))
    assert table[["n_members", "n_templates", "n_rows"]].drop_duplicates().to_numpy().tolist() == [[5, 4, 60]]
    tested = (table["part"] == "shared index") & (table["layer"] >= 0)
    assert table.loc[~tested, ["null_mean", "null_max", "p", "p_layers", "p_floor"]].isna().all(axis=None)
    assert table.loc[tested, "p"].tolist() == result.values("p")[1:, 0].tolist()
    assert table.loc[tested, "null_max"].tolist() == result.values("null")[1:].max(axis=1).tolist()
    assert table.loc[tested, "p_floor"].eq(1 / (1 + 2 * N_DRAWS)).all()
    assert table.loc[~tested, ["p", "null_mean", "null_max"]].isna().all(axis=None)


def test_the_embedding_of_one_token_has_nothing_to_split(result):
    """All last tokens are the same, and at the same position."""
    for name in arrays_of(result):
        if name in ("null_mean", "null_max", "p", "p_layers", "p_floor"):
            continue
        assert np.isnan(result.values(name)[0]).all(), name
        # where there is no shared index, nothing of it can be captured
        assert np.isfinite(result.values(name)[1:]).all() or name == "captured", name


def test_everything_that_the_values_depend_on_is_recorded(store, result):
    assert result.name == "demix"
    assert result.source == store.fingerprint
    assert result.parameters == {
        "site": "resid_post",
        "layers": "all",
        "where": "is_last",
        "families": list(FOUND),
        "k": 3,
        "seed": 0,
        "controls": CONTROLS,
        "members": [2, 3, 4, 5, 6],
        "weights": store.weights,
    }


def test_controls_are_split_where_they_are_asked_for_and_not_otherwise(store, result):
    chosen = demix_by_layer(store.view(layers="1"), ["control:1", "digits"], k=2)
    assert chosen.parameters["families"] == ["control:1", "digits"]
    truth = demix(cells_of(store, Hook("resid_post", 1), ("control:1", "digits")), k=2)
    np.testing.assert_allclose(chosen.values("share")[-1], truth.share, atol=1e-9)


def test_families_that_a_query_leaves_out_are_not_split(store):
    view = store.view(layers=1, where="family != 'days' and is_last")
    found, named = demix_by_layer(view), demix_by_layer(store.view(layers=1), ["digits", "months"])
    assert found.parameters["families"] == ["digits", "months"]
    np.testing.assert_array_equal(found.values("share"), named.values("share"))


def test_the_seed_changes_the_draws_and_nothing_else(store):
    one, other = (demix_by_layer(store.view(layers="1"), seed=seed) for seed in (0, 1))
    for name in arrays_of(one):
        same = np.array_equal(one.values(name), other.values(name), equal_nan=True)
        assert same == (not name.startswith(("null", "studentised"))) or name in ("p", "p_layers")
    assert other.parameters["seed"] == 1


def test_there_are_fewer_index_directions_than_members(store):
    assert demix_by_layer(store.view(layers="2"), k=50).values("index_directions").shape == (1, 4, 33)


def test_each_layer_is_told_when_it_is_done(store):
    told = []
    assert demix_by_layer(store.view(layers="1-2"), loop=Loop(on_hook=told.append)).hooks == tuple(told)
    assert [hook.layer for hook in told] == [1, 2]


def test_planted_parts_are_told_apart(gpt2, tmp_path):
    """Layer 0: a shared index. Layer 1: each family's own. Layer 2: families and templates."""
    path = tmp_path / "planted.h5"
    stored(gpt2, "digits,months,days,control:0-19", path, sites="resid_post").close()
    with ActivationStore.open(path) as store:
        prompts = store.prompts.iloc[store.rows["prompt"]]
    rng = np.random.default_rng(0)
    names = dict.fromkeys(prompts["family"])
    shared, own = rng.normal(size=(9, 33)), {f: rng.normal(size=(9, 33)) for f in names}
    family, template = {f: rng.normal(size=33) for f in names}, rng.normal(size=(4, 33))
    labels = list(zip(prompts["family"], [v[-1] for v in prompts["values"]], prompts["template"], strict=True))
    layers = [
        [shared[m] if f in FOUND else own[f][m] for f, m, _ in labels],
        [own[f][m] for f, m, _ in labels],
        [family[f] + template[t] for f, _, t in labels],
    ]
    with rerecorded(path) as file:
        for layer, x in enumerate(layers):
            sites = file["activations"]
            sites[f"blocks.{layer}.hook_resid_post"][:] = np.array(x) + 0.01 * rng.normal(size=(len(labels), 33))
    with ActivationStore.open(path) as store:
        result = demix_by_layer(store.view())
    share = result.table.pivot(index="layer", columns="part", values="share")
    assert share.loc[0, "shared index"] > 0.99
    assert share.loc[1, "index x family"] > 0.6
    assert abs(share.loc[1, "shared index"]) < 0.2
    assert share.loc[2, "family"] + share.loc[2, "template"] > 0.99
    assert min(share.loc[2, "family"], share.loc[2, "template"]) > 0.2
    np.testing.assert_allclose(share.sum(axis=1), 1)
    assert result.values("p_layers")[0, 0] == 1 / (1 + 2 * N_DRAWS)
    assert result.values("p")[1, 0] > 0.05
    centred = shared[2:7] - shared[2:7].mean(axis=0)
    span = np.linalg.svd(centred)[2][:4]
    cosines = np.linalg.svd(result.values("index_directions")[0] @ span.T, compute_uv=False)
    assert cosines.min() > 0.999


@pytest.mark.parametrize(
    ("families", "choices", "message"),
    [
        (["digits", "roman"], {}, "the store has no family 'roman'; it has digits, months, days, control:0, control:1"),
        (["digits"], {}, "demix needs 2 families that are not controls; got 1"),
        (
            None,
            {"where": "is_last and template < 2"},
            "demix needs 2 families, 4 contexts and 3 members; got 3, 2 and 5",
        ),
        (None, {"where": "is_last and template < 1"}, r"digits and months and days have 1 context in common"),
        (None, {"site": "z"}, "the store has no 'z'; it has resid_pre, resid_post"),
        (None, {"layers": "5"}, "the store has resid_post at layers 0, 1, 2; got '5'"),
    ],
)
def test_what_cannot_be_split_is_told(store, families, choices, message):
    with pytest.raises(InputError, match=message):
        analysed(demix_by_layer, store, families, **choices)


def test_controls_alone_are_no_families_and_equal_activations_no_variance(gpt2, tmp_path):
    with (
        stored(gpt2, "control:0-2", tmp_path / "c.h5", sites="resid_pre", layers="0") as store,
    ):
        with pytest.raises(InputError, match="demix needs 2 families that are not controls; got 0"):
            demix_by_layer(store.view("resid_pre"))
        with pytest.raises(InputError, match="all activations of resid_pre are equal for 'is_last'; there is nothing"):
            demix_by_layer(store.view("resid_pre"), ["control:0", "control:1"])
