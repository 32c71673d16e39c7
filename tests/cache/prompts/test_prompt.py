"""Prompts: spans are members, pair keys match what was shown, and the content hash sees everything."""

import itertools
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import SequenceDesign, load_dataset
from cache.errors import InputError
from cache.families.family import FAMILIES, parse_families
from cache.prompts.prompt import Prompt, Prompts

KINDS = ("increasing", "decreasing", "repeated", "copy", "permuted", "shuffled-same-last", "step:2")
SHOWN = Prompt(
    "1,2,1,",
    family="digits",
    frame="list",
    template=1,
    kind="increasing",
    values=(1, 2),
    members=("1", "2"),
    spans=((0, 1), (2, 3)),
    answer="3",
    distractor="2",
    group="mine",
)


@pytest.fixture(scope="module")
def crossed() -> Prompts:
    """Five families of unlike ranges in two frames, two templates and two lengths, by seven kinds."""
    design = SequenceDesign((FAMILIES["digits"],), kinds=KINDS, lengths=(3, 4), templates=2)
    return load_dataset("digits,numwords,months,days,control:0", design)


def labelled(key: str) -> Prompt:
    """A one-member prompt of frame, template, kind, value and family in five letters."""
    frame, template, kind, value, family = key
    return Prompt(
        f"{value}!",
        family=family,
        frame=frame,
        template=int(template),
        kind=kind,
        values=(int(value),),
        members=(value,),
        spans=((0, 1),),
    )


labels = st.tuples(*map(st.sampled_from, ("pq", "01", "kl", "12", "ab"))).map("".join)


@given(st.lists(labels, min_size=2, unique=True).filter(lambda keys: {key[-1] for key in keys} == {"a", "b"}))
@settings(deadline=None)
def test_prompts_match_exactly_where_frame_template_kind_and_ordinals_are_equal(keys):
    prompts = Prompts(tuple(map(labelled, keys)))
    expected = {
        (i, j)
        for (i, one), (j, other) in itertools.product(enumerate(keys), repeat=2)
        if (one[-1], other[-1]) == ("a", "b") and one[:-1] == other[:-1]
    }
    assert {tuple(pair) for pair in prompts.pairs("a", "b").tolist()} == expected


@pytest.mark.parametrize(("a", "b"), [("digits", "numwords"), ("digits", "months"), ("months", "control:0")])
def test_matched_prompts_show_the_members_of_the_same_ordinals_in_the_same_words(crossed, a, b):
    families = {family.name: family for family in parse_families(["digits", "months", "numwords", "control:0"])}
    pairs = crossed.pairs(a, b)
    assert len(pairs) > 100
    for i, j in pairs:
        one, other = crossed[i], crossed[j]
        assert (one.family, other.family) == (a, b)
        assert one.members == tuple(map(families[a].member, other.values))
        assert other.members == tuple(map(families[b].member, one.values))
        assert without_members(one) == without_members(other)


def without_members(prompt: Prompt) -> str:
    text = prompt.text
    for start, end in reversed(prompt.spans):
        text = text[:start] + "_" + text[end:]
    return text


def test_pairs_hold_every_match_once_and_the_other_way_round_are_the_same(crossed):
    pairs = crossed.pairs("digits", "months")
    keys = [{p.pair_key for p in crossed if p.family == family} for family in ("digits", "months")]
    assert len(pairs) == len(keys[0] & keys[1]) == len({tuple(pair) for pair in pairs.tolist()})
    assert {(j, i) for i, j in pairs.tolist()} == {tuple(p) for p in crossed.pairs("months", "digits").tolist()}


def test_a_pair_key_names_one_prompt_of_a_family(crossed):
    keys = [(prompt.family, prompt.pair_key) for prompt in crossed]
    assert len(set(keys)) == len(keys)


