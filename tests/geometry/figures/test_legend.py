"""The legend under the panels: nothing cut off, in as few lines as there is room for."""

import pytest

from geometry.figures.legend import legend_below
from geometry.figures.plain import PlainFigure

NAMES = ["shared index", "index x family", "family", "template", "remainder", "largest shared index of unrelated codes"]


def drawn(width, names, n_panels=1):
    """A figure of that many inches, its legend, and where each name begins."""
    figure = PlainFigure("", figsize=(width, 3), layout="constrained")
    axes = figure.subplots(1, n_panels, squeeze=False).ravel()
    for number, axis in enumerate(axes):
        for name in names:
            axis.plot([0, 1], color=f"C{number}", label=name)
    legend = legend_below(figure, axes)
    figure.draw_without_rendering()
    return figure, legend, [text.get_window_extent() for text in legend.get_texts()]


@pytest.mark.parametrize("width", [3.6, 5, 8.6, 14])
def test_no_name_is_cut_off(width):
    figure, _, places = drawn(width, NAMES)
    assert len(places) == len(NAMES)
    assert all(place.x0 >= 0 and place.x1 <= figure.bbox.width for place in places)
    assert all(place.y0 >= 0 for place in places)


@pytest.mark.parametrize(("width", "lines"), [(14, 1), (8.6, 2), (3.6, 6)])
def test_names_stand_in_as_few_lines_as_there_is_room_for(width, lines):
    _, _, places = drawn(width, NAMES)
    assert len({round(place.y0) for place in places}) == lines


def test_a_name_stands_once_and_as_the_first_panel_shows_it():
    _, legend, places = drawn(8, ["one", "two"], n_panels=3)
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]
    assert [line.get_color() for line in legend.legend_handles] == ["C0", "C0"]
    assert len(places) == 2


def test_a_name_is_measured_as_it_is_drawn():
    _, legend, _ = drawn(5, ["$\\frac$_^{", "[/b]\x1b[31m"])
    assert [text.get_text() for text in legend.get_texts()] == ["$\\frac$_^{", "[/b]\\x1b[31m"]


def test_a_name_wider_than_the_figure_and_none_at_all_are_taken():
    assert len(drawn(1, ["a name that no figure of one inch has room for", "b"])[2]) == 2
    assert drawn(3, [])[2] == []
