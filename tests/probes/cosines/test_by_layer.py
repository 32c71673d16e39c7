"""Cosines between directions: planted ones, the halves' phrasing apart, reliabilities, and steps that add up."""

import itertools
import json

import numpy as np
import pytest

from cache import ActivationStore, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from geometry.results.over import Loop
from probes.cosines.by_layer import cosines_by_layer
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.estimators import METHODS
from tests.recordings import recorded
from tests.rerecording import rerecorded

FAMILY = ["digits", "numwords", "months", "roman"]
D = 33
PAIRS = [("digits", "numwords"), ("months", "roman"), ("numwords", "months"), ("digits", "months")]


def stored(model, path, names=FAMILY, frames=("quote",), templates=4):
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=frames, lengths=(2,), starts=tuple(range(1, 7)), templates=templates
    )
    plan = plan_recording(model, load_dataset(",".join(names), design), positions="last", sites="resid_post")
    return recorded(model, plan, path)


def plant(path, layers):
    """Write activations in place of a layer's: `code(family, member, template)` for each prompt's last token."""
    with ActivationStore.open(path) as store:
        prompts = store.prompts.iloc[store.rows["prompt"]]
    labels = list(zip(prompts["family"], [v[-1] for v in prompts["values"]], prompts["template"], strict=True))
    with rerecorded(path) as file:
        for layer, code in enumerate(layers):
            file["activations"][f"blocks.{layer}.hook_resid_post"][:] = np.stack([code(*label) for label in labels])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cosines")


@pytest.fixture(scope="module")
def store(gpt2, folder):
    """Layer 0: word-ness is one direction in both pairs. Layer 1: only phrasing differs. Layer 2: nothing does."""
    path = folder / "planted.h5"
    stored(gpt2, path).close()
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.normal(size=(D, D)))[0]
    word, own, names = frame[0], frame[1], 10 * frame[8:12]
    member = rng.normal(size=(12, D))
    base = {"digits": 0 * own, "numwords": 2 * word, "months": 3 * own, "roman": 3 * own + 2 * word}
    is_word = {"digits": 0, "numwords": 1, "months": 0, "roman": 1}

    plant(
        path,
        [
            lambda f, m, t: member[m] + base[f] + names[t] + 0.05 * rng.normal(size=D),
            lambda f, m, t: member[m] + is_word[f] * names[t],
            lambda f, m, t: member[m],
        ],
    )
    with ActivationStore.open(path) as store:
        yield store


@pytest.fixture(scope="module")
def found(store):
    return cosines_by_layer(store.view(), PAIRS)


@pytest.fixture(scope="module")
def lines(found):
    return found.table.set_index(["layer", "first", "second"]).sort_index()


def halves(store, hook, pair, method):
    """Steps on templates 0 and 2, and on 1 and 3, by hand."""
    pairs = contrast(store.view(), *pair)
    x, y = load_pairs(store, hook, pairs)
    even = np.array([int(context.split("|")[1]) % 2 == 0 for context in pairs.table["context"]])
    return [METHODS[method](x[half], y[half]).double().numpy() for half in (even, ~even)]


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b)) if a.any() and b.any() else np.nan


@pytest.mark.parametrize("method", METHODS)
def test_every_cosine_is_that_of_opposite_halves_by_hand(store, method):
    result = cosines_by_layer(store.view(layers="0-1"), PAIRS, method=method)
    table, names = result.table.set_index(["hook", "first", "second"]), result.parameters["pairs"]
    for hook in result.hooks:
        steps = [halves(store, hook, pair, method) for pair in PAIRS]
        for (i, a), (j, b) in itertools.combinations_with_replacement(enumerate(steps), 2):
            truth = (cosine(a[0], b[1]) + cosine(a[1], b[0])) / 2
            if np.isfinite(truth):
                assert table.loc[(hook.name, names[i], names[j]), "cosine"] == pytest.approx(truth, abs=1e-6)
        sums = [steps[0][half] + steps[2][half] for half in (0, 1)]
        truth = (cosine(sums[0], steps[3][1]) + cosine(sums[1], steps[3][0])) / 2
        assert result.parameters["compositions"] == ["digits -> numwords -> months"]
        if np.isfinite(truth):
            line = table.loc[(hook.name, "digits -> numwords -> months", names[3])]
            assert line["cosine"] == pytest.approx(truth, abs=1e-6)
            ratios = [np.linalg.norm(sums[half]) / np.linalg.norm(steps[3][1 - half]) for half in (0, 1)]
            assert line["norm_ratio"] == pytest.approx(np.mean(ratios), rel=1e-6)


def test_a_planted_common_direction_is_common_and_another_is_not(lines):
    assert lines.loc[(0, "digits -> numwords", "months -> roman"), "cosine"] > 0.99
    assert lines.loc[(0, "digits -> numwords", "months -> roman"), "corrected"] == pytest.approx(1, abs=0.01)
    assert abs(lines.loc[(0, "digits -> numwords", "digits -> months"), "cosine"]) < 0.05
    assert lines.loc[(0, "months -> roman", "numwords -> months"), "cosine"] == pytest.approx(-2 / 13**0.5, abs=0.02)


