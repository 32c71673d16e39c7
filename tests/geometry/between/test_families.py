"""Two families at every layer: against cells cut by hand, with planted codes, controls and the readout removed."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch

from cache import ActivationStore, load_dataset, plan_recording
from cache.errors import FingerprintError, InputError
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompts
from cache.prompts.sequences import SequenceDesign
from geometry.between.families import between_families, between_pairs
from geometry.between.summary import summary
from geometry.results.over import Loop
from geometry.results.result import LayerResult
from geometry.similarity.family_measures import MEASURES, member_means
from geometry.similarity.of_families import (
    context_products,
    lag_profile,
    matched_cosine,
    matched_products,
    retrieval,
    shared_share,
)
from geometry.similarity.of_rows import linear_cka, procrustes, rsa
from geometry.similarity.sharing_null import LEAST_RELIABILITY, reliability, studentised
from geometry.stats.permutations import own_index_p
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.uncertainty import template_bootstrap_se
from geometry.stats.unrelated_codes import draw_directions, draw_weights, mean_code
from tests.recordings import recorded
from tests.rerecording import rerecorded
from tests.variants import some
from tests.views import analysed, arrays_of

TRUE = {"matched_cosine": matched_cosine, "shared_share": shared_share, "retrieval": retrieval}
DESCRIBED = {"cka": linear_cka, "rsa": rsa, "procrustes": procrustes}
CONTROLS = [f"control:{i}" for i in range(20)]
MEMBERS = tuple(range(2, 9))


def prompts_of(names, starts=range(1, 8), templates=5):
    starts = tuple(starts)
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=starts, templates=templates)
    return load_dataset(names, design)


def stored(model, prompts, path, **choices):
    return recorded(
        model, plan_recording(model, prompts, **{"positions": "last", "sites": "resid_post", **choices}), path
    )


def plant(path, layers):
    """Write activations in place of a layer's: `code(family, member, template, rng)` for each prompt's last token."""
    with ActivationStore.open(path) as store:
        prompts = store.prompts.iloc[store.rows["prompt"]]
    labels = list(zip(prompts["family"], [v[-1] for v in prompts["values"]], prompts["template"], strict=True))
    with rerecorded(path) as file:
        for layer, code in enumerate(layers):
            file["activations"][f"blocks.{layer}.hook_resid_post"][:] = np.stack([code(*label) for label in labels])


def cells_of(store, hook, family, members=MEMBERS, templates=5):
    """Contexts by members, by looking each prompt up."""
    x = store.load(hook).double()
    found = {}
    for i, number in store.rows.query("is_last and family == @family")["prompt"].items():
        prompt = store.prompts.iloc[number]
        found[prompt["template"], prompt["values"][-1]] = x[i]
    return torch.stack([torch.stack([found[template, member] for member in members]) for template in range(templates)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("between")


@pytest.fixture(scope="module")
def store(gpt2, folder):
    """Four families and no control, as the model has them."""
    with stored(gpt2, prompts_of("digits,months,numwords,days", range(1, 5)), folder / "a.h5") as store:
        yield store


@pytest.fixture(scope="module")
def planted_path(gpt2, folder):
    """Layer 0: digits and months share a code. Layer 1: each has its own. Layer 2: months have none."""
    path = folder / "planted.h5"
    stored(gpt2, prompts_of("digits,months,control:0-19"), path).close()
    rng = np.random.default_rng(0)
    families = ["digits", "months", *CONTROLS]
    frame = np.linalg.qr(rng.normal(size=(33, 33)))[0]
    shared = rng.normal(size=(7, 33))
    own = {family: rng.normal(size=(7, 33)) for family in families}
    apart = {"digits": rng.normal(size=(7, 16)) @ frame[:16], "months": rng.normal(size=(7, 16)) @ frame[16:32]}
    setting = {(family, t): 5 * rng.normal(size=33) for family in families for t in range(5)}

    def code(members):
        return lambda f, m, t: setting[f, t] + members(f)[m - 2] + 0.1 * rng.normal(size=33)

    plant(
        path,
        [
            code(lambda f: shared if f in ("digits", "months") else own[f]),
            code(lambda f: apart.get(f, own[f])),
            code(lambda f: np.zeros((7, 33)) if f == "months" else own[f]),
        ],
    )
    return path


@pytest.fixture(scope="module")
def planted(planted_path):
    with ActivationStore.open(planted_path) as store:
        yield store


@pytest.fixture(scope="module")
def found(planted):
    return between_families(planted.view(), "digits", "months", measures=[*TRUE, *DESCRIBED])


@pytest.fixture(scope="module")
def lines(found):
    return found.table.set_index(["layer", "measure"])


# --- values


@pytest.mark.parametrize("measure", [*TRUE, *DESCRIBED])
def test_values_are_those_of_cells_cut_by_hand(planted, found, lines, measure):
    for hook in found.hooks:
        x, y = (cells_of(planted, hook, family) for family in ("digits", "months"))
        truth = TRUE[measure](x, y) if measure in TRUE else DESCRIBED[measure](member_means(x), member_means(y))
        if measure in TRUE and not min(reliability(x), reliability(y)) >= LEAST_RELIABILITY:
            truth = np.nan
        assert lines.loc[(hook.layer, measure), "value"] == pytest.approx(truth, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("measure", ["matched_cosine", "shared_share"])
def test_the_interval_is_that_of_unrelated_codes_and_measures_that_describe_have_none(lines, measure):
    for layer, true in ((0, 1.0), (1, 0.0)):
        line = lines.loc[(layer, measure)]
        assert line["ci_low"] - 1e-3 < line["value"] < line["ci_high"] + 1e-3
        assert line["ci_low"] <= line["ci_high"] <= 1
        assert line["ci_low"] - 0.05 <= true <= line["ci_high"] + 0.05
    assert lines.xs("rsa", level="measure")[["ci_low", "ci_high", "p", "p_layers", "q"]].isna().all(axis=None)
    assert lines.xs("rsa", level="measure")["permuted_mean"].notna().all()


def test_a_count_of_hits_has_no_interval(lines):
    assert lines.xs("retrieval", level="measure")[["ci_low", "ci_high"]].isna().all(axis=None)


def test_the_error_over_templates_draws_them_again_and_takes_five(gpt2, lines, folder):
    assert lines.xs("matched_cosine", level="measure")["se_templates"].notna().tolist() == [True, True, False]
    assert lines.xs("retrieval", level="measure")["se_templates"].isna().all()
    with stored(gpt2, prompts_of("digits,months", range(1, 5), templates=6), folder / "six.h5", layers="1") as store:
        result = between_families(store.view(), "digits", "months", measures=["matched_cosine", "retrieval"], seed=4)
        x, y = (cells_of(store, ("resid_post", 1), f, range(2, 6), templates=6) for f in ("digits", "months"))
    expected = template_bootstrap_se(*(context_products(a, b) for a, b in ((x, y), (x, x), (y, y))), seed=4)
    assert result.table["se_templates"].tolist() == pytest.approx([expected, np.nan], nan_ok=True)
    assert result.table["n_templates"].eq(6).all()


def test_controls_are_measured_against_both_families(planted, found, lines):
    x, y = (cells_of(planted, found.hooks[1], family) for family in ("digits", "months"))
    by_hand = []
    for control in CONTROLS:
        z = cells_of(planted, found.hooks[1], control)
        by_hand.append([matched_cosine(x, z), matched_cosine(z, y)])
    np.testing.assert_allclose(found.values("controls")[1, 0, 0, 0], by_hand, atol=1e-9)
    line = lines.loc[(1, "matched_cosine")]
    assert line["control_max"] == pytest.approx(np.max(by_hand))
    assert line["control_mean"] == pytest.approx(np.mean(by_hand))
    assert line["control_min"] == pytest.approx(np.min(by_hand))
    assert line["n_controls"] == 20
    assert found.parameters["controls"] == {"digits - months": CONTROLS}


def test_lags_and_own_index_effects_are_those_of_the_cells(planted, found, lines):
    x, y = (cells_of(planted, found.hooks[0], family) for family in ("digits", "months"))
    np.testing.assert_allclose(found.values("lag_profile")[0, 0, 0, 0], lag_profile(x, y), atol=1e-9)
    assert np.isnan(found.values("lag_profile")[0, 0, 0, 3]).all()
    assert lines.loc[(0, "matched_cosine"), "peak_lag"] == 0
    assert lines.loc[(0, "matched_cosine"), "own_p"] == max(own_index_p(x), own_index_p(y)) == 1 / 200
    assert lines.loc[(2, "matched_cosine"), "own_p"] > 0.05


# --- verdicts on what was planted


@pytest.mark.parametrize("measure", TRUE)
def test_a_code_that_is_shared_is_told_from_one_that_is_private(lines, measure):
    assert lines.loc[(0, measure), "verdict"] == "shared"
    assert lines.loc[(2, measure), "verdict"] == "no index effect"
    # a count of hits has no interval that could lie below anything
    private = "undecided (within the controls)" if measure == "retrieval" else "private"
    assert lines.loc[(1, measure), "verdict"] == private


def test_measures_that_describe_decide_nothing(lines):
    for measure in DESCRIBED:
        assert (lines.xs(measure, level="measure")["verdict"] == "describes only").all()
    assert lines.loc[(0, "cka"), "value"] > 0.9


def test_without_controls_nothing_is_decided(planted_path, gpt2, folder):
    path = folder / "bare.h5"
    stored(gpt2, prompts_of("digits,months"), path).close()
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(7, 33))
    plant(path, [lambda f, m, t: codes[m - 2] + 0.1 * rng.normal(size=33)] * 3)
    with ActivationStore.open(path) as store:
        result = between_families(store.view(), "digits", "months")
    assert (result.table["value"] > 0.9).all()
    assert result.table["verdict"].eq("undecided (n controls = 0)").all()
    assert result.values("controls").shape == (3, 1, 1, 3, 0, 2)
    assert result.table[["control_mean", "control_max"]].isna().all(axis=None)


def test_below_five_members_there_is_a_value_and_no_verdict(planted):
    few = "is_last and not (" + " or ".join(f"pair_key.str.endswith(',{m}')" for m in (6, 7, 8)) + ")"
    table = between_families(planted.view(layers="0", where=few), "digits", "months", measures=["matched_cosine"]).table
    assert table["n_members"].tolist() == [4]
    assert table["verdict"].tolist() == ["undecided (n members = 4)"]
    assert table["value"][0] > 0.9
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)
    by_hand = [cells_of(planted, ("resid_post", 0), f, (2, 3, 4, 5)) for f in ("digits", "months")]
    assert table["value"][0] == pytest.approx(matched_cosine(*by_hand), abs=1e-9)


# --- p and q


@pytest.mark.parametrize("measure", some(TRUE, "matched_cosine"))
def test_p_is_against_unrelated_codes_drawn_from_the_controls_at_all_layers_at_once(planted, found, lines, measure):
    weights = draw_weights(1000, 7, 140, seed=0)[: MEASURES[measure].most_draws]
    nulls, scores = [], []
    for hook in found.hooks[:2]:
        x, y = (cells_of(planted, hook, family) for family in ("digits", "months"))
        directions = draw_directions([mean_code(cells_of(planted, hook, control)) for control in CONTROLS], weights)
        nulls.append(MEASURES[measure].unrelated(x, y, directions))
        raw = np.append(TRUE[measure](x, y), nulls[-1])
        scores.append(raw if measure == "retrieval" else studentised(x, y, directions))
    over = rank_p_over_layers(np.stack(scores))
    for layer in (0, 1):
        line = lines.loc[(layer, measure)]
        assert line["p"] == pytest.approx(np.mean(scores[layer] >= scores[layer][0] - 1e-9))
        assert line["p_layers"] == over[layer]
        assert line["null_mean"] == pytest.approx(nulls[layer].mean(), abs=1e-6)
        assert line["null_max"] == pytest.approx(nulls[layer].max(), abs=1e-6)
        assert line["p_floor"] == 1 / (1 + len(nulls[layer]))


@pytest.mark.parametrize("measure", [*TRUE, "cka", "rsa"])
def test_permuted_members_describe(planted, measure):
    few = "is_last and not (" + " or ".join(f"pair_key.str.endswith(',{m}')" for m in (6, 7, 8)) + ")"
    result = between_families(planted.view(layers="0", where=few), "digits", "months", measures=[measure])
    value = TRUE.get(measure) or (lambda a, b: DESCRIBED[measure](member_means(a), member_means(b)))
    x, y = (cells_of(planted, result.hooks[0], family, tuple(range(2, 6))) for family in ("digits", "months"))
    nulls = [value(x, y[:, list(order)]) for order in itertools.permutations(range(4))][1:]
    assert result.table["permuted_mean"][0] == pytest.approx(np.mean(nulls))
    assert result.table["permuted_max"][0] == pytest.approx(np.max(nulls))


def test_without_ten_controls_there_is_neither_p_nor_interval(store):
    table = between_pairs(store.view(), [("digits", "months"), ("days", "numwords")], measures=["matched_cosine"]).table
    assert table[["p", "p_layers", "q", "ci_low", "null_mean", "control_limit"]].isna().all(axis=None)
    assert table["permuted_mean"].notna().any()


def test_each_pair_among_several_has_what_it_has_alone(store):
    pairs = [("digits", "months"), ("days", "numwords")]
    both = between_pairs(store.view(), pairs, measures=["matched_cosine"], seed=2)
    for i, (a, b) in enumerate(pairs):
        alone = between_families(store.view(), a, b, measures=["matched_cosine"], seed=2)
        for name in ("value", "permuted_max", "reliability", "lag_profile"):
            np.testing.assert_array_equal(both.values(name)[:, i], alone.values(name)[:, 0])


def test_a_measure_of_subspaces_has_no_permutation_and_may_lack_a_layer(loaded, folder):
    """The last tokens are one and the same at the embedding, where there is nothing to compare."""
    prompts = prompts_of("digits,months", range(1, 5))
    with stored(loaded["llama"], prompts, folder / "angles.h5", sites="resid") as store:
        table = between_families(
            store.view(), "digits", "months", measures=["principal_angles", "matched_cosine"]
        ).table
    embedding, blocks = table[table["layer"] < 0], table[table["layer"] >= 0]
    assert len(embedding) == 2
    assert embedding[["value", "null_mean", "p", "p_layers", "own_p"]].isna().all(axis=None)
    assert embedding["verdict"].tolist() == ["describes only", "undecided (n members = 4)"]
    angles = blocks[blocks["measure"] == "principal_angles"]
    assert angles[["p", "p_layers", "p_floor"]].isna().all(axis=None)
    assert angles["value"].notna().all()


# --- order


def test_reordered_lists_tell_index_from_word_and_change_nothing_else(planted, gpt2, folder):
    """Layer 0: words. Layer 1: a code of the answer, in increasing lists alone. Layer 2: nothing in common."""
    path = folder / "orders.h5"
    design = {"frames": ("quote",), "lengths": (2,), "starts": tuple(range(1, 8)), "templates": 4}
    kinds = ("increasing", "reordered:0-20")
    prompts = load_dataset(
        "digits,months,control:0-19", SequenceDesign((FAMILIES["digits"],), kinds=("increasing",), **design)
    )
    lists = load_dataset("digits,months", SequenceDesign((FAMILIES["digits"],), kinds=kinds[1:], **design))
    stored(gpt2, Prompts((*prompts, *lists), prompts.seed), path).close()
    rng = np.random.default_rng(0)
    words, answers = 2 * rng.normal(size=(2, 7, 33))
    own = {family: rng.normal(size=(7, 33)) for family in ["digits", "months", *CONTROLS]}
    with ActivationStore.open(path) as store:
        labels = store.prompts.iloc[store.rows["prompt"]]
    with rerecorded(path) as file:
        for layer in range(3):
            rows = []
            for family, kind, values in zip(labels["family"], labels["kind"], labels["values"], strict=True):
                member = values[-1] - 2
                shared = (
                    (words, answers * (kind == "increasing"), 0 * words)[layer] if family in FAMILIES else 0 * words
                )
                rows.append(own[family][member] * 0.5 + shared[member] + 0.3 * rng.normal(size=33))
            file["activations"][f"blocks.{layer}.hook_resid_post"][:] = np.array(rows)
    with ActivationStore.open(path) as store:
        result = between_families(store.view(), "digits", "months", measures=["matched_cosine"])
        alone = between_families(
            store.view(where="is_last and kind == 'increasing'"), "digits", "months", measures=["matched_cosine"]
        )
        reordered = between_families(
            store.view(where="is_last and kind == 'reordered:3'"), "digits", "months", measures=["matched_cosine"]
        )
    lines = result.table.set_index("layer")
    assert lines["n_orders"].eq(21).all()
    assert lines["n_templates"].eq(4).all()
    assert lines.loc[0, "order_p"] > 0.05
    assert lines.loc[1, "order_p"] == 1 / 22
    assert lines.loc[0, "reordered"] > 0.8
    assert abs(lines.loc[1, "reordered"]) < 0.4
    for name in ("value", "p_layers", "control_limit"):
        np.testing.assert_array_equal(alone.table[name], result.table[name])
    assert alone.table["n_orders"].eq(0).all()
    assert alone.table[["order_p", "order_q", "reordered"]].isna().all(axis=None)
    assert reordered.table["value"][0] > 0.8
    assert summary(result)["code"].tolist() == ["index"]


# --- the readout


def readout_by_hand(model, words):
    """What the final norm and the unembedding make of the residual stream, from the model's own weights."""
    hf = model.bridge.original_model
    tokens = {ids[0] for word in words for ids in (model.tokenizer.encode(word), model.tokenizer.encode(" " + word))}
    unembedding = hf.lm_head.weight.detach().double()[sorted(tokens)]
    if hasattr(hf, "transformer"):
        directions = unembedding * hf.transformer.ln_f.weight.detach().double()
        return directions - directions.mean(dim=1, keepdim=True)
    return unembedding * hf.model.norm.weight.detach().double()