def test_groups_match_like_families():
    prompts = Prompts(
        tuple(replace(SHOWN, group=g, template=t) for g, t in (("calm", 0), ("calm", 1), ("loud", 1), ("loud", 2)))
    )
    assert prompts.pairs("calm", "loud").tolist() == [[1, 2]]


def test_a_family_goes_before_a_group_of_the_same_name():
    prompts = Prompts((replace(SHOWN, family="x", group="y"), replace(SHOWN, family="y", group="z")))
    assert prompts.pairs("x", "y").tolist() == [[0, 1]]


def test_families_that_share_nothing_have_no_pairs():
    prompts = Prompts((replace(SHOWN, family="a"), replace(SHOWN, family="b", kind="copy")))
    assert prompts.pairs("a", "b").shape == (0, 2)


def test_a_label_that_is_not_there_is_refused_with_those_that_are():
    prompts = Prompts((replace(SHOWN, group="mine"), replace(SHOWN, family="months", group="")))
    with pytest.raises(
        InputError, match="no family or group 'days' among these prompts; there are digits, mine, months"
    ):
        prompts.pairs("digits", "days")


@pytest.mark.parametrize(("group", "there"), [("", "they have no labels"), ("mine", "there are mine")])
def test_the_labels_listed_hold_no_empty_one(group, there):
    prompts = Prompts((Prompt("a", group=group), Prompt("b", group=group)))
    with pytest.raises(InputError, match=f"no family or group 'x' among these prompts; {there}"):
        prompts.pairs("x", "y")


def test_a_group_over_several_families_is_refused():
    prompts = Prompts((replace(SHOWN, family="a"), replace(SHOWN, family="b"), replace(SHOWN, group="other")))
    with pytest.raises(InputError, match="prompts labelled 'mine' repeat a pair key; compare its families or groups"):
        prompts.pairs("mine", "other")


def test_two_prompts_of_a_family_with_one_pair_key_are_refused():
    with pytest.raises(InputError, match=r"of family 'digits' share the pair key 'list\|1\|increasing\|1,2'"):
        Prompts((SHOWN, replace(SHOWN, text="1,2,9,")))


def test_the_same_prompt_twice_is_refused():
    with pytest.raises(InputError, match="share the pair key"):
        Prompts((SHOWN, SHOWN))


@pytest.mark.parametrize(
    "change",
    [{"family": "months"}, {"group": "other"}, {"frame": "eq"}, {"template": 2}, {"kind": "copy"}, {"values": (2, 3)}],
)
def test_a_pair_key_may_return_where_any_label_differs(change):
    assert len(Prompts((SHOWN, replace(SHOWN, **change)))) == 2


def test_no_prompts_are_refused():
    with pytest.raises(InputError, match="no prompts; give at least one"):
        Prompts(())


def test_texts_become_prompts_in_their_order_repeated_ones_too():
    prompts = Prompts.from_texts(["b", "a", "b"])
    assert [prompt.text for prompt in prompts] == ["b", "a", "b"]
    assert {(p.family, p.frame, p.kind, p.values, p.answer) for p in prompts} == {("", "own", "own", (), "")}


