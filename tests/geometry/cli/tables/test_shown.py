"""A table is shown as far as it fits, with its best layer; what is left out is named, and all is there if asked for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from geometry.cli.tables.shown import Shown, lines_of
from tests.geometry.cli.tables.test_fitting import TEXTS, frames

WIDE = 10_000


def by_layer(n_layers, names=("",), seed=0):
    """A table whose measure has another value in each line, all of them easily found."""
    values = np.random.default_rng(seed).permutation(n_layers * len(names)) + 5000
    keys = pd.MultiIndex.from_product([range(-1, n_layers - 1), names], names=["layer", "family"]).to_frame(index=False)
    return keys.assign(value=values, se=0.5)


@given(frames(), TEXTS, st.integers(40, 200), st.booleans(), st.booleans(), st.data())
def test_no_line_is_longer_than_the_width(frame, title, width, full, across, data):
    keys = tuple(frame.columns[: data.draw(st.integers(0, len(frame.columns)))])
    table = Shown(frame, title, keys, most=data.draw(st.sampled_from([None, 2])), across=across)
    assert max(map(cell_len, lines_of(table, width, full=full))) <= width


@given(st.integers(40, 200), st.integers(1, 40))
def test_full_has_every_column_in_tables_that_repeat_the_keys(width, n):
    frame = pd.DataFrame({"layer": [7, 8], **{f"c{i}": [100 + i, 200 + i] for i in range(n)}})
    lines = lines_of(Shown(frame, keys=("layer",)), width, full=True)
    words = " ".join(lines).split()
    for i in range(n):
        assert [words.count(str(one)) for one in (f"c{i}", 100 + i, 200 + i)] == [1, 1, 1]
    assert words.count("layer") == words.count("7") == lines.count("") + 1


@given(st.integers(1, 60), st.integers(1, 9), st.booleans(), st.integers(0, 99), st.integers(40, 120))
def test_the_best_layer_the_first_and_the_last_are_always_there(n_layers, n_names, lowest, seed, width):
    frame = by_layer(n_layers, [f"f{i}" for i in range(n_names)], seed)
    table = Shown(frame, "a title", ("layer", "family"), "value", lowest)
    lines = lines_of(table, width, full=False)
    rows = [line.split() for line in lines[3:] if " f" in line]
    best = frame.loc[frame.groupby("family")["value"].agg("idxmin" if lowest else "idxmax"), "value"]
    assert {row[2] for row in rows} >= set(best.astype(str))
    assert {row[0] for row in rows} >= {"-1", str(n_layers - 2)}
    assert (len(rows) < len(frame)) == any("--full" in line for line in lines)
    for whole in (lines_of(table, width, full=True), lines_of(table, None, full=False)):
        assert sum(" f" in line for line in whole) == len(frame) + 1  # and the heading


def test_what_is_left_out_is_said_below():
    frame = by_layer(31).drop(columns="family").assign(value=[*range(100, 113), 900, *range(113, 130)])
    table = Shown(frame.assign(**{f"column {i}": "x" * 20 for i in range(3)}), "pca", ("layer",), "value")
    told = "every 5th of 31 layers, and the largest value (layer 12); not shown: column 2; --full shows all"
    lines = lines_of(table, 80, full=False)
    assert " ".join(lines[-2:]) == told
    assert [line.split()[0] for line in lines[3:-2]] == ["-1", "4", "9", "12", "14", "19", "24", "29"]


@pytest.mark.parametrize(("n", "names"), [(13, [""]), (8, ["digits", "months", "days"])])
def test_short_tables_are_whole(n, names):
    lines = lines_of(Shown(by_layer(n, names), None, ("layer", "family"), "value"), 80, full=False)
    assert len(lines) == 2 + n * len(names)


def test_lines_of_one_layer_stay_together_where_only_the_layer_names_them():
    frame = by_layer(31, range(5))
    frame.loc[:, "value"] = np.where((frame["layer"] == 3) & (frame["family"] == 0), 9999, frame["value"])
    lines = lines_of(Shown(frame, None, ("layer",), "value"), 80, full=False)
    assert sum(line.split()[0] == "3" for line in lines) == 5


def test_a_measure_that_is_nowhere_known_has_no_best_layer():
    frame = by_layer(31).assign(value=np.nan)
    lines = lines_of(Shown(frame, None, ("layer",), "value"), 80, full=False)
    assert lines[-1] == "every 5th of 31 layers; --full shows all"


def test_an_uneven_last_step_is_said():
    assert lines_of(Shown(by_layer(30), None, ("layer",)), 80, full=False)[-1] == (
        "every 5th of 30 layers and the last; --full shows all"
    )


def test_layers_across_are_shown_in_equal_steps_as_many_as_fit():
    frame = pd.DataFrame({"first": ["a -> b"], "second": ["a -> c"], **{str(i): [0.123] for i in range(31)}})
    lines = lines_of(Shown(frame, None, ("first", "second"), across=True), 60, full=False)
    assert lines[0].split() == ["first", "second", "0", "6", "12", "18", "24", "30"]
    assert lines[-1] == "6 of 31 layers; --full shows all"
    assert lines_of(Shown(frame, None, ("first", "second"), across=True), WIDE, full=False)[-1].count("0.123") == 31


def test_of_many_lines_the_first_are_shown():
    table = Shown(pd.DataFrame({"text": list("abcdefgh")}), most=3)
    assert lines_of(table, 80, full=False)[2:] == ["a", "b", "c", "the first 3 of 8 lines; --full shows all"]
    for lines in (lines_of(table, 80, full=True), lines_of(table, None, full=False)):
        assert lines[2:] == list("abcdefgh")


def test_a_column_without_a_value_takes_no_room_unless_all_is_asked_for():
    frame = pd.DataFrame({"a": ["x"], "95 %": [""], "q": [0.5]})
    assert lines_of(Shown(frame, keys=("a",)), 80, full=False) == ["a    q", "-  ---", "x  0.5"]
    assert "95 %" in lines_of(Shown(frame, keys=("a",)), 80, full=True)[0]


def test_a_table_without_lines_has_its_headings():
    frame = pd.DataFrame({"layer": [], "value": []})
    assert lines_of(Shown(frame, "none", ("layer",), "value"), 80, full=False) == [
        "none",
        "layer  value",
        "-----  -----",
    ]