def off(x, directions):
    """Least squares residual of every row."""
    flat = x.reshape(-1, x.shape[-1]).numpy()
    weights = np.linalg.lstsq(directions.T.numpy(), flat.T, rcond=None)[0]
    return torch.from_numpy(flat - (directions.T.numpy() @ weights).T).reshape(x.shape)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_with_the_readout_removed_the_value_is_that_of_cells_projected_by_hand(loaded, folder, name):
    model = loaded[name]
    with stored(model, prompts_of("digits,months", range(1, 5)), folder / f"readout-{name}.h5", layers="1-2") as store:
        result = between_families(store.view(), "digits", "months", model=model)
        # shown are 2 to 5, answered 3 to 6
        words = [FAMILIES[family].member(i) for family in ("digits", "months") for i in range(2, 7)]
        directions = readout_by_hand(model, words)
        assert np.linalg.matrix_rank(directions.numpy()) == 20
        for i, hook in enumerate(result.hooks):
            x, y = (cells_of(store, hook, family, range(2, 6)) for family in ("digits", "months"))
            centred = [z - z.mean(dim=1, keepdim=True) for z in (x, y)]
            for j, measure in enumerate(TRUE.values()):
                for variant, sides in enumerate((centred, [off(z, directions) for z in centred])):
                    reliable = min(map(reliability, sides)) >= LEAST_RELIABILITY
                    truth = measure(*sides) if reliable else np.nan
                    found = result.values("value")[i, 0, variant, j]
                    assert found == pytest.approx(truth, abs=1e-6, nan_ok=True)
            own = [[matched_products(z, z)[1] for z in (one, off(one, directions))] for one in centred]
            gone = np.mean([1 - after / before for before, after in own])
            removed = result.table[result.table["variant"] != "plain"]["index_removed"].to_numpy().reshape(2, 3)
            assert removed[i] == pytest.approx(gone, abs=1e-6)
    assert result.parameters["variants"] == ["plain", "readout removed"]
    assert result.table["variant"].tolist() == (["plain"] * 3 + ["readout removed"] * 3) * 2