def test_a_lone_string_is_not_taken_for_a_list_of_characters():
    with pytest.raises(InputError, match="give a list of texts, not one string; got '1,2,3,'"):
        Prompts.from_texts("1,2,3,")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "a prompt has no text; give one or leave its line out"),
        ({"text": "1,2,\0"}, r"must be Unicode without NUL; got '1,2,\\x00'"),
        ({"text": "1,2,\ud800"}, r"must be Unicode without NUL; got '1,2,\\ud800'"),
        ({"family": "a\0"}, r"must be Unicode without NUL; got 'a\\x00'"),
        ({"answer": "\udfff"}, r"must be Unicode without NUL; got '\\udfff'"),
        ({"distractor": "\0"}, r"must be Unicode without NUL; got '\\x00'"),
        ({"frame": "\0"}, r"must be Unicode without NUL; got '\\x00'"),
        ({"kind": "\0"}, r"must be Unicode without NUL; got '\\x00'"),
        ({"group": "\0"}, r"must be Unicode without NUL; got '\\x00'"),
        ({"values": (1,)}, "one value and one span a member; got 2 members, 1 values, 2 spans in '1,2,1,'"),
        ({"spans": ((0, 1),)}, "got 2 members, 2 values, 1 spans"),
        ({"members": ("1", "2", "1")}, "got 3 members, 2 values, 2 spans"),
        ({"spans": ((0, 1), (3, 4))}, "characters 3 to 4 of '1,2,1,' are ',', not '2'"),
        ({"members": ("1", "3")}, "characters 2 to 3 of '1,2,1,' are '2', not '3'"),
        ({"members": ("1", ""), "spans": ((0, 1), (2, 2))}, "characters 2 to 2 of '1,2,1,' are '', not ''"),
    ],
)
def test_a_prompt_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(SHOWN, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "1,2,1,3"},
        {"family": "numbers"},
        {"frame": "lines"},
        {"template": 0},
        {"kind": "random"},
        {"values": (1, 3)},
        {"members": ("1,", "2"), "spans": ((0, 2), (2, 3))},
        {"spans": ((4, 5), (2, 3))},
        {"answer": " 3"},
        {"distractor": "1"},
        {"group": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_prompts_differ_in_any_field(change):
    other = Prompt("x")
    assert Prompts((SHOWN, other)) != Prompts((replace(SHOWN, **change), other))


def test_prompts_differ_in_order_number_and_seed():
    a, b = Prompt("a"), Prompt("b")
    variants = [Prompts((a, b)), Prompts((b, a)), Prompts((a,)), Prompts((a, b), seed=1), Prompts((Prompt("ab"),))]
    assert len(set(variants)) == len(variants)


def test_prompts_of_equal_fields_are_equal():
    assert Prompts((replace(SHOWN),)) == Prompts((SHOWN,))


def test_a_subset_keeps_the_order_given_and_the_seed(crossed):
    chosen = replace(crossed, seed=3).subset([5, 2, 9])
    assert (list(chosen), chosen.seed) == ([crossed[5], crossed[2], crossed[9]], 3)


def test_the_table_has_a_row_a_prompt_and_a_column_a_field(crossed):
    table = crossed.table()
    assert list(table.columns) == [*(field.name for field in fields(Prompt) if field.name != "labels"), "pair_key"]
    assert [Prompt(*row[:-1]) for row in table.itertuples(index=False)] == list(crossed)
    assert list(table["pair_key"]) == [prompt.pair_key for prompt in crossed]


def test_further_labels_are_columns_empty_where_a_prompt_has_none():
    table = Prompts((Prompt("a", labels=(("self", 1),)), Prompt("b", template=1, labels=(("note", "x"),)))).table()
    assert table[["self", "note"]].to_numpy().tolist() == [[1, ""], ["", "x"]]


@pytest.mark.parametrize(
    "labels", [(("member", 1),), (("text", "a"),), (("", "a"),), (("a/b", 1),), ((" a", 1),), (("a", 1), ("a", 2))]
)
def test_a_label_has_a_name_of_its_own(labels):
    with pytest.raises(InputError, match=r"^a label of prompts cannot have the name "):
        Prompt("a", labels=labels)


def test_a_notebook_shows_how_many_there_are_and_the_first():
    shown = load_dataset("digits,months,control:0-3")._repr_html_()
    assert "<b>250 prompts</b>" in shown
    assert "families: digits (30), months (40)<br>controls: 4" in shown
    assert "Snow done in &quot;0&quot;" in shown
    assert "next: <code>record(model, prompts)</code>" in shown
    assert repr(Prompts.from_texts(["1,2,3,"] * 4)) == "<Prompts: 4, the first '1,2,3,'>"
    assert Prompts.from_texts(["<b>"])._repr_html_().count("&lt;b&gt;") == 1
