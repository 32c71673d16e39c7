"""A user's own prompts: what pairs them, what a table's cells become, and the controls that stand in their texts."""

import datasets
import numpy as np
import pandas as pd
import pytest

from cache import load_dataset
from cache.errors import InputError
from cache.families.controls import control_members
from cache.prompts.datasets import with_controls
from cache.prompts.files import write_prompts
from cache.prompts.own import own_prompts, pairings
from cache.prompts.prompt import Prompts

COUNTRIES = [
    {"text": f"{verb} {word}", "family": family, "member": word, "pair": pair, "template": verb, "size": size}
    for verb in ("went to", "came from")
    for pair, country, capital, size in (("fr", "France", "Paris", 68), ("it", "Italy", "Rome", 59))
    for family, word in (("country", country), ("capital", capital))
]


def made(records, **choices):
    return own_prompts([(f"line {i}", record) for i, record in enumerate(records, 1)], **choices)


# --- what belongs together


def test_a_pair_numbers_members_of_different_names_alike_in_each_template():
    prompts = made(COUNTRIES)
    assert [p.values for p in prompts] == [(1,), (1,), (2,), (2,)] * 2
    assert [p.template for p in prompts] == [0] * 4 + [1] * 4
    assert prompts[0].members == ("France",)
    assert prompts[0].text[slice(*prompts[0].spans[0])] == "France"
    assert prompts.pairs("country", "capital").tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert pairings(prompts) == ["country and capital: 4 pairs, matched by the column pair"]


def test_ordinals_order_members_and_match_them_too():
    prompts = made([{"text": "big", "group": "a", "ordinal": 3}, {"text": "three", "group": "b", "ordinal": "3"}])
    assert [p.values for p in prompts] == [(3,), (3,)]
    assert prompts.pairs("a", "b").tolist() == [[0, 1]]


def test_ordinals_may_be_written_as_pandas_writes_columns_with_gaps():
    assert [p.values for p in made([{"text": "big", "ordinal": "3.0"}, {"text": "x", "ordinal": ""}])] == [(3,), ()]


def test_pairs_may_lie_in_two_files(tmp_path):
    for family, order in (("country", 1), ("capital", -1)):
        mine = [one for one in COUNTRIES if one["family"] == family]
        pd.DataFrame(mine[::order]).to_csv(tmp_path / f"{family}.csv")
    prompts = load_dataset(f"{tmp_path / 'country.csv'},{tmp_path / 'capital.csv'}")
    both = [(prompts[i].members[0], prompts[j].members[0]) for i, j in prompts.pairs("country", "capital")]
    assert both == [("France", "Paris"), ("Italy", "Rome")] * 2


@pytest.mark.parametrize(("column", "both"), [("pair", "'fr' and 'it'"), ("member", "'France' and 'Rome'")])
def test_pairs_that_were_numbered_apart_are_refused(tmp_path, column, both):
    """Pairs by their names, or members that are matched with the same member."""
    for family, order in (("country", 1), ("capital", -1)):
        mine = [one for one in COUNTRIES if one["family"] == family]
        given = [{name: one[name] for name in ("text", "family", "member", column)} for one in mine[::order]]
        write_prompts(made(given), tmp_path / f"{family}.jsonl")
    with pytest.raises(InputError, match=f"^pairs {both} have the same number, since they were read apart"):
        load_dataset(f"{tmp_path / 'country.jsonl'},{tmp_path / 'capital.jsonl'}")


def test_a_list_in_a_table_is_no_label(tmp_path):
    pd.DataFrame({"text": ["a", "b"], "choices": [["x", "y"], ["z"]]}).to_parquet(tmp_path / "own.parquet")
    with pytest.raises(InputError, match="row 1: choices: a label is text or a finite number"):
        load_dataset(str(tmp_path / "own.parquet"))