def test_of_members_of_several_tokens_no_readout_is_removed_and_it_is_said_how_little(gpt2, folder):
    records = [
        {"text": f"{text} {side}-unheard-of-{i}", "member": f"{side}-unheard-of-{i}", "family": side, "ordinal": i}
        | {"template": text}
        for text in ("so", "now", "then")
        for side in "ab"
        for i in range(1, 6)
    ]
    plan = plan_recording(gpt2, load_dataset(records), sites="resid_post", layers="1", positions="last")
    with recorded(gpt2, plan, folder / "several.h5") as store:
        result = between_families(store.view(), "a", "b", model=gpt2, measures=["matched_cosine"])
    plain, removed = result.values("value")[0, 0, :, 0]
    assert removed == pytest.approx(plain, nan_ok=True)
    assert result.table["index_removed"].tolist()[1] == pytest.approx(0, abs=1e-9)


def test_a_code_in_the_readout_disappears_and_one_beside_it_stays(gpt2, folder):
    path = folder / "in-readout.h5"
    stored(gpt2, prompts_of("digits,months", range(1, 6)), path).close()
    words = [FAMILIES[family].member(i) for family in ("digits", "months") for i in range(2, 8)]
    directions = readout_by_hand(gpt2, words).numpy()
    rng = np.random.default_rng(0)
    outside = np.linalg.svd(directions)[2][np.linalg.matrix_rank(directions) :]
    within = rng.normal(size=(5, len(directions))) @ directions
    beside = 3 * rng.normal(size=(5, len(outside))) @ outside
    plant(
        path,
        [
            lambda f, m, t: within[m - 2],
            lambda f, m, t: within[m - 2] + t,
            lambda f, m, t: within[m - 2] + beside[m - 2] + 0.01 * rng.normal(size=33),
        ],
    )
    with ActivationStore.open(path) as store:
        table = between_families(store.view(), "digits", "months", model=gpt2, measures=["matched_cosine"]).table
    lines = table.set_index(["variant", "layer"])
    assert (lines.loc["plain", "value"] > 0.99).all()
    removed = lines.loc["readout removed"]
    assert removed["value"].isna().tolist() == [True, True, False]
    assert removed["verdict"].tolist()[:2] == ["no index effect"] * 2
    assert removed["own_p"].isna().tolist() == [True, True, False]
    assert removed["value"][2] > 0.99


