"""Numbers are written as a person writes them, and read back are what they were."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.cli.tables.cells import cells, intervals, is_numeric, worded

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([14.0, -1.0, NAN], ["14", "-1", ""]),  # a layer, in the column that pandas makes of one that is missing
        ([0.0, 0.0], ["0", "0"]),
        ([0.979166, 0.5, 0.0], ["0.979", "0.500", "0.000"]),
        ([1.0, 0.9991], ["1.000", "0.999"]),
        ([1.5, 1.5], ["1.5", "1.5"]),
        ([0.5, 2.0], ["0.5", "2.0"]),
        ([np.float32(0.1), np.float32(0.2)], ["0.1", "0.2"]),
        ([0.05, 0.00049975, 0.000999], ["0.0500", "0.0005", "0.0010"]),
        ([0.93, 0.00049975, 0.04], ["0.930", "5e-4", "0.040"]),
        ([0.0, 1.27e-6, 1.03e-5], ["0", "1.3e-6", "1e-5"]),
        ([68.616, 77.796], ["68.6", "77.8"]),
        ([44.0, 43.75, 0.75], ["44.00", "43.75", "0.75"]),
        ([1234.5, 3.14], ["1234", "3"]),
        ([8.0e9 + 0.5, 1.0], ["8e9", "1"]),
        ([math.inf, 1.0], ["inf", "1"]),
        ([-0.0, 0.5], ["0.0", "0.5"]),
    ],
)
def test_the_numbers_of_a_column(values, written):
    assert cells(pd.Series(values)) == written


@pytest.mark.parametrize(
    ("column", "written"),
    [
        (pd.Series([3, None], dtype="Int64"), ["3", ""]),
        (pd.Series([None, 2.5], dtype=object), ["", "2.5"]),
        (pd.Series([True, False]), ["yes", "no"]),
        (pd.Series(["a\x1b[31m", None, NAN]), ["a\\x1b[31m", "", ""]),
        (pd.Series([None, None]), ["", ""]),
        (pd.Series([1, "one"], dtype=object), ["1", "one"]),
        (pd.Series([], dtype=float), []),
    ],
    ids=str,
)
def test_what_is_missing_is_blank_and_texts_stand_as_they_are(column, written):
    assert cells(column) == written


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1))
def test_whole_numbers_have_no_point_whatever_holds_them(values):
    assert cells(pd.Series([float(one) for one in values])) == cells(pd.Series(values)) == list(map(str, values))


@given(st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-200), min_size=1))
def test_a_number_read_back_is_what_it_was_to_the_digits_shown(values):
    for value, text in zip(values, cells(pd.Series(values)), strict=True):
        digits = text.partition(".")[2] if "e" not in text else ""
        assert abs(float(text) - value) <= max(0.51 * 10.0 ** -len(digits) if "e" not in text else 0, abs(value) * 0.06)
        assert (float(text) == 0) == (value == 0)
        assert len(text) <= 15


def test_columns_of_numbers_stand_to_the_right():
    assert is_numeric(pd.Series([1, None]))
    assert not any(map(is_numeric, (pd.Series([None]), pd.Series(["1"]), pd.Series([True]))))


def test_an_interval_is_one_cell():
    table = pd.DataFrame({"ci_low": [0.1234, NAN], "ci_high": [1.0, NAN], "last_low": [-1.0, 0], "last_high": [0.0, 0]})
    assert intervals(table) == ["0.12 to 1.00", ""]
    assert intervals(table, "last") == ["-1.00 to 0.00", "0.00 to 0.00"]


def test_headings_are_words():
    table = pd.DataFrame(columns=["n_members", "null_max", "leave_out", "n"])
    assert list(worded(table, {"leave_out": "left out"})) == ["members", "null max", "left out", "n"]
