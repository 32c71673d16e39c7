"""Matched rows: pairs differ in their group alone, and are read back row by row."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from cache import Hook, load_dataset, plan_recording
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from probes.directions.contrasts import _pairs_named, contrast, load_pairs, unit_name
from probes.steering.directions import make_folds
from tests.recordings import recorded

HOOK = Hook("resid_post", 1)


def prompts_of(names, frames=("quote", "list"), kinds=("increasing",)):
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=frames, kinds=kinds, lengths=(2,), starts=(1, 2, 3), templates=2
    )
    return load_dataset(names, design)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contrasts")


@pytest.fixture(scope="module")
def prompts():
    return prompts_of("digits,months,numwords")


@pytest.fixture(scope="module")
def store(gpt2, folder, prompts):
    plan = plan_recording(gpt2, prompts, positions="all", sites="resid_post,z")
    with recorded(gpt2, plan, folder / "families.h5") as store:
        yield store


@pytest.fixture(scope="module")
def own(gpt2, folder):
    """Two groups of three texts of one's own, one of them with a text too many; calm comes second."""
    lines = [
        {"text": f"{name} is {mood}", "group": mood} for mood in ("blue", "green") for name in ("Tom", "Sam", "Ben")
    ]
    lines.append({"text": "Max is green", "group": "green"})
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    prompts = load_dataset(f"by-line:{folder / 'own.jsonl'}")
    with recorded(gpt2, plan_recording(gpt2, prompts, sites="resid_post"), folder / "own.h5") as store:
        yield store


def test_pairs_of_families_are_all_and_only_those_of_equal_pair_keys(store, prompts):
    pairs = contrast(store.view(), "digits", "months")
    truth = {(int(i), int(j)) for i, j in prompts.pairs("digits", "months")}
    found = set(zip(pairs.table["source_prompt"], pairs.table["target_prompt"], strict=True))
    assert found == truth
    assert len(pairs) == len(truth) == 9
    left, right = (store.rows.iloc[pairs.rows[:, side]] for side in (0, 1))
    assert (left["is_last"] & (left["family"] == "digits")).all()
    assert (right["is_last"] & (right["family"] == "months")).all()
    assert left["pair_key"].tolist() == right["pair_key"].tolist()


def test_the_table_says_what_every_pair_is(store):
    pairs = contrast(store.view(), "digits", "months")
    for (_, row), (_, line) in zip(pairs.rows, pairs.table.iterrows(), strict=False):
        prompt, source = store.prompts.iloc[line["target_prompt"]], store.prompts.iloc[line["source_prompt"]]
        assert store.rows["prompt"][row] == line["target_prompt"]
        assert line["context"] == f"{prompt['frame']}|{prompt['template']}"
        assert (line["answer"], line["source_answer"]) == (prompt["answer"], source["answer"])
        assert line["shown"] == prompt["members"]
    assert set(pairs.table["context"]) == {"quote|0", "quote|1", "list|0"}


def test_rows_of_shown_members_are_matched_member_by_member(store):
    for where, n_pairs in (("member == 0", 9), ("member >= 0", 18), ("member == 1 and frame == 'quote'", 6)):
        pairs = contrast(store.view(where=where), "months", "numwords")
        assert len(pairs) == n_pairs
        left, right = (store.rows.iloc[pairs.rows[:, side]] for side in (0, 1))
        assert left["member"].tolist() == right["member"].tolist()
        assert left["value"].tolist() == right["value"].tolist()
    assert left["shown"].isin(FAMILIES["months"].members).all()
    assert right["shown"].isin(FAMILIES["numwords"].members).all()


def test_a_query_with_or_means_what_it_says(store):
    assert len(contrast(store.view(where="frame == 'list' and is_last or member == 0"), "digits", "months")) == 12


def test_groups_of_ones_own_prompts_are_matched_in_their_order_where_asked_and_the_rest_left_out(own):
    pairs = contrast(own.view(), "green", "blue")
    assert own.prompts["text"][pairs.table["source_prompt"]].tolist() == [
        f"{n} is green" for n in ("Tom", "Sam", "Ben")
    ]
    assert own.prompts["text"][pairs.table["target_prompt"]].tolist() == [f"{n} is blue" for n in ("Tom", "Sam", "Ben")]
    assert pairs.table["answer"].tolist() == [""] * 3


