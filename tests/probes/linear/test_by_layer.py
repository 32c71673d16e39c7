"""Probes at every layer of a store: planted codes, the table, and what is recorded beside it."""

import sys

import numpy as np
import pytest
import torch

from cache import ActivationStore, Hook, SequenceDesign, load_dataset, plan_recording, record
from cache.errors import InputError
from cache.families.family import FAMILIES
from geometry.results.over import Loop
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.uncertainty import share_interval
from probes.linear.by_layer import _score, probe_by_layer
from probes.linear.controls import control_draws
from probes.linear.probe import balanced_accuracy, leave_groups_out, predict_classes
from probes.linear.tasks import ProbeTask, Question, plan_probe
from tests.probes.linear.many_probes import family_scores, number_scores
from tests.probes.linear_readout import KINDS, codes, family
from tests.recordings import recorded
from tests.rerecording import rerecorded
from tests.type_one import in_range

COLUMNS = ["layer", "site", "hook", "target", "leave_out", "value", "se", "ci_low", "ci_high", "chance", "control_task"]
COLUMNS += ["selectivity", "null_mean", "null_max", "p", "q", "p_floor", "control_mean", "control_max", "n_controls"]
COLUMNS += ["n_members", "n_templates", "n_rows", "n_classes"]
FOUND = ("digits", "numwords", "months")
D = 33


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    """Planted. Layer 0: a family's direction and the number's. Layer 1: each type's own code. Layer 2: a circle."""
    path = tmp_path_factory.mktemp("probes") / "planted.h5"
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("quote",), lengths=(1,), starts=tuple(range(1, 9)), templates=3
    )
    plan = plan_recording(gpt2, load_dataset(",".join(FOUND), design), sites="resid_post", positions="last")
    record(gpt2, plan, path)
    with ActivationStore.open(path) as store:
        prompts = store.prompts.iloc[store.rows["prompt"]]
    rng = np.random.default_rng(5)
    family = np.array([FOUND.index(name) for name in prompts["family"]])
    number = np.array([values[-1] for values in prompts["values"]])
    angle = 2 * np.pi * number / 8
    layers = (
        2 * rng.normal(size=(3, D))[family] + number[:, None] * rng.normal(size=D),
        rng.normal(size=(3, 9, D))[family, number],
        np.stack([np.cos(angle), np.sin(angle)], axis=1) @ rng.normal(size=(2, D)),
    )
    with rerecorded(path) as file:
        for layer, x in enumerate(layers):
            file["activations"][f"blocks.{layer}.hook_resid_post"][:] = x + 0.1 * rng.normal(size=x.shape)
    with ActivationStore.open(path) as store:
        yield store


@pytest.fixture(scope="module")
def results(store):
    return {
        (target, leave_out): probe_by_layer(store.view(), Question(target, leave_out))
        for target, leave_out in (
            ("family", "member"),
            ("family", "template"),
            ("member", "template"),
            ("number", "member"),
            ("number", "template"),
            ("angle", "member"),
            ("angle", "template"),
        )
    }


def value(results, target, leave_out, layer, column="value"):
    return float(results[target, leave_out].table.set_index("layer").loc[layer, column])


def test_a_planted_family_is_read_off_members_and_templates_never_seen(results):
    for leave_out in ("member", "template"):
        assert value(results, "family", leave_out, 0) == 1
    assert value(results, "family", "member", 0, "control_task") < 0.5
    assert value(results, "family", "member", 0, "selectivity") > 0.5


def test_leaving_out_members_hides_a_cue_that_is_each_members_own(results):
    assert value(results, "family", "template", 1) > 0.85
    assert value(results, "family", "template", 1, "control_task") > 0.8
    assert value(results, "family", "template", 1, "selectivity") < 0.1
    assert value(results, "family", "member", 1) < 0.6


def test_a_linear_number_and_a_circle_are_read_off_members_never_seen(results):
    assert value(results, "number", "member", 0) > 0.95
    assert value(results, "number", "member", 1) < 0.3
    assert value(results, "number", "template", 1) > 0.6
    assert value(results, "number", "member", 2) < 0.6
    assert value(results, "member", "template", 2) > 0.9
    assert value(results, "member", "template", 2, "chance") == 1 / 8


def test_the_period_makes_the_angle(store, results):
    """By itself the months' period of 12 is taken; 8 is what was planted."""
    assert results["angle", "member"].parameters["period"] == 12
    planted = probe_by_layer(store.view(layers="2"), Question("angle", period=8.0))
    assert planted.table["value"].item() > 0.95
    assert planted.table["chance"].item() == 0
    assert value(results, "angle", "member", 2, "chance") > 0.05  # 8 of 12 members have a mean direction


