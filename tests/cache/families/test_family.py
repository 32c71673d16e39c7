"""Families: equal ordinals are equal places in the order, and a control depends on its draw and nothing else."""

import calendar
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError, NotAvailableError
from cache.families.controls import control_members, control_name, n_controls
from cache.families.family import FAMILIES, Family, control_family, parse_families, read_family
from cache.families.words import CONTROL_CLASSES


def roman(number: int) -> str:
    for value, sign in ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        if number >= value:
            return sign + roman(number - value)
    return ""


ORACLES = {
    "digits": str,
    "numwords": "zero one two three four five six seven eight nine ten".split().__getitem__,
    "months": calendar.month_name.__getitem__,
    "days": lambda ordinal: calendar.day_name[ordinal - 1],
    "letters": lambda ordinal: string.ascii_uppercase[ordinal - 1],
    "roman": roman,
    "ordinals": lambda ordinal: "first second third fourth fifth sixth seventh eighth ninth tenth".split()[ordinal - 1],
    "tens": lambda ordinal: "ten twenty thirty forty fifty sixty seventy eighty ninety".split()[ordinal - 1],
}
ORDINALS = {
    "digits": range(10),
    "numwords": range(11),
    "months": range(1, 13),
    "days": range(1, 8),
    "letters": range(1, 27),
    "roman": range(1, 11),
    "ordinals": range(1, 11),
    "tens": range(1, 10),
}


def test_the_built_in_families_are_these():
    assert set(FAMILIES) == set(ORACLES)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_member_has_the_ordinal_that_it_names(name):
    family = FAMILIES[name]
    assert family.ordinals == ORDINALS[name]
    assert list(family.members) == [ORACLES[name](ordinal) for ordinal in ORDINALS[name]]
    assert [family.member(ordinal) for ordinal in family.ordinals] == list(family.members)


def test_three_is_march_is_wednesday_is_c():
    shown = {name: family.member(3) for name, family in FAMILIES.items()}
    assert shown == {
        "digits": "3",
        "numwords": "three",
        "months": "March",
        "days": "Wednesday",
        "letters": "C",
        "roman": "III",
        "ordinals": "third",
        "tens": "thirty",
    }


@given(st.sampled_from(["months", "days"]), st.integers(-40, 40), st.integers(-3, 3))
def test_a_cyclic_family_comes_round(name, ordinal, rounds):
    family = FAMILIES[name]
    assert family.member(ordinal + rounds * len(family.members)) == family.member(ordinal)


def test_only_months_and_days_come_round():
    assert {name for name, family in FAMILIES.items() if family.cyclic} == {"months", "days"}


@pytest.mark.parametrize("ordinal", [-1, 0, 27, 40])
def test_a_family_that_ends_has_no_member_beyond_its_ends(ordinal):
    with pytest.raises(InputError, match=f"letters has the ordinals 1 to 26; got {ordinal}"):
        FAMILIES["letters"].member(ordinal)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), r"family 'mine' has 0 member\(s\); a sequence needs 2"),
        (("one",), r"family 'mine' has 1 member\(s\); a sequence needs 2"),
        (("a", "b", "a", "c", "c"), "family 'mine' repeats a, c; members must differ"),
        (("a", " b"), "family 'mine' has the member ' b'; give words without outer spaces"),
        (("a", "b\n"), r"family 'mine' has the member 'b\\n'"),
        (("a", ""), "family 'mine' has the member ''"),
        (("a", "b\0c"), r"family 'mine' has the member 'b\\x00c'"),
        (("a", "\ud800"), r"family 'mine' has the member '\\ud800'"),
    ],
)
def test_members_that_cannot_stand_in_an_order_are_refused(members, message):
    with pytest.raises(InputError, match=message):
        Family("mine", members)


@pytest.mark.parametrize("token_class", CONTROL_CLASSES)
def test_a_control_family_has_a_draw_s_name_and_members(token_class):
    family = control_family(4, range(2, 9), token_class)
    assert family == Family(control_name(4, token_class), control_members(4, range(2, 9), token_class), first=2)