def test_the_model_must_be_the_one_recorded_and_the_site_one_that_it_reads(store, gpt2, loaded, folder):
    with pytest.raises(FingerprintError, match=r"a.h5 comes from other weights than .*llama's; give the model"):
        between_families(store.view(), "digits", "months", model=loaded["llama"])
    # z of this model is as wide as the residual stream, and yet none of its coordinates is one
    with (
        stored(gpt2, prompts_of("digits,months", range(1, 5)), folder / "z.h5", sites="z,attn_out") as heads,
    ):
        assert heads.load(("z", 0)).shape[1] == gpt2.d_model
        with pytest.raises(InputError, match=r"the readout is removed from resid_pre, .* only; got z"):
            between_families(heads.view("z"), "digits", "months", model=gpt2)
        assert len(between_families(heads.view("z"), "digits", "months", measures=["retrieval"]).table) == 3
        both = between_families(heads.view("attn_out"), "digits", "months", measures=["retrieval"], model=gpt2)
        assert len(both.table) == 6


# --- what is kept, and what is refused


def test_a_result_is_saved_whole(found, planted, tmp_path):
    found.save(tmp_path)
    described = json.loads((tmp_path / "result.json").read_text())
    assert described["parameters"] == {
        "site": "resid_post",
        "layers": "all",
        "where": "is_last",
        "measures": [*TRUE, *DESCRIBED],
        "pairs": ["digits - months"],
        "variants": ["plain"],
        "seed": 0,
        "members": {"digits - months": list(MEMBERS)},
        "controls": {"digits - months": CONTROLS},
    }
    assert (described["name"], described["source"]) == ("compare", planted.fingerprint)
    assert described["axes"]["controls"] == ["hook", "pair", "variant", "measure", "control", "side"]
    saved = LayerResult.load(tmp_path)
    assert saved.dataset.equals(found.dataset)
    assert {name: list(axes) for name, (axes, _) in arrays_of(saved).items()} == {
        name: axes for name, axes in described["axes"].items() if axes
    }
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table.columns) == list(found.table.columns)
    assert table["verdict"].tolist() == found.table["verdict"].tolist()
    np.testing.assert_allclose(table["value"], found.table["value"], rtol=1e-5)