def test_phrasing_alone_makes_no_match(lines):
    """Two pairs whose differences are their templates' names: equal in one half, orthogonal between the halves."""
    for first, second in itertools.combinations_with_replacement(["digits -> numwords", "months -> roman"], 2):
        assert abs(lines.loc[(1, first, second), "cosine"]) < 1e-6


def test_where_groups_do_not_differ_there_is_no_direction(store, lines):
    assert lines.loc[2, ["cosine", "corrected", "norm_ratio"]].isna().all(axis=None)
    assert np.isnan(lines.loc[(1, "digits -> months", "digits -> months"), "cosine"])
    with pytest.raises(InputError, match="the groups differ nowhere at resid_post for 'is_last', so there is no dir"):
        cosines_by_layer(store.view(layers="2"), PAIRS)


def test_the_diagonal_is_the_reliability_and_corrects(found):
    at_0 = found.table[found.table["layer"] == 0]
    own = at_0[at_0["first"] == at_0["second"]].set_index("first")["cosine"]
    assert (own > 0.9).all()
    for _, line in at_0[at_0["kind"] == "directions"].iterrows():
        truth = line["cosine"] / np.sqrt(own[line["first"]] * own[line["second"]])
        assert line["corrected"] == pytest.approx(truth)


def test_two_steps_make_the_third_where_means_are_differences(lines):
    line = lines.loc[(0, "digits -> numwords -> months", "digits -> months")]
    assert line["kind"] == "composition"
    assert line["cosine"] > 0.99
    assert line["norm_ratio"] == pytest.approx(1, abs=0.02)
    assert line["cosine"] == pytest.approx(lines.loc[(0, "digits -> months", "digits -> months"), "cosine"], abs=1e-6)


def test_turning_a_pair_round_turns_the_sign(store):
    result = cosines_by_layer(store.view(layers="0"), [("digits", "numwords"), ("numwords", "digits")])
    cosines = result.values("cosine")[0]
    np.testing.assert_allclose(cosines, cosines[0] * np.array([1, -1, 1]), atol=1e-9)


def test_all_directions_are_estimated_at_the_same_places(gpt2, folder):
    """Days end at 7, so digits -> numwords is estimated without the windows that days have not."""
    with stored(gpt2, folder / "days.h5", ["digits", "numwords", "days"]) as store:
        result = cosines_by_layer(store.view(), [("digits", "numwords"), ("digits", "days")])
        alone = cosines_by_layer(store.view(), [("digits", "numwords")])
    assert set(result.table["n_members"]) == {5}
    assert (result.table["n_rows"] == 2 * 5 * 4).all()
    assert alone.table["n_members"].iloc[0] == 6
    assert alone.table["kind"].eq("directions").all()


def test_the_table_is_tidy_and_counts_what_it_stands_on(found):
    columns = ["layer", "site", "hook", "kind", "first", "second", "cosine", "corrected", "norm_ratio"]
    assert list(found.table.columns) == [*columns, "n_members", "n_templates", "n_rows"]
    assert len(found.table) == 3 * (10 + 1)
    assert set(found.table["n_members"]) == {6}
    assert set(found.table["n_templates"]) == {4}
    assert set(found.table["n_rows"]) == {48}


def test_a_result_is_saved_whole(found, tmp_path):
    found.save(tmp_path)
    described = json.loads((tmp_path / "result.json").read_text())
    assert described["axes"] == {
        **{key: ["hook", "comparison"] for key in ["cosine", "corrected", "norm_ratio"]},
        **{key: [] for key in ["n_members", "n_templates", "n_rows"]},
    }
    assert described["parameters"]["pairs"] == [f"{a} -> {b}" for a, b in PAIRS]


def test_each_layer_is_told_when_it_is_done(store):
    told = []
    result = cosines_by_layer(store.view(), PAIRS, loop=Loop(told.append))
    assert tuple(told) == result.hooks


@pytest.mark.parametrize(
    ("pairs", "choices", "message"),
    [
        ([], {}, "no pair of groups is given; give at least one"),
        ([("digits", "months")] * 2, {}, "digits -> months is given twice"),
        ([("digits", "months")], {"method": "mean"}, "no method 'mean'; known are mean_difference, pca"),
        ([("digits", "digits")], {}, "a direction leads from one group to another"),
        ([("digits", "letters")], {}, "no family or group 'letters'"),
        ([("digits", "months")], {"site": "z"}, "the store has no 'z'"),
        ([("digits", "months")], {"layers": "9"}, "the store has resid_post at layers"),
        (
            [("digits", "months")],
            {"where": "is_last and template == 1"},
            r"have one context in common \(quote\|1\); directions are compared across halves of the contexts",
        ),
        (
            [("digits", "months"), ("numwords", "roman")],
            {"where": "is_last and (template < 2) == (family in ('digits', 'months'))"},
            "the pairs of groups have no place in common: record them with the same frames and windows",
        ),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_sentence(store, pairs, choices, message):
    method = {name: choices[name] for name in choices if name == "method"}
    with pytest.raises(InputError, match=message):
        cosines_by_layer(store.view(**{k: v for k, v in choices.items() if k not in method}), pairs, **method)