def test_order_is_asked_for_of_all_files_or_none(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("x\n")
    with pytest.raises(InputError, match=r"^by-line: is asked for one file and not for another"):
        load_dataset(f"by-line:{tmp_path / 'a.txt'},{tmp_path / 'b.txt'}")


def test_of_many_groups_some_pairings_are_told_and_how_many_there_are():
    said = pairings(made([{"text": "a", "group": str(i), "pair": 1} for i in range(1000)]))
    assert (len(said), said[0], said[-1]) == (7, "0 and 1: 1 pair, matched by member", "and 499494 more")


def test_without_a_member_the_whole_text_is_the_member_and_groups_are_families():
    prompts = made([{"text": "hot", "group": "warm", "pair": 1}, {"text": "cold", "group": "cool", "pair": 1.0}])
    assert [(p.members, p.spans, p.family) for p in prompts] == [
        (("hot",), ((0, 3),), "warm"),
        (("cold",), ((0, 4),), "cool"),
    ]
    assert prompts.pairs("warm", "cool").tolist() == [[0, 1]]


def test_equal_members_are_matched_where_nothing_else_says_so():
    records = [{"text": f"{how} {word}", "group": how, "member": word} for how in ("my", "your") for word in "ab"]
    prompts = made(records)
    assert prompts.pairs("my", "your").tolist() == [[0, 2], [1, 3]]
    assert pairings(prompts) == ["my and your: 2 pairs, matched by member"]


def test_order_alone_pairs_only_when_asked_and_says_so(tmp_path):
    records = [{"text": f"{how} {i}", "group": how} for how in ("good", "bad") for i in range(3)]
    assert made(records).pairs("good", "bad").tolist() == []
    assert pairings(made(records)) == [
        "good and bad: no pairs; give your prompts a column pair, or ask for by-line:FILE"
    ]
    asked = made(records, by_line=True)
    assert asked.pairs("good", "bad").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert {p.kind for p in asked} == {"by line"}
    assert pairings(asked) == ["good and bad: 3 pairs, by their order in the file alone"]
    pd.DataFrame(records).to_csv(tmp_path / "mine.csv")
    assert load_dataset(f"by-line:{tmp_path / 'mine.csv'}") == asked


def test_templates_alone_pair_prompts_that_have_the_same():
    prompts = made(
        [{"text": f"{who} {do}", "group": who, "template": do} for who in ("he", "she") for do in ("x", "y")]
    )
    assert prompts.pairs("he", "she").tolist() == [[0, 2], [1, 3]]
    assert pairings(prompts) == ["he and she: 2 pairs, matched by template"]


def test_built_in_prompts_have_no_pairings_to_tell(prompts):
    assert pairings(prompts) == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"text": "a", "ordinal": 1}, {"text": "b", "member": "b"}], "^line 2 has no ordinal, and others have"),
        ([{"text": "a", "ordinal": -1}], "^line 1: an ordinal is 0 or more; got -1$"),
        ([{"text": "a", "ordinal": "1.5"}], "^line 1: ordinal: Input should be a valid integer"),
        (
            [{"text": "a", "pair": "x", "ordinal": 1}, {"text": "b", "pair": "x", "ordinal": 2}],
            "^line 2: pair 'x' and ordinal 2 belong to others before; use one$",
        ),
        (
            [{"text": "a", "pair": "x", "ordinal": 1}, {"text": "b", "pair": "y", "ordinal": 1}],
            "^line 2: pair 'y' and ordinal 1 belong to others before; use one$",
        ),
        ([{"text": "a", "Text ": "b"}], "^line 1 has two fields 'text'$"),
        (
            [{"text": "a", "position": 1}],
            "^line 1: a label of prompts cannot have the name 'position'; choose another$",
        ),
        ([{"text": "a", "note": [1]}], r"^line 1: note: a label is text or a finite number; got \[1\]$"),
        ([{"text": "a", "note": float("inf")}], "^line 1: note: a label is text or a finite number; got inf$"),
        ([{"text": "a", "note": "\0"}], "must be Unicode without NUL"),
        (["a"], "^line 1: line: Input should be a valid dictionary"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(records, message):
    with pytest.raises(InputError, match=message):
        made(records)


# --- further labels


def test_further_columns_are_labels_and_numbers_where_they_are_nothing_else():
    prompts = made([{**one, "note": note} for one, note in zip(COUNTRIES, ["007", "8"] * 4, strict=True)])
    assert dict(prompts[0].labels) == {"pair": "fr", "size": 68, "note": "007"}
    assert prompts.table()["size"].tolist() == [68, 68, 59, 59] * 2
    texts = made([{"text": "a", "x": "1.50", "y": "2"}, {"text": "b", "x": "-3e2", "y": ""}])
    assert [dict(p.labels) for p in texts] == [{"x": 1.5, "y": "2"}, {"x": -300.0, "y": ""}]


def test_missing_cells_are_empty_and_names_may_be_written_in_capitals():
    (prompt,) = made(
        [{"Text": "a b", " FAMILY": np.float64("nan"), "member": None, "Answer": np.int64(3), "note": None}]
    )
    assert (prompt.text, prompt.family, prompt.answer, prompt.labels) == ("a b", "", "3", (("note", ""),))


# --- from memory


def test_tables_and_lists_in_memory_are_what_their_file_is(tmp_path):
    frame = pd.DataFrame(COUNTRIES)
    frame.to_csv(tmp_path / "own.csv")
    want = load_dataset(tmp_path / "own.csv")
    for data in (
        COUNTRIES,
        iter(COUNTRIES),
        frame,
        frame.set_index("pair", drop=False),
        datasets.Dataset.from_list(COUNTRIES),
    ):
        assert load_dataset(data) == want
    assert load_dataset(["a", "b"]) == Prompts.from_texts(["a", "b"])
    assert load_dataset(want) is want


@pytest.mark.parametrize(
    "data", [3, {"text": ["a"]}, datasets.DatasetDict({"train": datasets.Dataset.from_list(COUNTRIES)})]
)
def test_other_things_are_told_what_is_taken(data):
    with pytest.raises(
        InputError, match="prompts come as names, a path, a table or a list of texts or dictionaries; got"
    ):
        load_dataset(data)


# --- controls in own texts


def test_controls_stand_where_members_stand_in_the_same_contexts(tmp_path):
    pd.DataFrame(COUNTRIES).to_csv(tmp_path / "own.csv", index=False)
    prompts = load_dataset(f"{tmp_path / 'own.csv'},control:0-1")
    assert prompts.items[:8] == load_dataset(tmp_path / "own.csv").items
    for draw in (0, 1):
        mine = [p for p in prompts if p.family == f"control:{draw}"]
        words = control_members(draw, range(1, 3))
        assert [p.text for p in mine] == [f"{verb} {word}" for verb in ("went to", "came from") for word in words]
        assert all(p.text[slice(*p.spans[0])] == p.members[0] for p in mine)
        assert prompts.pairs("country", f"control:{draw}").shape == (4, 2)


def test_a_control_with_a_word_of_ones_own_at_its_place_is_named(tmp_path):
    word = control_members(5, range(1, 2))[0]
    pd.DataFrame([{"text": one, "pair": one} for one in (word, "other")]).to_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match=rf"^control:5 and your own both have '{word}' at 1, .*; leave control:5 out$"):
        load_dataset(f"{tmp_path / 'a.csv'},control:0-9")


@pytest.mark.parametrize("ordinals", [range(1, 61), [3, 100, 20_000, 4_000_000]])
def test_controls_have_a_word_for_each_of_many_pairs_and_of_ordinals_with_gaps(ordinals):
    records = [
        {"text": f"say {side}{i}", "member": f"{side}{i}", "family": side, "ordinal": i}
        for side in "ab"
        for i in ordinals
    ]
    prompts = with_controls(made(records), ["control:0-19"])
    for draw in range(20):
        both = [prompts[j].members[0] for _, j in prompts.pairs("a", f"control:{draw}")]
        assert len(both) == len(set(both)) == len(ordinals)


def test_texts_without_a_place_for_a_control_are_told():
    with pytest.raises(InputError, match="and 'no place here' names none; give your prompts a column member"):
        with_controls(made([{"text": "no place here", "family": "a", "pair": 1}]), ["control:0"])


def test_beside_built_in_families_controls_stand_in_their_frames(tmp_path):
    pd.DataFrame(COUNTRIES).to_csv(tmp_path / "own.csv")
    prompts = load_dataset(f"{tmp_path / 'own.csv'},digits,control:0")
    assert {p.frame for p in prompts if p.family == "control:0"} == {p.frame for p in prompts if p.family == "digits"}