def test_own_prompts_that_name_pairs_are_left_out_pair_by_pair(gpt2, folder, store):
    """Many pairs have one answer: it is no unit."""
    records = [
        {"text": f"{word}{end}", "group": group, "member": word, "pair": pair, "answer": answer, "template": end}
        for end in (" went", " came")
        for pair, *words in (("dog", "dog", "dogs"), ("cat", "cat", "cats"), ("car", "car", "cars"))
        for word, group, answer in zip(words, ("one", "many"), (" is", " are"), strict=True)
    ]
    plan = plan_recording(gpt2, load_dataset(records), sites="resid_post", positions="last")
    with recorded(gpt2, plan, folder / "paired.h5") as paired:
        pairs = contrast(paired.view(), "one", "many")
    assert unit_name(pairs.table) == "pair"
    assert pairs.table["unit"].tolist() == pairs.table["source_unit"].tolist() == ["dogs", "cats", "cars"] * 2
    apart = [[i // 3 != j // 3 and i % 3 != j % 3 for j in range(6)] for i in range(6)]
    assert make_folds(pairs).strict.tolist() == apart
    assert unit_name(contrast(store.view(), "digits", "months").table) == "answer"


def test_pairs_that_show_one_word_are_units_of_their_own():
    prompts = pd.DataFrame({"kind": "own", "values": [(1,), (2,), (1,)], "members": [("film",)] * 3})
    assert _pairs_named(prompts) == ["1 film", "2 film", "1 film"]


def test_a_subset_keeps_rows_and_table_together(store):
    pairs = contrast(store.view(), "digits", "months")
    keep = (pairs.table["context"] == "quote|1").to_numpy()
    kept = pairs.subset(keep)
    assert len(kept) == keep.sum() == 3
    np.testing.assert_array_equal(kept.rows, pairs.rows[keep])
    assert kept.table["target_prompt"].tolist() == pairs.table["target_prompt"][keep].tolist()
    assert kept.table.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("hook", [HOOK, Hook("z", 2), Hook("z", 2, 1)])
def test_pairs_are_loaded_row_by_row_in_their_order(store, hook):
    pairs = contrast(store.view(where="member >= 0"), "months", "digits")
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = type(pairs)(pairs.source, pairs.target, pairs.rows[order], pairs.table.iloc[order])
    x, y = load_pairs(store, hook, shuffled)
    everything = store.load(hook)
    for i, (left, right) in enumerate(shuffled.rows):
        assert torch.equal(x[i], everything[left])
        assert torch.equal(y[i], everything[right])


def test_a_row_may_be_loaded_twice(store):
    pairs = contrast(store.view(), "months", "digits")
    twice = pairs.rows[[0, 0, 1]]
    x, _ = load_pairs(store, HOOK, type(pairs)("a", "b", twice, pairs.table.iloc[[0, 0, 1]]))
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])


@pytest.mark.parametrize(
    ("labels", "where", "message"),
    [
        (("digits", "digits"), None, "a direction leads from one group to another; got 'digits' twice"),
        (("digits", "days"), None, "no family or group 'days' among the chosen rows; the store has digits, months"),
        (("nobody", "digits"), None, "no family or group 'nobody'"),
        (("digits", "months"), "value == 99", "the query leaves no row of 'digits'"),
        (("digits", "months"), "values == 1", "no query .*values == 1.*: name 'values' is not defined"),
        (
            ("digits", "months"),
            "member < 0",
            "rows of 'digits' repeat a place of a prompt for 'member < 0'; choose one",
        ),
        (
            ("digits", "months"),
            "is_last and (family == 'digits' and value < 0 and template == 0 or family == 'months' and template == 1)",
            "no row of 'digits' matches one of 'months': matched prompts share frame, template, kind and shown ord",
        ),
    ],
)
def test_what_cannot_be_matched_is_told(store, labels, where, message):
    with pytest.raises(InputError, match=message):
        contrast(store.view(where=where), *labels)


def test_a_stores_one_row_of_each_text_is_never_bos(store):
    with pytest.raises(InputError, match="the query leaves no row of 'digits'"):
        contrast(store.view(where="position == -1"), "digits", "months")
