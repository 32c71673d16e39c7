"""Panels: which layers have one, and how layers, values and what is between or beyond them are drawn there."""

import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from cache.errors import InputError
from geometry.figures.panels import (
    MOST_SHOWN,
    PALETTE,
    band,
    colour_bar,
    colours,
    curve,
    layer_ticks,
    limits,
    panels,
    shown_layers,
    spans_decades,
)

WHOLE = range(-1, 30)


@pytest.mark.parametrize("there", [range(1), range(-1, 2), range(MOST_SHOWN), WHOLE, [0, 5, 6, 7, 20, 21, 22, 23, 40]])
@pytest.mark.parametrize("n", [1, 2, 3, MOST_SHOWN, 100])
def test_so_many_are_spread_over_all_with_the_first_and_the_last(there, n):
    shown = shown_layers(there, n)
    assert len(shown) == len(set(shown)) == min(n, len(there))
    assert shown == sorted(shown)
    assert shown[0] == 0
    assert n == 1 or shown[-1] == len(there) - 1
    steps = [after - before for before, after in pairwise(shown)]
    assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize(
    ("layers", "shown"),
    [("all", [*range(31)]), ("0", [0, 1]), ("3,5-6", [4, 6, 7]), ("-1", [30]), ([7, 2], [3, 8]), ((29,), [30])],
)
def test_named_layers_are_shown_and_the_embedding_goes_with_layer_0(layers, shown):
    assert shown_layers(WHOLE, layers) == shown


def test_of_layers_that_are_named_those_analysed_are_shown():
    assert shown_layers([4, 8, 20], "0-8") == [0, 1]


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (0, "a number from 1, a list such as 0,4-7,-1, or all; got 0"),
        (True, "a number from 1"),
        ("5", "layers analysed are 4, 8; got 5 to show"),
        ("9", "layers 0 to 8; got '9'"),
        ("few", "a list such as 0,4-7,-1; got 'few'"),
    ],
)
def test_what_names_no_layer_is_told(layers, told):
    with pytest.raises(InputError, match=told):
        shown_layers([4, 8], layers)


NAN = math.nan


@pytest.fixture
def axis():
    return Figure().subplots()


def test_a_value_without_another_beside_it_is_a_line_of_half_a_layer(axis):
    curve(axis, [0, 1, 2, 3, 4], [0.5, NAN, 0.1, 0.2, NAN], color="red", linestyle="--", label="one")
    whole, alone = axis.get_lines()
    np.testing.assert_array_equal(whole.get_ydata(), [0.5, NAN, 0.1, 0.2, NAN])
    assert (alone.get_xdata().tolist(), alone.get_ydata().tolist()) == ([-0.25, 0.25], [0.5, 0.5])
    assert (alone.get_color(), alone.get_linestyle()) == ("red", "--")
    assert axis.get_legend_handles_labels()[1] == ["one"]


def test_a_single_layer_is_seen_in_the_middle(axis):
    curve(axis, [7], [0.5])
    band(axis, [7], [0.1], [0.2])
    layer_ticks(axis, [7])
    assert axis.get_xlim() == (6, 8)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["7"]
    assert axis.get_lines()[1].get_ydata().tolist() == [0.5, 0.5]
    corners = axis.collections[1].get_paths()[0].vertices
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([6.75, 0.1], [7.25, 0.2])


def test_a_curve_with_marks_needs_no_more(axis):
    curve(axis, [0, 1, 2], [0.5, NAN, 0.1], marker="o")
    assert len(axis.get_lines()) == 1


def test_values_outside_are_triangles_at_the_edge_in_the_colour_of_their_curve(axis):
    curve(axis, [0, 1, 2, 3], [-7.0, 0.5, NAN, 9.0], within=(-1, 1.5), color="red", marker="o")
    line, below, above = axis.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [-1, 0.5, NAN, 1.5])
    drawn = [(one.get_marker(), one.get_xdata().tolist(), one.get_ydata().tolist()) for one in (below, above)]
    assert drawn == [("v", [0], [-1.0]), ("^", [3], [1.5])]
    assert {one.get_color() for one in (line, below, above)} == {"red"}


def test_a_band_ends_where_the_axis_does(axis):
    band(axis, [0, 1, 2], [-7.0, 0.1, 0.2], [0.3, 9.0, 0.4], within=(-1, 1.5))
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (-1, 1.5)