def test_no_control_has_a_word_in_the_place_that_a_built_in_family_has_it_in():
    built_in = {(o, family.member(o).casefold()) for family in FAMILIES.values() for o in family.ordinals}
    for token_class in CONTROL_CLASSES:
        for draw in range(n_controls(token_class)):
            control = control_family(draw, range(27), token_class)
            assert built_in.isdisjoint((o, control.member(o).casefold()) for o in control.ordinals)


def test_all_controls_there_are_stand_beside_all_built_in_families():
    names = [f"control:0-{n_controls() - 1}"]
    names += [f"control:{c}:0-{n_controls(c) - 1}" for c in ("capitals", "characters")]
    assert len(parse_families([*FAMILIES, *names])) == len(FAMILIES) + sum(map(n_controls, CONTROL_CLASSES))


@pytest.mark.parametrize(
    ("names", "span"),
    [
        (["control:0"], range(1, 13)),
        (["digits", "control:0"], range(10)),
        (["control:0", "digits", "months"], range(13)),
        (["days", "control:0"], range(1, 8)),
    ],
)
def test_controls_cover_the_ordinals_of_the_families_beside_them(names, span):
    control = next(family for family in parse_families(names) if family.name == "control:0")
    assert control.ordinals == span


def test_a_range_of_controls_is_inclusive_and_keeps_its_place():
    families = parse_families(["digits", "control:0-19", "months"])
    assert [f.name for f in families] == ["digits", *(f"control:{k}" for k in range(20)), "months"]
    assert len({f.members for f in families}) == 22


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["month"], "no family 'month'; known are months, control:K and family:FILE"),
        (["xyz"], "no family 'xyz'; known are digits, numwords, months, days, letters, roman, ordinals, tens, control"),
        (["control:a"], r"no control 'control:a'; give control:0-19, .*, or control:FILE \(one member a line\)"),
        (["control:-1"], "no control 'control:-1'"),
        (["control:"], "no control 'control:'"),
        (["control:3:capitals"], "no control 'control:3:capitals'"),
        (
            ["control:capital:3"],
            "no class 'capital' of controls; give control:capitals:0-19 or control:characters:0-19",
        ),
        (["digits", "months", "digits"], "a family is named twice: digits"),
        (["control:1", "control:0-3"], "a family is named twice: control:1"),
        (["digits", "control:5-3"], "a range of controls runs upwards, as in control:0-19; got control:5-3"),
        ([], "no families given; try digits,numwords,months"),
    ],
)
def test_families_that_are_not_there_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        parse_families(names)


def test_a_text_file_is_a_family_with_one_member_a_line(tmp_path):
    path = tmp_path / "planets.txt"
    path.write_bytes("Mercury\r\n\r\n  Venus \r\n \t\r\nTerre étrange\r\n".encode())
    assert read_family(path) == Family("planets", ("Mercury", "Venus", "Terre étrange"), first=1)


@given(members=st.lists(st.text(string.printable + "éß日😀", min_size=1).map(str.strip), min_size=2, unique=True))
def test_a_json_list_is_a_family_of_exactly_its_members(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("family") / "Mine.JSON"
    path.write_text(json.dumps(members), encoding="utf-8")
    if all(member and member.isprintable() for member in members):
        assert read_family(path) == Family("Mine", tuple(members))
    else:
        with pytest.raises(InputError, match="family 'Mine' has the member"):
            read_family(path)


def test_a_user_s_family_stands_beside_the_built_in_ones(tmp_path):
    path = tmp_path / "planets.txt"
    path.write_text("Mercury\nVenus\nEarth\nMars\n")
    own, digits = parse_families([f"family:{path}", "digits"])
    assert (own.name, own.member(3), digits.member(3)) == ("planets", "Earth", "3")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.json", b'{"a": 1}', r"f\.json is not a list of members \(.*\); write one member a line"),
        ("f.json", b'["a", 1]', r"f\.json is not a list of members"),
        ("f.json", b'["a", ', r"f\.json is not a list of members \(Expecting value: line 1 column 7"),
        ("f.json", b"[" * 100_000, r"f\.json is not a list of members \(maximum recursion depth"),
        ("f.json", b"9" * 5000, r"f\.json is not a list of members"),
        ("f.json", b"", r"f\.json is not a list of members"),
        ("f.txt", b"a\n\xff\xfe\n", r"f\.txt is not a list of members \('utf-8' codec can't decode byte 0xff"),
        ("f.txt", b"", r"family 'f' has 0 member\(s\)"),
        ("f.txt", b"a\nb\na\n", "family 'f' repeats a; members must differ"),
    ],
)
def test_a_file_that_is_no_family_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_family(tmp_path / name)


