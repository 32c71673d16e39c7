"""Rows with their prompts' labels, and choosing among them with a query."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError
from cache.prompts.prompt import Prompt, Prompts
from cache.store.tables import join_labels
from cache.store.view import query_rows, row_mask, where_text

PROMPTS = Prompts(
    (
        Prompt("7,8,9,", "digits", "list", 2, "increasing", (7, 8, 9), ("7", "8", "9"), ((0, 1), (2, 3), (4, 5)), "10"),
        Prompt("own text", group="mine"),
        Prompt("x:one", "words", "eq", 0, "random", (41,), ("one",), ((2, 5),), distractor=" two"),
    )
)
ROWS = pd.DataFrame(
    {
        "prompt": [0, 0, 0, 1, 2, 2],
        "position": [-1, 0, 4, 1, 0, 2],
        "token": [0, 5, 6, 7, 8, 9],
        "token_text": ["<bos>", "7", "9", " text", "x", "one"],
        "member": [-1, 0, 2, -1, -1, 0],
        "is_last": [False, False, True, True, False, True],
    }
)


@pytest.fixture
def rows() -> pd.DataFrame:
    return join_labels(PROMPTS.table(), ROWS)


def test_each_row_gets_the_labels_of_its_prompt_and_its_members_value(rows):
    assert rows[list(ROWS)].equals(ROWS)
    assert rows["value"].tolist() == [-1, 7, 9, -1, -1, 41]
    assert rows["shown"].tolist() == ["", "7", "9", "", "", "one"]
    for name in ("family", "frame", "template", "kind", "group", "answer", "distractor", "pair_key"):
        assert rows[name].tolist() == [getattr(PROMPTS[number], name) for number in ROWS["prompt"]]
    assert list(rows.index) == list(range(6))


def test_the_tables_that_are_joined_stay_as_they_are():
    table, rows = PROMPTS.table(), ROWS.copy()
    join_labels(table, rows)
    assert table.equals(PROMPTS.table())
    assert rows.equals(ROWS)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("family == 'digits'", [1, 1, 1, 0, 0, 0]),
        ("family == 'digits' and is_last", [0, 0, 1, 0, 0, 0]),
        ("family == 'digits' & is_last", [0, 0, 1, 0, 0, 0]),
        ("not is_last or value > 40", [1, 1, 0, 0, 1, 1]),
        ("position >= 0", [0, 1, 1, 1, 1, 1]),
        ("member >= 0 and value in (7, 41)", [0, 1, 0, 0, 0, 1]),
        ("group == ''", [1, 1, 1, 0, 1, 1]),
        ("token_text.str.startswith(' ')", [0, 0, 0, 1, 0, 0]),
        ("family == 'nobody'", [0, 0, 0, 0, 0, 0]),
        ("is_last", [0, 0, 1, 1, 0, 1]),
    ],
)
def test_a_query_gives_the_rows_for_which_it_holds(rows, query, expected):
    mask = query_rows(rows, query)
    assert mask.tolist() == [bool(value) for value in expected]
    assert mask.dtype == bool


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20), st.integers(-3, 3), st.sampled_from(["<", "==", ">="]))
def test_a_comparison_equals_numpys(values, bound, sign):
    column = np.array(values)
    expected = {"<": column < bound, "==": column == bound, ">=": column >= bound}[sign]
    frame = pd.DataFrame({"value": column, "family": ["a"] * len(values)})
    np.testing.assert_array_equal(query_rows(frame, f"value {sign} {bound}"), expected)
    np.testing.assert_array_equal(query_rows(frame, f"not (value {sign} {bound}) and family == 'a'"), ~expected)


def test_no_rows_are_queried_to_no_rows(rows):
    assert query_rows(rows.iloc[:0], "family == 'digits'").shape == (0,)


COLUMNS = (
    "prompt, position, token, token_text, member, is_last, value, shown, "
    "family, frame, template, kind, group, answer, distractor, pair_key"
)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("famly == 'digits'", "name 'famly' is not defined"),
        ("family == ", "invalid syntax"),
        ("family = 'digits'", "it gives no true or false for each row"),
        ("family", "it gives no true or false for each row"),
        ("value", "it gives no true or false for each row"),
        ("True", "it gives no true or false for each row"),
        ("is_last.any()", "'is_last.any()' is not part of a query"),
        ("is_last.head(2)", "'is_last.head(2)' is not part of a query"),
        ("", "it is empty"),
        ("family > 3", "a text and a number have no order"),
    ],
)
def test_a_query_that_cannot_be_used_is_told_with_the_columns_there_are(rows, query, reason):
    before = rows.copy()
    with pytest.raises(InputError) as refusal:
        query_rows(rows, query)
    message = str(refusal.value)
    assert message.startswith(f"no query {query!r}: ")
    assert reason in message
    assert message.endswith(f"; columns are {COLUMNS}")
    assert "\n" not in message
    assert refusal.value.exit_code == 2
    assert rows.equals(before)


MASK = np.array([True, False, True, False, False, True])
SAID = f"a mask of 3 of 6 rows (sha256 {hashlib.sha256(bytes([1, 0, 1, 0, 0, 1])).hexdigest()[:8]})"


@pytest.mark.parametrize("make", [np.array, pd.Series, lambda m: pd.Series(m, dtype="boolean"), torch.tensor])
def test_a_mask_of_any_make_chooses_its_rows_and_is_noted_by_their_number_and_hash(rows, make):
    mask = make(MASK)
    assert row_mask(rows, mask).tolist() == MASK.tolist()
    assert where_text(mask, "is_last") == SAID
    assert json.loads(json.dumps(where_text(mask, "is_last"))) == SAID


def test_a_query_is_noted_as_it_is_and_none_as_what_it_stands_for(rows):
    assert where_text("value > 3", "is_last") == "value > 3"
    assert where_text(None, "is_last") == "is_last"
    assert row_mask(rows, "value > 8").tolist() == query_rows(rows, "value > 8").tolist()
    assert row_mask(rows, None).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK[:5], r"where must be a query or a boolean mask over 6 rows; got bool \(5,\)"),
        (pd.Series(MASK.astype(int)), r"where must be a query or a boolean mask over 6 rows; got int64 \(6,\)"),
        (pd.Series([True, None] * 3), r"where must be a query or a boolean mask over 6 rows; got object \(6,\)"),
        (
            pd.Series(MASK).sort_values(),
            "where is a Series with another index than the rows; if it is in their order, give its values",
        ),
    ],
)
def test_another_mask_is_refused(rows, mask, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        row_mask(rows, mask)
