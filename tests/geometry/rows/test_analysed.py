"""Which rows are analysed, and under which unit: against loops over prompts, with and without members."""

import numpy as np
import pandas as pd
import pytest

from cache import Prompts, load_dataset, load_model, open_stores, plan_recording
from cache.errors import InputError
from cache.prompts.prompt import Prompt
from geometry import between_layers, demix_by_layer, pca_by_layer
from geometry.rows.analysed import chosen_rows, default_rows, row_counts, unit_of_rows
from probes import contrast
from tests.recordings import recorded


def stored(model, prompts, path, **choices):
    return recorded(model, plan_recording(model, prompts, **choices), path)


@pytest.fixture(scope="module")
def store(gpt2, prompts, tmp_path_factory):
    with stored(gpt2, prompts, tmp_path_factory.mktemp("rows") / "a.h5", sites="resid", layers="0") as store:
        yield store


@pytest.fixture(scope="module")
def sentences(gpt2, tmp_path_factory):
    """Plain strings, which show no members; one is a single token."""
    texts = ["one two three", "cat", "dog bird fish", "red blue", "Tom Sam Ben Max"]
    with stored(gpt2, texts, tmp_path_factory.mktemp("own") / "a.h5", sites="resid", layers="0") as store:
        yield store


def members_by_hand(store):
    """Rows of shown members that do not begin their text, by a loop over prompts."""
    rows = store.rows
    return [
        i
        for i in range(len(rows))
        if rows["member"][i] >= 0 and rows["position"][i] >= 1 and rows["token"][i] != 0  # 0 is BOS
    ]


def test_rows_are_the_stores_with_the_member_that_each_counts_under(store):
    rows = chosen_rows(store.view()).table
    expected = store.rows.iloc[members_by_hand(store)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows.drop(columns="unit"), expected)
    assert rows["unit"].tolist() == expected["value"].tolist()


def test_rows_that_show_nothing_carry_the_last_member_their_prompt_has_shown(store, sentences):
    rows = chosen_rows(store.view(where="is_last")).table
    assert rows["shown"].tolist() == [store.prompts["members"][prompt][-1] for prompt in rows["prompt"]]
    assert chosen_rows(sentences.view()).table["shown"].tolist() == [""] * 5


@pytest.mark.parametrize("where", [None, "position < 3", "prompt == 0", "position == -1 or is_last"])
def test_bos_is_never_among_the_rows(store, where):
    assert (store.rows["position"] == -1).any()
    rows = chosen_rows(store.view(where=where, rows="all" if where == "prompt == 0" else None)).table
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
    rows = chosen_rows(sentences.view()).table
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
        rows = chosen_rows(store.view())
    assert rows.where == "is_last"
    assert rows.units.tolist() == [1, 2, 3]


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
        assert row_counts(chosen_rows(both.view()))["n_members"] == 7


def test_the_mask_the_table_and_the_units_are_of_the_same_rows(store):
    rows = chosen_rows(store.view())
    assert rows.where == "member >= 0 and position > 0"
    assert np.flatnonzero(rows.chosen).tolist() == members_by_hand(store)
    assert rows.units.tolist() == rows.table["unit"].tolist()


def test_members_templates_and_rows_are_counted(store):
    few = chosen_rows(store.view(where="family == 'digits' and frame == 'list' and member >= 0"))
    # six windows of four digits, the lowest from 0 and the highest to 8
    assert row_counts(few) == {"n_members": 9, "n_templates": 1, "n_rows": 24}


@pytest.mark.parametrize("where", ["position == -1", "family == 'nobody'"])
def test_a_query_that_fits_no_row_is_told_with_the_columns(store, where):
    with pytest.raises(InputError, match=f"no row fits .*{where}.*; columns are prompt, position"):
        chosen_rows(store.view(where=where))


def test_controls_are_left_out_unless_they_are_asked_for(gpt2, tmp_path):
    chosen = load_dataset("digits,months,control:0-1").subset(range(0, 140, 3))
    with stored(gpt2, chosen, tmp_path / "c.h5", sites="resid", layers="0") as store:

        def families(where=None, names=None):
            rows = chosen_rows(store.view(where=where), names)
            return sorted(set(rows.table["family"])), rows.where

        members = "member >= 0 and position > 0"
        assert families() == (["digits", "months"], f"{members} and not family.str.startswith('control:')")
        assert families("frame == 'list'")[0] == ["digits", "months"]
        assert families("family != 'digits'")[0] == ["control:0", "control:1", "months"]
        assert families(None, "months,control:1")[0] == ["control:1", "months"]
        assert families(None, ["months"])[1] == f"{members} and family in ['months']"
        assert families((store.rows["member"] >= 0).to_numpy())[0] == ["control:0", "control:1", "digits", "months"]
        with pytest.raises(InputError, match=r"^the store has no family 'days'; it has digits, months, control:0"):
            families(None, "days")


@pytest.mark.parametrize("rows", [None, "members", "last", "all"])
def test_running_text_beside_families_changes_no_analysis(gpt2, store, prompts, tmp_path, rows):
    document = Prompt("one two three four five six seven 1,2,3,4,", frame="text", kind="document", group="a")
    beside = Prompts((document, *prompts), prompts.seed)
    with stored(gpt2, beside, tmp_path / "a.h5", sites="resid", layers="0", window=5) as mixed:
        assert mixed.prompts["kind"].eq("text").any()
        of_members = [demix_by_layer] * (rows in (None, "last"))  # which takes one row of each prompt
        for analysis in (pca_by_layer, between_layers, *of_members):
            found, alone = (analysis(one.view(rows=rows)).table for one in (mixed, store))
            pd.testing.assert_frame_equal(found, alone)
        with pytest.raises(
            InputError, match=r"no family or group 'a' among the chosen rows; the store has digits, mon"
        ):
            contrast(mixed.view(), "a", "digits")


def test_of_running_text_alone_families_are_told_to_be_missing(gpt2, tmp_path):
    document = Prompt("one two three four five six seven", frame="text", kind="document", group="a")
    with stored(gpt2, Prompts((document,)), tmp_path / "a.h5", sites="resid", layers="0", window=5) as text:
        with pytest.raises(InputError, match="it has running text alone; record families beside it"):
            demix_by_layer(text.view())
        assert len(chosen_rows(text.view(rows="all")).table) == 7
