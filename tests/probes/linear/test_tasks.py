"""What a probe is asked: rows without gaps, labels that tell nothing, groups that are left out."""

import numpy as np
import pytest

from cache import SequenceDesign, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from probes.linear.tasks import N_CONTROL_TASKS, Question, plan_probe, relabelled
from tests.recordings import recorded

FAMILY, MEMBER, TEMPLATE = (axis.ravel() for axis in np.meshgrid(range(3), range(5), range(4), indexing="ij"))


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    """Days end with 7, so that all families show 2 to 6 last in 5 templates of two frames."""
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote", "list"), lengths=(2,), starts=(1, 2, 3, 4, 5, 6))
    prompts = load_dataset("digits,months,days,control:0-1", design)
    path = tmp_path_factory.mktemp("tasks") / "a.h5"
    with recorded(gpt2, plan_recording(gpt2, prompts, sites="resid_pre", positions="last"), path) as store:
        yield store


def planned(store, target, leave_out, *, where=None, draws=None, **choices):
    return plan_probe(store.view("resid_pre", where=where), Question(target, leave_out, **choices), **(draws or {}))


def rows_of(store, task):
    rows = store.rows[task.chosen]
    return rows.assign(last=[values[-1] for values in store.prompts["values"].iloc[rows["prompt"]]])


@pytest.mark.parametrize("blocks", [np.zeros_like(MEMBER), FAMILY, TEMPLATE])
def test_relabelling_gives_each_type_one_label_in_a_block_and_keeps_the_distribution(blocks):
    draws = relabelled(MEMBER, blocks, n_draws=6, seed=(3, 1))
    assert draws.shape == (6, len(MEMBER))
    for mine in draws:
        for block in np.unique(blocks):
            pairs = set(zip(MEMBER[blocks == block].tolist(), mine[blocks == block].tolist(), strict=True))
            assert len(pairs) == 5
            assert {label for _, label in pairs} == set(range(5))
    np.testing.assert_array_equal(draws, relabelled(MEMBER, blocks, n_draws=6, seed=(3, 1)))
    assert (draws != relabelled(MEMBER, blocks, n_draws=6, seed=(4, 1))).any()
    assert len({tuple(mine) for mine in draws.tolist()}) == 6


def test_only_what_all_families_have_is_probed(store):
    task = planned(store, "family", "member")
    rows = rows_of(store, task)
    assert task.families == ("digits", "months", "days")
    assert task.ordinals.tolist() == [2, 3, 4, 5, 6]
    assert rows.groupby(["family", "last", "frame", "template"]).size().tolist() == [1] * (3 * 5 * 5)
    assert task.n_templates == 5
    np.testing.assert_array_equal(task.members, rows["last"])
    assert [task.families[label] for label in task.labels[0]] == rows["family"].tolist()
    assert planned(store, "member", "template", families=["months"]).ordinals.tolist() == [
        2,
        3,
        4,
        5,
        6,
        7,
    ]


@pytest.mark.parametrize("target", ["member", "number", "angle"])
def test_labels_of_members_are_their_ordinals(store, target):
    task = planned(store, target, "template")
    np.testing.assert_array_equal(task.ordinals[task.labels[0]], task.members)


@pytest.mark.parametrize(("target", "leave_out"), [("family", "member"), ("number", "member"), ("number", "template")])
def test_whole_groups_are_left_out_and_control_labels_are_fixed(store, target, leave_out):
    task = planned(store, target, leave_out, draws={"n_permutations": 4, "seed": 2})
    rows = rows_of(store, task)
    assert len(task.labels) == 1 + 4 + N_CONTROL_TASKS
    names = rows["last"] if leave_out == "member" else rows["frame"] + rows["template"].astype(str)
    assert len(task.folds) == 5
    for fold in task.folds:
        assert not set(names.iloc[fold.train]) & set(names.iloc[fold.test])
    for labels in task.labels[5:]:
        types = rows.assign(label=labels).groupby(["family", "last"])["label"]
        assert (types.nunique() == 1).all()
        if target == "family":
            assert types.first().groupby("last").nunique().eq(3).all()
    own = [] if leave_out == "member" else ["template", "frame"]
    for labels in task.labels[1:5]:
        by = ["family", "last", *own] if target == "family" else ["last", *own]
        assert (rows.assign(label=labels).groupby(by)["label"].nunique() == 1).all()


