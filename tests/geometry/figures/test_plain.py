"""Texts are drawn as they stand, in every figure of the package."""

import ast
import io
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

import geometry
from geometry.figures.plain import MOST_VECTORS, PlainFigure
from tests.figure_extents import checked, unreadable

TEXT = r"$\frac$ $x_1$"


def filled(kind):
    figure = kind(layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], label=TEXT)
    axis.set_title(TEXT)
    axis.set_xlabel(TEXT)
    axis.set_xticks([0, 1], [TEXT, "a\x1b[31m\x00b"])
    axis.annotate(TEXT, (0, 0))
    axis.table([[TEXT]], loc="bottom")
    figure.suptitle(TEXT)
    figure.legend()
    return figure


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_dollars_begin_no_formula_and_control_characters_are_escaped(suffix, tmp_path):
    figure = filled(partial(PlainFigure, "a caption"))
    figure.draw_without_rendering()
    figure.savefig(tmp_path / f"a.{suffix}", metadata={})
    if suffix == "svg":
        ElementTree.parse(tmp_path / "a.svg")
        assert (tmp_path / "a.svg").read_text().count(TEXT) >= 6
    with pytest.raises(ValueError, match=r"\\frac"):
        filled(Figure).savefig(tmp_path / f"b.{suffix}")


def test_long_labels_of_an_axis_are_cut_and_leave_room_for_it():
    figure = PlainFigure("", layout="constrained")
    axis = figure.subplots()
    axis.set_yticks([0, 1], ["a" * 300, "b" * 40])
    figure.draw_without_rendering()
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a" * 39 + "…", "b" * 40]


def test_a_figure_cannot_be_without_its_caption():
    with pytest.raises(TypeError, match="caption"):
        PlainFigure(figsize=(2, 2))
    assert PlainFigure("what is drawn", figsize=(2, 2)).caption == "what is drawn"


@pytest.mark.parametrize("columns", [1, 3])
def test_titles_take_the_lines_that_they_need(columns):
    figure = PlainFigure("", figsize=(2 * columns, 4), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axis in panels:
        axis.set_title("a title that is wider than its panel")
    figure.suptitle(f"{'b' * 300} and more words than a figure so narrow has room for in a line")
    figure.draw_without_rendering()
    FigureCanvasAgg(figure).draw()
    assert unreadable(figure) == []
    assert panels[0].get_title().split() == "a title that is wider than its panel".split()
    long, *rest = figure.get_suptitle().split()
    assert long.strip("b") == "…"
    assert rest == "and more words than a figure so narrow has room for in a line".split()


def test_a_title_takes_no_more_lines_than_it_needs():
    """Greedy lines of half its characters would be three."""
    figure = PlainFigure("", figsize=(4.5, 4), layout="constrained")
    figure.suptitle("resid_post: matched_cosine of matched members, across templates")
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "resid_post: matched_cosine of\nmatched members, across templates"


def test_a_title_that_has_room_stands_in_one_line():
    figure = PlainFigure("", layout="constrained")
    figure.suptitle("a short title of " + "c" * 50)
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "a short title of " + "c" * 50


def test_what_cannot_be_read_is_found():
    """The check of every figure that a test draws."""
    figure = PlainFigure("", figsize=(3, 2))
    left, right = figure.subplots(1, 2)
    left.set_ylabel("cut off", labelpad=60)
    left.set_title("x" * 30)
    right.set_title("y" * 30)
    FigureCanvasAgg(figure)
    Figure.draw(figure, figure.canvas.get_renderer())
    assert {"cut off", f"{'x' * 30} | {'y' * 30}"} <= set(unreadable(figure))
    with pytest.raises(AssertionError, match="over each other"):
        checked(lambda *_: None)(figure, None)


def test_numbers_of_a_logarithmic_axis_are_no_formulas():
    figure = PlainFigure("", layout="constrained")
    axis = figure.subplots()
    axis.loglog([1, 10, 1000], [1e-6, 0.01, 1])
    figure.draw_without_rendering()
    for one in (axis.xaxis, axis.yaxis):
        ticks, labels = one.get_ticklocs(), [label.get_text() for label in one.get_ticklabels()]
        assert [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels] == pytest.approx(ticks)
        assert {label.get_text() for label in one.get_ticklabels(minor=True)} == {""}
    assert "1000" in [label.get_text() for label in axis.get_xticklabels()]


def test_every_figure_is_a_plain_one():
    """Read from the source: nothing else makes a figure."""
    root = Path(geometry.__file__).parents[1]
    makers = set()
    for path in (path for package in ("cache", "geometry", "probes") for path in (root / package).rglob("*.py")):
        calls = {node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        names = {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
        assert not names & {"Figure", "figure", "subfigures"}, path
        makers |= {path} if names & {"PlainFigure", "panels"} else set()
    pictures = {*root.glob("geometry/figures/[a-z]*.py"), *root.glob("probes/*/figures.py")}
    assert {path.name for path in pictures - makers} == {"captions.py", "plain.py", "legend.py"}


def test_a_notebook_shows_the_figure_as_it_is_and_leaves_it_so():
    figure = filled(partial(PlainFigure, "a caption"))
    before = figure.canvas, figure.dpi
    shown = figure._repr_png_()
    assert (figure.canvas, figure.dpi) == before
    height, width = imread(io.BytesIO(shown), format="png").shape[:2]
    assert (width, height) == tuple(round(side * figure.dpi) for side in figure.get_size_inches())


@pytest.mark.parametrize(("n", "images"), [(MOST_VECTORS, 0), (MOST_VECTORS + 1, 1)])
def test_points_are_vectors_until_there_are_too_many(n, images, tmp_path):
    figure = PlainFigure("")
    left, right = figure.subplots(1, 2)
    left.scatter(range(n - 2), range(n - 2))
    right.scatter([0, 1], [0, 1])
    right.plot([0, 1])
    figure.savefig(tmp_path / "a.svg")
    assert ((tmp_path / "a.svg").read_text().count("<image") > 0) == bool(images)
    assert [one.get_rasterized() for axis in figure.axes for one in axis.collections] == [bool(images)] * 2
    assert not right.lines[0].get_rasterized()
