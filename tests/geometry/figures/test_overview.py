"""An overview of many families: a panel a pair, where a reader looks for it."""

from itertools import combinations

import numpy as np
import pytest

from geometry.figures.overview import families_overview
from tests.geometry import comparisons

FAMILIES = ("digits", "numwords", "months", "days", "letters", "roman", "ordinals", "tens")
PAIRS = {f"{a} - {b}": [0.1, 0.01 * i, 0.9, 0.6] for i, (a, b) in enumerate(combinations(FAMILIES, 2))}


def at(figure):
    """Panels by the names of their line and column, which only the outer ones carry."""
    panels = {
        (axis.get_subplotspec().rowspan.start, axis.get_subplotspec().colspan.start): axis for axis in figure.axes
    }
    lines = {line: axis.get_ylabel() for (line, _), axis in panels.items() if axis.get_ylabel()}
    columns = {column: axis.get_title() for (_, column), axis in panels.items() if axis.get_title()}
    return {(lines[line], columns[column]): axis for (line, column), axis in panels.items()}


@pytest.fixture(scope="module")
def eight():
    return families_overview(comparisons.result(PAIRS))


def test_each_pair_of_eight_families_has_its_panel_and_there_is_no_other(eight):
    assert len(eight.axes) == 28
    assert {frozenset(pair) for pair in at(eight)} == {frozenset(pair.split(" - ")) for pair in PAIRS}


def test_a_panel_shows_the_value_of_its_own_pair(eight):
    for (line, column), axis in at(eight).items():
        (value,) = [one for one in axis.get_lines() if one.get_label() == "value"]
        np.testing.assert_allclose(value.get_ydata(), PAIRS[f"{column} - {line}"])
        assert [text.get_text() for text in axis.texts] == ["n 8"]
        assert [one.get_label() for one in axis.collections] == ["controls"]


def test_all_have_the_same_axes_and_only_the_outer_ones_numbers(eight):
    assert len({axis.get_ylim() for axis in eight.axes}) == len({axis.get_xlim() for axis in eight.axes}) == 1
    eight.draw_without_rendering()
    labels = {axis: [label for label in axis.get_yticklabels() if label.get_visible()] for axis in eight.axes}
    numbered = [axis for axis, shown in labels.items() if any(label.get_text() for label in shown)]
    assert {axis.get_ylabel() for axis in numbered} == set(FAMILIES[1:])
    assert [text.get_text() for text in eight.legends[0].get_texts()] == ["controls", "value", "readout removed"]


def test_eight_families_fit_a_page(eight):
    width, height = eight.get_size_inches()
    assert width < 14
    assert height < 12


def test_pairs_without_all_others_are_named_too():
    figure = families_overview(comparisons.result({"a - b": [0.1] * 4, "c - d": [0.2] * 4}, readout=False))
    assert set(at(figure)) == {("b", "a"), ("d", "c")}
    assert "permuted members" in figure.caption


def test_nothing_is_cut_off_below():
    figure = families_overview(comparisons.result({**PAIRS, "digits - tens": [0.1, -0.9, 0.2, 0.3]}))
    assert figure.axes[0].get_ylim()[0] < -0.9
