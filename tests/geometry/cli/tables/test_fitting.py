"""No line of a table is longer than its width, no number is divided, and no word is lost."""

import string
from itertools import pairwise

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from geometry.cli.tables.fitting import columns_of, evenly, set_in, that_fit, wrapped

MARKS = string.ascii_letters + "   日本語한ßé́_-:>0123456789"
TEXTS = st.text(MARKS, max_size=60)
NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.none())


@st.composite
def frames(draw):
    """Tables of any size, of numbers and of texts in any letters."""
    n = draw(st.integers(0, 4))
    kinds = draw(st.lists(st.sampled_from([TEXTS, NUMBERS]), min_size=1, max_size=30))
    data = [draw(st.lists(kind, min_size=n, max_size=n)) for kind in kinds]
    frame = pd.DataFrame({number: pd.Series(one, dtype=object) for number, one in enumerate(data)})
    return frame.set_axis([draw(TEXTS) for _ in kinds], axis=1)  # two may have one name


@given(frames(), st.integers(40, 200))
def test_columns_that_fit_make_no_line_longer_than_the_width(frame, width):
    columns = columns_of(frame)
    n = that_fit(columns, width)
    lines = set_in(columns[:n], width)
    assert n >= 1
    assert max(map(cell_len, lines)) <= width
    words = " ".join(lines).split(" ")
    for column in columns[:n]:
        assert not column.numeric or {one for one in column.cells if one} <= set(words)
    if n < len(columns):
        assert sum(one.narrow(width) + 2 for one in columns[: n + 1]) - 2 > width


@given(frames())
def test_without_a_width_every_cell_is_on_one_line_and_whole(frame):
    columns = columns_of(frame)
    lines = set_in(columns, None)
    assert len(lines) == 2 + len(frame)
    for number, line in enumerate(lines[2:]):
        at = -1
        for column in columns:
            at = line.index(column.cells[number].rstrip(), at + 1) if column.cells[number].strip() else at
            assert line[at:].startswith(column.cells[number].rstrip()) or not column.cells[number].strip()


@given(TEXTS, st.integers(2, 70), st.sampled_from([" ", ", "]))
def test_a_wrapped_text_keeps_its_marks_and_its_width(text, width, between):
    lines = wrapped(text, width, between)
    assert max(map(cell_len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_words_are_divided_only_where_they_are_too_long():
    assert wrapped("one two three", 7) == ["one two", "three"]
    assert wrapped("a incomprehensible b", 8) == ["a", "incompre", "hensible", "b"]
    assert wrapped("日本語", 4) == ["日本", "語"]
    assert wrapped("control:0 48, days 7", 14, ", ") == ["control:0 48", "days 7"]


def test_the_table_of_an_example():
    frame = pd.DataFrame({"pair": ["one", "日"], "control max": [0.5, 12], "found": ["right", "wrong: not the same"]})
    assert set_in(columns_of(frame), None) == [
        "pair  control max  found",
        "----  -----------  -------------------",
        "one           0.5  right",
        "日           12.0  wrong: not the same",
    ]
    assert set_in(columns_of(frame), 26) == [
        "      control",
        "pair      max  found",
        "----  -------  -----------",
        "one       0.5  right",
        "日       12.0  wrong: not",
        "               the same",
    ]


@given(st.integers(1, 200), st.integers(1, 40))
def test_equal_steps_have_the_first_and_the_last(n, kept):
    places = evenly(n, kept)
    assert (places[0], places[-1]) == (0, n - 1)
    assert len(places) <= max(kept, 2) + 1
    assert len(places) == n or n > kept
    assert len({b - a for a, b in pairwise(places[:-1])}) <= 1


def test_equal_steps_of_examples():
    assert evenly(31, 8) == [0, 5, 10, 15, 20, 25, 30]
    assert evenly(9, 3) == [0, 4, 8]
    assert evenly(3, 8) == [0, 1, 2]
