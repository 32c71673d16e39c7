"""Member edits and reversals are mean differences over what is otherwise the same, and do what they are for."""

import pytest
import torch

from cache import Hook, SequenceDesign, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from probes.directions.members import member_edit, reversal
from tests.probes.planted_model import code_matrix, planted_model, planted_prompts, planted_store
from tests.recordings import recorded

HOOK = Hook("resid_post", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("index-edits")


@pytest.fixture(scope="module")
def store(gpt2, folder):
    kinds = ("increasing", "decreasing")
    design = SequenceDesign((FAMILIES["digits"],), ("quote", "list"), kinds, (2,), tuple(range(1, 7)), templates=2)
    plan = plan_recording(gpt2, load_dataset("digits,months", design), sites="resid_post", positions="members")
    with recorded(gpt2, plan, folder / "edits.h5") as store:
        yield store


def rows_of(store, family):
    """Activation and labels of every row of a family."""
    x = store.load(HOOK).double()
    for i, row in store.rows.iterrows():
        prompt = store.prompts.iloc[row["prompt"]]
        if prompt["family"] == family:
            yield x[i], row, prompt


def test_a_member_edit_is_the_mean_difference_over_contexts_that_have_both(store):
    sides = {}
    for x, row, prompt in rows_of(store, "months"):
        key = (prompt["frame"], prompt["template"], prompt["kind"], row["member"])
        if row["value"] in (2, 5):
            sides.setdefault(key, {}).setdefault(row["value"], []).append(x)
    steps = [torch.stack(s[5]).mean(0) - torch.stack(s[2]).mean(0) for s in sides.values() if len(s) == 2]
    assert len(steps) > 6
    edit = member_edit(store, HOOK, "months", 2, 5)
    torch.testing.assert_close(edit.step.double(), torch.stack(steps).mean(0), atol=1e-5, rtol=1e-5)
    assert (edit.method, edit.source, edit.target, edit.hook) == ("member_edit", "months 2", "months 5", HOOK)
    assert edit.fingerprint == store.fingerprint
    back = member_edit(store, HOOK, "months", 5, 2)
    torch.testing.assert_close(back.step, -edit.step)


def test_a_query_leaves_contexts_out(store):
    part = member_edit(store, HOOK, "digits", 2, 5, where="member == 1 and frame == 'list' and kind == 'increasing'")
    found = {
        row["value"]: x
        for x, row, p in rows_of(store, "digits")
        if (p["frame"], p["kind"], row["member"]) == ("list", "increasing", 1)
    }
    torch.testing.assert_close(part.step.double(), found[5] - found[2], atol=1e-5, rtol=1e-5)


def test_a_planted_members_edit_is_the_difference_of_the_codes(tokenizer, folder):
    model = planted_model(tokenizer, folder / "planted")
    with planted_store(model, planted_prompts(("digits",), templates=3), folder / "planted.h5") as store:
        edit = member_edit(store, HOOK, "digits", 3, 6)
    codes = code_matrix()[0]
    torch.testing.assert_close(edit.step, codes[5] - codes[2], atol=1e-6, rtol=0)


def test_a_reversal_matches_the_member_shown_last(store):
    rows = {}
    for x, row, prompt in rows_of(store, "digits"):
        if row["is_last"]:
            rows[prompt["kind"], prompt["frame"], prompt["template"], prompt["values"][-1]] = x
    steps = [
        rows["decreasing", *rest] - x
        for (kind, *rest), x in rows.items()
        if kind == "increasing" and ("decreasing", *rest) in rows
    ]
    assert len(steps) > 6
    edit = reversal(store, HOOK, "digits")
    torch.testing.assert_close(edit.step.double(), torch.stack(steps).mean(0), atol=1e-5, rtol=1e-5)
    assert (edit.method, edit.source, edit.target) == ("reversal", "digits next", "digits previous")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: member_edit(s, HOOK, "digits", 2, 2), "leads from one member to another; got 2 twice"),
        (lambda s: member_edit(s, HOOK, "days", 2, 3), "no context has both members 2 and 3 of 'days'"),
        (
            lambda s: member_edit(s, HOOK, "digits", 1, 7, where="member == 1 and kind == 'increasing'"),
            "no context has",
        ),
        (
            lambda s: reversal(s, HOOK, "days"),
            "no increasing prompt of 'days' has a decreasing one with the same frame",
        ),
        (
            lambda s: reversal(s, HOOK, "digits", where="is_last and kind == 'increasing'"),
            "record kinds increasing,dec",
        ),
    ],
)
def test_what_has_no_match_is_told(store, call, message):
    with pytest.raises(InputError, match=message):
        call(store)
