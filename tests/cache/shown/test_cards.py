"""A notebook shows what a value is, shortly, without colours of its own, and with every text escaped."""

import re

import pandas as pd
import pytest

from cache.shown.cards import card

EVIL = '<script>alert("x")</script>'


def test_every_text_is_escaped():
    table = pd.DataFrame({EVIL: [EVIL]})
    shown = card(EVIL, {EVIL: EVIL}, table, [EVIL])
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 6


def test_a_table_is_cut_and_says_so():
    table = pd.DataFrame({f"c{i}": range(50) for i in range(12)})
    shown = card("many", {}, table)
    assert (shown.count("<tr>"), shown.count("<th>"), shown.count("<td>")) == (7, 10, 60)
    assert "44 more lines and 2 more columns" in shown
    assert "more" not in card("few", {}, table.iloc[:6, :10])
    assert "table" not in card("none", {}, table[:0])


def test_a_column_without_values_is_left_out():
    shown = card(
        "own", {}, pd.DataFrame({"text": ["a", "b"], "family": ["", ""], "se": [float("nan")] * 2, "n": [0, 0]})
    )
    assert [shown.count(f"<th>{name}</th>") for name in ("text", "family", "se", "n")] == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("value", "cell"),
    [(14, "14"), (14.0, "14"), (0.12345, "0.123"), (float("nan"), ""), (True, "True"), ("two", "two"), (0, "0")],
)
def test_numbers_are_written_as_a_person_does(value, cell):
    assert f"<td>{cell}</td><td>beside</td>" in card("one", {}, pd.DataFrame({"x": [value, 1], "y": "beside"}))


def test_a_long_text_keeps_both_ends():
    text = "begins here " + "x" * 500 + " ends there"
    shown = card("long", {"text": text})
    assert "begins here" in shown
    assert "ends there" in shown
    assert len(shown) < 200


def test_what_is_empty_is_left_out_and_nothing_is_coloured():
    shown = card("a", {"known": 3, "not known": ""}, pd.DataFrame({"x": [1]}), ["x.plot()"])
    assert "known: 3" in shown
    assert "not known" not in shown
    assert re.search("style|class|color|border", shown) is None


def balanced(shown):
    opened = re.findall(r"<(\w+)>", shown)
    return sorted(one for one in opened if one != "br") == sorted(re.findall(r"</(\w+)>", shown))


def test_the_html_is_whole():
    assert balanced(card("a", {"b": 1, "c": 2}, pd.DataFrame({"x": range(9)}), ["d", "e"]))
    assert balanced(card("a", {}))