def test_strict_folds_are_fitted_to_no_prompt_that_shows_what_is_left_out(store):
    loose, strict = (planned(store, "family", "member", strict=strict) for strict in (False, True))
    shown = store.prompts["values"].to_numpy()[store.rows["prompt"][strict.chosen]]
    for one, other in zip(loose.folds, strict.folds, strict=True):
        np.testing.assert_array_equal(one.test, other.test)
        left_out = set(strict.members[other.test].tolist())
        kept = [row for row in one.train.tolist() if not left_out & set(shown[row])]
        assert other.train.tolist() == kept
        assert len(other.train) == len(one.train) - 15 * (max(left_out) < 6)
    templates = [planned(store, "family", "template", strict=strict).folds for strict in (False, True)]
    for one, other in zip(*templates, strict=True):
        np.testing.assert_array_equal(one.train, other.train)


@pytest.mark.parametrize(
    ("families", "period", "expected"),
    [
        (["months"], None, 12),
        (["days"], None, 7),
        (["days", "months"], None, 5),
        (["digits"], None, 6),
        (["digits", "months"], None, 12),
        (["months"], 4.5, 4.5),
    ],
)
def test_a_circle_is_as_long_as_the_cyclic_family_unless_told(store, families, period, expected):
    assert planned(store, "angle", "member", families=families, period=period).period == expected


def test_as_many_control_families_are_asked_the_same_over_the_same_members(store):
    task = planned(store, "number", "member", families=["months"])
    assert [one.families for one in task.controls] == [("control:0",), ("control:1",)]
    for one in task.controls:
        rows = rows_of(store, one)
        assert set(rows["family"]) == set(one.families)
        np.testing.assert_array_equal(one.ordinals, task.ordinals)
        assert len(one.labels) == 1
        assert (one.period, one.n_templates, len(one.folds)) == (task.period, task.n_templates, len(task.folds))
    assert [one.families for one in planned(store, "family", "member", families=["digits", "days"]).controls] == [
        ("control:0", "control:1")
    ]
    assert planned(store, "family", "member").controls == ()  # of three families
    assert planned(store, "number", "member", families=["control:0"]).controls[0].families == ("control:1",)


def test_controls_are_probed_where_they_are_named(store):
    assert planned(store, "family", "member", families=["control:1", "digits"]).families == (
        "control:1",
        "digits",
    )


@pytest.mark.parametrize(
    ("target", "leave_out", "choices", "message"),
    [
        ("size", "member", {}, "no target 'size'; there are family, member, number, angle"),
        ("family", "row", {}, "no groups 'row' to leave out; there are member, template"),
        (
            "member",
            "member",
            {},
            "a probe cannot name a member that it never saw; to probe members, leave out template",
        ),
        ("family", "member", {"draws": {"n_permutations": 0}}, "the null takes 1 to 10,000 permutations; got 0"),
        ("angle", "member", {"period": 0.0}, "the period of an angle is a number above 0; got 0.0"),
        ("angle", "member", {"period": float("nan")}, "the period of an angle is a number above 0; got nan"),
        ("family", "member", {"families": ["digits"]}, "a family probe tells 2 families or more apart; got digits"),
        ("number", "member", {"families": ["roman"]}, "the store has no family 'roman'; it has digits, months, days"),
        ("number", "member", {"where": "template < 1 and frame == 'quote'"}, r"1 context in common"),
    ],
)
def test_what_cannot_be_asked_is_told(store, target, leave_out, choices, message):
    with pytest.raises(InputError, match=message):
        planned(store, target, leave_out, **choices)


def test_a_store_of_controls_alone_has_nothing_to_probe_by_itself(gpt2, tmp_path):
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=(1, 2, 3))
    plan = plan_recording(gpt2, load_dataset("control:0", design), sites="resid_pre", layers="0", positions="last")
    with (
        recorded(gpt2, plan, tmp_path / "c.h5") as store,
        pytest.raises(
            InputError,
            match="a probe needs families that are not controls; got none from the store: it has control:0",
        ),
    ):
        planned(store, "number", "member")