def test_the_table_is_tidy_and_says_what_the_arrays_say(results):
    for (target, leave_out), result in results.items():
        table = result.table
        assert list(table.columns) == COLUMNS
        assert table["layer"].tolist() == [0, 1, 2]
        assert table[["target", "leave_out"]].drop_duplicates().to_numpy().tolist() == [[target, leave_out]]
        np.testing.assert_array_equal(table["value"], result.values("value"))
        np.testing.assert_array_equal(table["se"], result.values("se"))
        np.testing.assert_allclose(table["null_mean"], result.values("null").mean(axis=1))
        np.testing.assert_array_equal(table["null_max"], result.values("null").max(axis=1))
        np.testing.assert_allclose(table["control_task"], result.values("control").mean(axis=1))
        floor = np.maximum(table["control_task"], table["chance"])
        np.testing.assert_allclose(table["selectivity"], table["value"] - floor)
        if target in {"family", "member"}:
            ends = [share_interval(one.value, one.se, 8) for one in table.itertuples()]
            np.testing.assert_array_equal(table[["ci_low", "ci_high"]], ends)
            assert table["se"].isna().eq(table["value"].isin([0, 1])).all()
        else:
            assert table[["ci_low", "ci_high"]].isna().all(axis=None)
        counts = table[["n_members", "n_templates", "n_rows", "n_classes"]].drop_duplicates().to_numpy().tolist()
        assert counts == [[8, 3, 72, 3 if target == "family" else 8]]
        assert table["n_controls"].eq(0).all()
        assert table[["p", "q", "p_floor", "control_mean", "control_max"]].isna().all(axis=None)


def test_control_families_take_the_families_place(gpt2, tmp_path):
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=(1, 2, 3, 4, 5), templates=3)
    prompts = load_dataset("digits,months,control:0-2", design)
    with recorded(gpt2, plan_recording(gpt2, prompts, sites="resid", positions="last"), tmp_path / "c.h5") as store:
        view = store.view(layers="1")
        result = probe_by_layer(view, "number", n_permutations=1)
        truth = [
            probe_by_layer(view, Question("number", families=pair), n_permutations=1).table["value"].item()
            for pair in (["control:0", "control:1"], ["control:0", "control:2"], ["control:1", "control:2"])
        ]
    np.testing.assert_allclose(result.values("control_families")[-1], truth)
    line = result.table.iloc[-1]
    assert (line["n_controls"], line["control_max"]) == (3, pytest.approx(max(truth)))
    assert line["control_mean"] == pytest.approx(np.mean(truth))


def test_the_null_is_at_chance_and_so_is_the_control_task_of_members_left_out(results):
    for (target, leave_out), result in results.items():
        if target in {"family", "member"}:
            assert (result.table["null_mean"] - result.table["chance"]).abs().max() < 0.1, (target, leave_out)
        if target == "number":
            assert result.table["null_mean"].max() < 0.05
    assert (results["family", "member"].table["control_task"] - 1 / 3).abs().max() < 0.2


def test_a_layer_is_the_probe_of_its_rows(store, results):
    task = plan_probe(store.view(), Question("family", "member"))
    labels = task.labels[:1]
    truth = predict_classes(store.load(Hook("resid_post", 1), task.chosen), labels, task.folds)
    assert value(results, "family", "member", 1) == balanced_accuracy(labels[0], truth[0])


def test_everything_that_the_values_depend_on_is_recorded(store, results):
    result = results["number", "template"]
    assert (result.name, result.source) == ("probe", store.fingerprint)
    assert result.parameters == {
        "site": "resid_post",
        "layers": "all",
        "where": "is_last",
        "families": list(FOUND),
        "seed": 0,
        "target": "number",
        "leave_out": "template",
        "members": [1, 2, 3, 4, 5, 6, 7, 8],
        "strict": False,
        "n_permutations": 19,
        "n_draws": 0,
        "n_control_tasks": 5,
        "period": 12,
        "c": 0.01,
        "penalties": [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4],
    }


def test_the_seed_changes_the_null_and_the_control_tasks_alone(store):
    one, again, other = (probe_by_layer(store.view(layers="1"), "number", seed=seed) for seed in (0, 0, 1))
    for name in one.dataset.data_vars:
        np.testing.assert_array_equal(one.values(name), again.values(name))
    drawn = {"null", "null_mean", "null_max", "control", "control_task"}
    assert {str(name) for name in one.dataset.data_vars if not one.dataset[name].equals(other.dataset[name])} == drawn


def test_each_layer_is_told_when_it_is_done(store):
    told = []
    result = probe_by_layer(store.view(layers="0-1"), "number", n_permutations=2, loop=Loop(told.append))
    assert result.hooks == tuple(told)
    assert result.values("null").shape == (2, 2)


@pytest.mark.parametrize(("answers", "n_members"), [("234567", 6), ("2345", 4)])
def test_under_seven_members_there_is_no_interval_and_under_five_no_error(store, answers, n_members):
    where = f"is_last and answer in {list(answers)}"
    line = probe_by_layer(store.view(layers="0", where=where), Question("number", families=["digits"])).table.iloc[0]
    assert line["n_members"] == n_members
    assert np.isfinite(line["value"])
    assert np.isfinite(line["se"]) == (n_members >= 5)
    assert np.isnan([line["ci_low"], line["ci_high"]]).all()