@pytest.mark.parametrize("name", ["family:nowhere.txt", "family:", "family:/"])
def test_a_family_file_that_is_not_there_is_named(name):
    with pytest.raises(NotAvailableError, match=r"no family file '.*'; give a JSON list or one member a line"):
        parse_families([name])


@pytest.mark.parametrize(("name", "content"), [("f.txt", "one\r\ntwo\r\n"), ("f.json", '["one", "two"]')])
def test_a_byte_order_mark_is_no_part_of_the_first_member(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_family(tmp_path / name).members == ("one", "two")


def test_so_many_controls_are_drawn_and_no_more():
    with pytest.raises(InputError, match=r"there are control:0 to 188, .* at the same place .*; got control:999999999"):
        parse_families(["control:0-999999999"])
    with pytest.raises(InputError, match=r"^no control 'control:9{5000}'; give "):
        parse_families(["control:" + "9" * 5000])
    with pytest.raises(NotAvailableError, match=r"^no family file '9{5000}'"):
        parse_families(["family:" + "9" * 5000])


def test_a_user_s_list_is_a_control_under_a_control_s_name(tmp_path):
    path = tmp_path / "birds.txt"
    path.write_text("owl\nhen\ncrow\n")
    own, digits, drawn = parse_families([f"control:{path}", "digits", "control:0"])
    assert own == Family("control:birds", ("owl", "hen", "crow"))
    assert (digits.name, drawn.ordinals) == ("digits", range(10))


def test_the_drawn_controls_beside_a_user_s_cover_its_ordinals(tmp_path):
    (tmp_path / "birds.txt").write_text("owl\nhen\ncrow\n")
    assert parse_families([f"control:{tmp_path}/birds.txt", "control:0"])[1].ordinals == range(1, 4)


@pytest.mark.parametrize("name", ["3", "0-19", "capitals:2"])
def test_a_user_s_control_may_not_go_by_the_name_of_a_draw(tmp_path, name):
    (tmp_path / f"{name}.txt").write_text("owl\nhen\n")
    with pytest.raises(InputError, match=f"would be called control:{name}, as a draw is; give the file another name"):
        parse_families([f"control:{tmp_path}/{name}.txt"])


@pytest.mark.parametrize("name", ["control:nowhere.txt", "control:no/where"])
def test_a_control_file_that_is_not_there_is_named(name):
    with pytest.raises(NotAvailableError, match=r"no family file 'no.*'; give a JSON list or one member a line"):
        parse_families([name])


@pytest.mark.parametrize("word", ["three", "Three", "THREE"])
def test_a_control_with_a_family_s_word_at_its_place_is_refused_in_whatever_case(tmp_path, word):
    (tmp_path / "mine.txt").write_text(f"cat\ndog\n{word}\n")
    with pytest.raises(InputError, match=f"control:mine and numwords both have '{word}' at 3, and a control shares no"):
        parse_families([f"control:{tmp_path}/mine.txt", "numwords"])


def test_a_control_may_have_a_family_s_words_at_other_places(tmp_path):
    (tmp_path / "mine.txt").write_text("three\none\ntwo\n")
    assert parse_families(["numwords", f"control:{tmp_path}/mine.txt"])[1].member(1) == "three"


def test_a_drawn_control_with_a_word_of_a_user_s_family_at_its_place_is_refused(tmp_path):
    words = control_members(0, range(1, 4))
    (tmp_path / "mine.txt").write_text("\n".join(("x", words[1].upper(), "y")))
    with pytest.raises(InputError, match=f"control:0 and mine both have '{words[1]}' at 2, .*; leave control:0 out"):
        parse_families([f"family:{tmp_path}/mine.txt", "control:0-3"])
    (tmp_path / "mine.txt").write_text("\n".join(("x", words[2], "y")))
    assert parse_families([f"family:{tmp_path}/mine.txt", "control:0-3"])