def test_limits_are_those_of_all_values_but_neither_narrower_nor_wider_than_asked():
    assert limits([0.2, NAN], np.array([[0.9]]), least=(0.0, 1.0)) == (0.0, 1.0)
    assert limits([-0.4, 1.2], least=(0.0, 1.0), within=(-1, 1.5)) == (-0.4, 1.2)
    assert limits([-40, 12], least=(0.0, 1.0), within=(-1, 1.5)) == (-1.0, 1.5)


@pytest.mark.parametrize(
    ("values", "wide"),
    [
        ([1.0, 0.5, 0.02], False),
        ([1.0, 0.5, 0.001], False),  # one small value among three is less than a tenth of them at .01
        ([1.0, 0.004, 0.003, 0.001], True),
        ([1.0, 0.0, 0.0, 0.0], True),
        ([1.0, -0.001, 0.001], False),
        ([0.0, 0.0], False),
        ([NAN, NAN], False),
        ([], False),
    ],
)
def test_decades_are_spanned_where_a_tenth_of_the_values_would_be_seen_as_nothing(values, wide):
    assert spans_decades(values) is wide


@pytest.mark.parametrize("n", [0, 1, 8, 9, 40])
def test_there_are_as_many_different_colours_as_asked_for(n):
    found = colours(n)
    assert len(set(found)) == len(found) == n
    assert n > 8 or found == list(PALETTE[:n])
    assert not [one for one in found if len({one[1:3], one[3:5], one[5:7]}) == 1]  # greys and black are references


@pytest.mark.parametrize(
    ("layers", "most", "names"),
    [
        ([-1, 0, 1, 2], 16, ["embed", "0", "1", "2"]),
        ([0, 1, 2], 16, ["0", "1", "2"]),
        ([7, 14, 21], 8, ["7", "14", "21"]),
        ([-1], 4, ["embed"]),
        (range(-1, 30), 4, ["embed", "8", "16", "24"]),
        (range(12), 16, [str(layer) for layer in range(12)]),
        (range(0, 60, 3), 8, ["0", "9", "18", "27", "36", "45", "54"]),
    ],
)
def test_ticks_are_even_and_begin_with_the_first_layer(axis, layers, most, names):
    layer_ticks(axis, list(layers), most=most)
    assert [label.get_text() for label in axis.get_xticklabels()] == names


@pytest.mark.parametrize("values", [[NAN] * 3, [NAN, NAN, 0.5], [NAN, 0.5, 0.4], [0.1, 0.5, 0.4]])
def test_all_layers_are_within_the_axis_whatever_has_a_value(axis, values):
    curve(axis, [6, 14, 22], values)
    axis.axhline(0)
    layer_ticks(axis, [6, 14, 22])
    assert axis.get_xlim() == pytest.approx((5.2, 22.8), abs=0.3)


@pytest.mark.parametrize(
    ("n", "most", "lines"), [(1, 3, 1), (3, 3, 1), (4, 3, 2), (5, 4, 2), (7, 6, 2), (10, 3, 4), (31, 6, 6)]
)
def test_panels_stand_in_as_few_lines_as_there_is_room_for_and_evenly(n, most, lines):
    figure, axes = panels(n, "", most_columns=most, each=(2, 2), beside=(0, 0))
    rows, columns = axes[0].get_subplotspec().get_gridspec().get_geometry()
    assert (rows, len(axes)) == (lines, rows * columns)
    assert len(axes) - n < rows  # not so many are empty that there could be fewer columns
    assert figure.get_size_inches().tolist() == [2 * columns, 2 * rows]
    assert [axis.axison for axis in axes] == [True] * n + [False] * (len(axes) - n)


@pytest.mark.parametrize("height", [3, 40])
def test_a_colour_bar_is_as_thick_in_a_long_figure_as_in_a_short_one(height):
    figure = Figure(figsize=(6, height), layout="constrained")
    axis = figure.subplots()
    colour_bar(figure, axis.imshow([[0, 1]], aspect="auto"), [axis], "share")
    figure.draw_without_rendering()
    bar = figure.axes[1]
    assert bar.get_ylabel() == "share"
    assert 0.1 < bar.get_position().width * 6 < 0.25
