"""Data sets by name: families, controls and files side by side."""

from dataclasses import replace

import pandas as pd
import pytest

from cache import SequenceDesign, load_dataset
from cache.errors import InputError, NotAvailableError
from cache.families.family import FAMILIES, parse_families
from cache.prompts.files import read_prompts, write_prompts
from cache.prompts.sequences import make_prompts

LETTERS = (FAMILIES["letters"],)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a user's prompts and a user's family."""
    (tmp_path / "mine.txt").write_text("one text\nanother\n")
    (tmp_path / "table.CSV").write_text("text,group\nI am calm,calm\nI am loud,loud\n")
    (tmp_path / "planets.txt").write_text("Mercury\nVenus\nEarth\nMars\nJupiter\nSaturn\n")
    (tmp_path / "planets.json").write_text('["Merkur", "Venus", "Erde", "Mars", "Jupiter", "Saturn"]')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def family_names(prompts) -> list[str]:
    return list(dict.fromkeys(prompt.family for prompt in prompts))


def test_families_are_shown_by_the_default_design():
    assert load_dataset("digits, months") == make_prompts(SequenceDesign((FAMILIES["digits"], FAMILIES["months"])))


def test_the_families_named_replace_the_design_s():
    design = SequenceDesign(LETTERS, frames=("eq",), kinds=("decreasing",), lengths=(3,), templates=2, seed=9)
    prompts = load_dataset("days", design)
    assert family_names(prompts) == ["days"]
    assert {(p.frame, p.kind, len(p.members), p.template) for p in prompts} == {
        ("eq", "decreasing", 3, template) for template in (0, 1)
    }
    assert prompts.seed == 9


def test_controls_0_to_19_are_twenty_different_families():
    prompts = load_dataset("digits,control:0-19")
    assert family_names(prompts) == ["digits", *(f"control:{k}" for k in range(20))]
    shown = {family: tuple(p.members for p in prompts if p.family == family) for family in family_names(prompts)}
    assert len(set(shown.values())) == 21


@pytest.mark.parametrize("names", ["control:4", "digits,control:4", "months,control:3-5,letters"])
def test_a_control_is_the_same_family_in_every_data_set(names):
    alone = parse_families(["control:4"])[0]
    for prompt in load_dataset(names):
        if prompt.family == "control:4":
            common = [(v, m) for v, m in zip(prompt.values, prompt.members, strict=True) if v in alone.ordinals]
            assert all(member == alone.member(value) for value, member in common)


def test_a_control_has_the_windows_of_the_family_that_it_is_compared_with():
    prompts = load_dataset("digits,control:0-2")
    for k in range(3):
        assert len(prompts.pairs("digits", f"control:{k}")) == 30


@pytest.mark.parametrize("name", ["mine.txt", "table.CSV"])
def test_a_file_alone_is_read_as_it_is(folder, name):
    assert load_dataset(f" {name} ,", SequenceDesign(LETTERS, seed=4)) == read_prompts(name)


def test_files_follow_families_and_come_unchanged(folder):
    prompts = load_dataset("mine.txt,digits,table.CSV", SequenceDesign(LETTERS, seed=4))
    digits = load_dataset("digits", SequenceDesign(LETTERS, seed=4))
    own = [*read_prompts("mine.txt"), *read_prompts("table.CSV")]
    numbered = [replace(one, template=i) for i, one in enumerate(own)]  # so that order alone pairs nothing over files
    assert list(prompts) == [*digits, *numbered]
    assert prompts.seed == 4


@pytest.mark.parametrize("name", ["planets.txt", "planets.json"])
def test_a_family_of_one_s_own_is_matched_with_the_built_in_ones(folder, name):
    prompts = load_dataset(f"digits,family:{name},control:0")
    assert family_names(prompts) == ["digits", "planets", "control:0"]
    assert len(prompts.pairs("digits", "planets")) == 2 * 5
    assert {prompts[j].answer for _, j in prompts.pairs("digits", "planets")} == {"Jupiter", "Saturn"}


def test_a_written_data_set_is_a_data_set(folder):
    prompts = load_dataset("digits,months", SequenceDesign(LETTERS, seed=6))
    write_prompts(prompts, "saved.jsonl")
    assert load_dataset("saved.jsonl") == prompts


def test_a_data_set_may_not_hold_the_same_prompts_twice(folder):
    write_prompts(load_dataset("digits"), "saved.jsonl")
    with pytest.raises(InputError, match="two prompts of family 'digits' share the pair key"):
        load_dataset("digits,saved.jsonl")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "no data set given; try digits,numwords,months or a file of prompts"),
        (" , ,", "no data set given"),
        ("digit", r"no family 'digit'; known are digits, control:K and family:FILE \(one member a line\)"),
        ("digits,mine.yaml", r"no family 'mine\.yaml'"),
        ("digits,digits", "a family is named twice: digits"),
        ("digits,family:digits.txt", "a family is named twice: digits"),
    ],
)
def test_names_that_mean_nothing_are_refused(folder, names, message):
    (folder / "digits.txt").write_text("0\n1\n2\n")
    with pytest.raises(InputError, match=message):
        load_dataset(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("digits,nowhere.csv", r"no prompt file 'nowhere\.csv'"),
        ("family:nowhere.txt", r"no family file 'nowhere\.txt'; give a JSON list or one member a line"),
    ],
)
def test_files_that_are_not_there_are_named(folder, names, message):
    with pytest.raises(NotAvailableError, match=message):
        load_dataset(names)


def test_a_frame_that_names_a_column_twice_is_refused():
    with pytest.raises(InputError, match=r"^a table's columns have names of their own; 'text' comes twice$"):
        load_dataset(pd.DataFrame([["a", "b"]], columns=["text", "text"]))