@pytest.mark.parametrize(
    ("target", "choices", "message"),
    [
        ("member", {}, "a probe cannot name a member that it never saw; to probe members, leave out templates"),
        ("number", {"site": "z"}, "the store has no 'z'; it has resid_post"),
        ("number", {"layers": "5"}, "the store has resid_post at layers 0, 1, 2; got '5'"),
        ("number", {"where": "nothing > 1"}, "no query"),
    ],
)
def test_what_cannot_be_probed_is_told(store, target, choices, message):
    with pytest.raises(InputError, match=message):
        probe_by_layer(store.view(**choices), target)


# --- p values: unrelated families, and a number that they share


def worlds(kind, seed, n_layers, *, shared=0.0, n_families=2, n_members=5, n_controls=20):
    """Activations of two families and of their draws at every layer, (layer, draw, row, d)."""
    rng = np.random.default_rng([seed, n_layers])
    names = [f"own:{i}" for i in range(n_families)] + [f"control:{i}" for i in range(n_controls)]
    true = {name: codes(rng, kind, n_members, n_layers, d=24) for name in names}
    line = torch.from_numpy(np.linspace(-1, 1, n_members)[:, None] * rng.normal(size=24) * shared)
    cells = {name: family(rng, name, true[name], n_contexts=3) for name in names}
    draws, ranked = control_draws(names[:n_families], names[n_families:], 19, seed)
    assert ranked
    found = []
    for layer in range(n_layers):
        at = {name: cells[name][layer].cells[:, :, 0] + line * name.startswith("own") for name in names}
        stacks = [torch.stack([at[name] for name in one]).flatten(0, 2) for one in (names[:n_families], *draws)]
        found.append(torch.stack(stacks))
    return torch.stack(found)


def task_of(target, n_members, n_families=2):
    grid = np.indices((n_families, 3, n_members)).reshape(3, -1)
    labels = grid[0] if target == "family" else grid[2]
    return ProbeTask(
        question=Question(target, period=float(n_members)),
        chosen=np.ones(1, dtype=bool),
        labels=labels[None],
        ordinals=np.arange(n_members),
        folds=leave_groups_out(grid[2].tolist()),
        groups=grid[2],
        members=grid[2],
        n_templates=3,
    )


def scores(kind, target, seed, n_layers, *, shared=0.0, n_members=5):
    """p of two families at every layer."""
    task = task_of(target, n_members)
    x = worlds(kind, seed, n_layers, shared=shared, n_members=n_members)
    return rank_p_over_layers(np.array([[float(_score(one, task).scores[0]) for one in layer] for layer in x]))


def many_scores(kind, target, seed, n_layers, n_members=5):
    """The same by `many_probes`."""
    x = worlds(kind, seed, n_layers, n_members=n_members)
    score = family_scores if target == "family" else number_scores
    found = score(x.flatten(0, 1).numpy(), 2, n_members)
    return rank_p_over_layers(found.reshape(x.shape[:2]))


def rejections(kind, target, n_layers, n_runs, n_members=5):
    found = [many_scores(kind, target, seed, n_layers, n_members) for seed in range(n_runs)]
    return np.mean([p.min() <= 0.05 for p in found])


@pytest.mark.parametrize(
    ("target", "score", "atol"), [("family", family_scores, 0.04), ("number", number_scores, 1e-8)]
)
def test_probes_of_simulations_are_the_probes_of_users(target, score, atol):
    """A row at a class probe's border may be on its other side: scikit-learn ends at a gradient of 1e-4."""
    x = worlds("walk", 1, 1)[0]
    found = np.array([float(_score(one, task_of(target, 5)).scores[0]) for one in x])
    assert np.allclose(score(x.numpy(), 2, 5), found, rtol=0, atol=atol)
    assert (np.abs(score(x.numpy(), 2, 5) - found) > 1e-8).sum() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["number", "family"])
def test_unrelated_families_are_rarely_above_all_draws(target, kind):
    """20 pairs: 1 expected, more than 5 in one case of 3,000. The full test is slow."""
    assert rejections(kind, target, 1, 20) <= 5 / 20


@pytest.mark.slow
@pytest.mark.parametrize(("n_layers", "n_runs"), [(1, 400), (8, 200), (30, 100)])
@pytest.mark.parametrize("n_members", [5, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["number", "family"])
def test_type_i_of_probes_is_a_twentieth(target, kind, n_members, n_layers, n_runs):
    """Within what a true rate of .03 to .07 gives in 99 of 100 tries."""
    share = rejections(kind, target, n_layers, n_runs, n_members=n_members)
    sys.stdout.write(f"type I probe {target} {kind} n={n_members} layers={n_layers}: {share:.3f} of {n_runs}\n")
    assert in_range(share * n_runs, n_runs)


def test_a_number_that_families_share_is_above_all_draws():
    assert scores("independent", "number", 0, 2, shared=2.0).min() == 0.05
