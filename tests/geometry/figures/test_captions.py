"""Captions count what is there, and call it what it is."""

import pandas as pd
import pytest

from geometry.figures.captions import at_layers, counted, outside, sentences


def test_counts_are_those_of_all_lines_the_least_and_the_most_where_they_differ():
    table = pd.DataFrame({"n_rows": [1076, 1076], "n_members": [5, 9], "n_controls": [0, 20], "value": [1, 2]})
    assert counted(table) == "1,076 rows, 5 to 9 members, 0 to 20 control families"
    assert counted(table.iloc[1:], rows="prompt", controls="other") == "1,076 prompts, 9 members, 20 others"
    assert counted(table[["value"]]) == ""
    one = pd.DataFrame({"n_rows": [1], "n_members": [1], "n_templates": [1], "n_controls": [1]})
    assert counted(one) == "1 row, 1 member, 1 template, 1 control family"


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([-1], "the embedding"),
        ([3], "layer 3"),
        ([4, 3, 3], "layers 3-4"),
        ([5, 12], "layers 5, 12"),
        ([-1, *range(30)], "the embedding and layers 0-29"),
    ],
)
def test_layers_in_words(layers, words):
    assert at_layers(layers) == words
    assert at_layers(iter(layers)) == words


def test_sentences_that_say_nothing_leave_no_gap():
    assert sentences("One.", "", "Two.") == "One. Two."


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5, float("nan")], ""),
        ([-7, 0.5], "Triangles: values below -1, drawn there."),
        ([-7, 2], "Triangles: values below -1 or above 1.5, drawn there."),
    ],
)
def test_values_beyond_an_axis_are_said_to_be(values, said):
    assert outside(values, (-1, 1.5)) == said
