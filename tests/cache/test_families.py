"""Families: equal ordinals are equal places in the order, and a control depends on its draw and nothing else."""

import calendar
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError, NotAvailableError
from cache.families import FAMILIES, Family, control_family, parse_families, read_family
from cache.words import CONTROL_WORDS

SMALLEST = min(len(words) for words in CONTROL_WORDS.values())


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


@given(st.integers(0, 200), st.integers(0, SMALLEST), st.integers(2, 12), st.integers(0, SMALLEST), st.integers(2, 12))
def test_a_control_s_member_depends_on_draw_and_ordinal_alone(draw, start, length, other_start, other_length):
    one = control_family(draw, range(start, start + length))
    other = control_family(draw, range(other_start, other_start + other_length))
    assert one.name == other.name == f"control:{draw}"
    both = set(one.ordinals) & set(other.ordinals)
    assert {o: one.member(o) for o in both} == {o: other.member(o) for o in both}


@given(st.integers(0, 200), st.integers(0, 30), st.integers(2, 80))
def test_a_control_has_different_words_of_one_category(draw, start, length):
    family = control_family(draw, range(start, start + length))
    category = list(CONTROL_WORDS.values())[draw % 3]
    assert set(family.members) <= set(category)
    assert len(set(family.members)) == len(family.members) == min(length, len(category))
    assert family.ordinals.start == start


def test_no_two_of_a_hundred_draws_agree_in_their_first_three_members():
    starts = [control_family(draw, range(1, 13)).members[:3] for draw in range(100)]
    assert len(set(starts)) == 100


def test_controls_are_animals_objects_and_colours_in_turn():
    controls = [control_family(draw, range(1, 10)) for draw in range(6)]
    categories = ["animals", "objects", "colours"] * 2
    assert all(set(c.members) <= set(CONTROL_WORDS[k]) for c, k in zip(controls, categories, strict=True))


def test_a_control_is_in_no_order_that_it_was_listed_in():
    for draw in range(20):
        words = list(CONTROL_WORDS.values())[draw % 3]
        places = [words.index(member) for member in control_family(draw, range(1, 13)).members]
        assert places != sorted(places)
        assert places != sorted(places, reverse=True)


def test_controls_are_the_same_in_every_release():
    assert control_family(0, range(1, 5)).members == ("fly", "horse", "bird", "owl")
    assert control_family(1, range(1, 5)).members == ("card", "pipe", "wire", "radio")
    assert control_family(2, range(1, 5)).members == ("lime", "brown", "gray", "tan")


def test_a_negative_draw_is_refused():
    with pytest.raises(InputError, match=r"controls are numbered from 0, as in control:0; got control:-1"):
        control_family(-1, range(5))


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
        (["control:a"], "no family 'control:a'"),
        (["control:-1"], "no family 'control:-1'"),
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
    assert len(parse_families(["control:5-1004"])) == 1000
    with pytest.raises(
        InputError, match="1,000 controls are drawn at most, as in control:0-999; got control:0-999999999"
    ):
        parse_families(["control:0-999999999"])
    with pytest.raises(InputError, match=r"^no family 'control:9{5000}'; known are "):
        parse_families(["control:" + "9" * 5000])