def test_the_seed_changes_the_draws_and_not_the_value(planted, found):
    one, other = (
        between_families(planted.view(layers="1"), "digits", "months", measures=["procrustes"], seed=seed)
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(one.values("null_mean")[0, 0, 0, 0], found.values("null_mean")[1, 0, 0, 5])
    assert one.values("value") == other.values("value")
    assert one.values("null_mean") != other.values("null_mean")


def test_each_layer_is_told_when_it_is_done(store):
    told = []
    result = between_pairs(store.view(), [("digits", "months")], measures=["retrieval"], loop=Loop(on_hook=told.append))
    assert tuple(told) == result.hooks
    assert [hook.layer for hook in told] == [0, 1, 2]


def test_rows_and_members_and_templates_are_counted(store):
    line = between_families(store.view(layers="0"), "digits", "months", measures=["retrieval"]).table.iloc[0]
    assert (line["n_members"], line["n_templates"], line["n_rows"]) == (4, 5, 40)


def test_a_family_may_have_a_name_with_a_dash(gpt2, folder):
    (folder / "my - own.txt").write_text("cat\ndog\nfish\nbird\nred\nblue\n")
    prompts = prompts_of(f"digits,family:{folder / 'my - own.txt'}", range(1, 5))
    with stored(gpt2, prompts, folder / "dash.h5") as store:
        table = between_families(store.view(), "digits", "my - own", measures=["retrieval"]).table
    assert set(table["b"]) == {"my - own"}


@pytest.mark.parametrize(
    ("pair", "choices", "message"),
    [
        (("digits", "digits"), {}, "a comparison needs two different families"),
        (("digits", "roman"), {}, "the store has no family 'roman'; it has digits, months, numwords, days"),
        (("nobody", "digits"), {}, "the store has no family 'nobody'"),
        (("digits", "months"), {"measures": ["cosine"]}, "no measure 'cosine'; there are matched_cosine, shared_share"),
        (("digits", "months"), {"measures": []}, "no measure ''; there are"),
        (("digits", "months"), {"where": "is_last and template == 1"}, r"have 1 context in common"),
        (("digits", "months"), {"site": "mlp_out"}, "the store has no 'mlp_out'; it has resid_post"),
        (("digits", "months"), {"layers": "9"}, "the store has resid_post at layers 0, 1, 2; got '9'"),
    ],
)
def test_what_cannot_be_compared_is_told(store, pair, choices, message):
    with pytest.raises(InputError, match=message):
        analysed(between_families, store, *pair, **choices)


def test_no_pair_at_all_is_refused(store):
    with pytest.raises(InputError, match="a comparison needs two different families"):
        between_pairs(store.view(), [])


def test_every_measure_there_is_can_be_asked_for(store):
    table = between_families(store.view(layers="1"), "digits", "months", measures=list(MEASURES)).table
    assert table["measure"].tolist() == list(MEASURES)
    few = {name for name, measure in MEASURES.items() if measure.least_members > 4}
    assert set(table[table["value"].isna()]["measure"]) == few == {"cca", "cka_debiased"}
