"""The summary of a comparison: one line a pair, from the table and nothing else."""

import numpy as np
import pandas as pd
import pytest

from geometry.between_summary import summary
from tests.geometry import comparisons

NAN = float("nan")


def line_of(values, **choices):
    return summary(comparisons.result({"digits - months": values}, **choices)).iloc[0]


def test_the_layer_of_the_highest_value_is_shown_with_its_company():
    line = line_of([NAN, 0.3, 0.9, 0.6])
    assert (line["a"], line["b"], line["layer"], line["value"]) == ("digits", "months", 1, 0.9)
    assert line["readout_removed"] == pytest.approx(0.81)
    assert line["control_max"] == pytest.approx(0.1)
    assert (line["n_members"], line["n_templates"], line["verdict"]) == (8, 10, "shared")


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ([NAN, 0.05, 0.9, 0.6], 1),
        ([NAN, 0.9, 0.05, 0.6], 2),
        ([NAN, 0.9, 0.9, 0.05], NAN),
        ([0.5, 0.9, 0.9, 0.9], -1),
    ],
)
def test_shared_from_is_the_first_layer_from_which_on_all_are_shared(values, first):
    np.testing.assert_equal(line_of(values)["shared_from"], first)


def test_where_nothing_is_shared_the_word_is_that_of_the_evidence():
    assert line_of([NAN, 0.01, 0.02, 0.0])["verdict"] == "private"
    assert line_of([NAN, NAN, NAN, NAN])["verdict"] == "no index effect"
    assert line_of([NAN, 0.6, 0.7, 0.8], n_members=4)["verdict"] == "undecided (n members = 4)"
    assert line_of([NAN, 0.6, 0.7, 0.8], n_controls=3)["verdict"] == "undecided (n controls = 3)"


def test_without_a_readout_variant_the_column_is_empty():
    assert np.isnan(line_of([NAN, 0.3, 0.9, 0.6], readout=False)["readout_removed"])


def test_pairs_stand_in_their_order_and_q_is_over_pairs():
    table = summary(comparisons.result({"a - b": [0.0, 0.1, 0.9, 0.9], "a - c": [0.0, 0.1, 0.1, 0.1]}))
    assert table[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"]]
    assert table["q"][0] == pytest.approx(2 * table["p_layers"][0])


def test_measures_that_only_describe_give_no_line():
    assert summary(comparisons.result({"a - b": [0.1, 0.2, 0.3, 0.4]}, measure="cka")).empty
    assert isinstance(summary(comparisons.result({"a - b": [0.1] * 4})), pd.DataFrame)
