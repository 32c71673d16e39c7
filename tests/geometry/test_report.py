"""Reports: what is written, that it can be read, and that writing it again gives the same bytes."""

import errno
import os
import time
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cache import Hook, plan_recording
from cache.errors import InputError, NoSpaceError
from geometry.figures.plain import PlainFigure
from geometry.figures.scatter import scatter_by_layer
from geometry.figures.spectra import explained_variance_by_layer
from geometry.layers.principal import pca_by_layer
from geometry.report import write_report
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from tests.recordings import recorded

FORMATS = ("png", "svg", "pdf")
RESULT_FILES = ["result.nc", "result.json", "table.csv"]


def result_of(values, source="ab" * 32) -> LayerResult:
    dataset = on_sites([Hook("z", 0)], "z", {"share": (("hook", "component"), np.array([values]))})
    return LayerResult("small", dataset, {"seed": 0}, source, lines=("hook", "component"))


def figure_of(values) -> Figure:
    """A line, points and clipped paths, for which SVG needs ids."""
    figure = Figure(figsize=(2, 2))
    axis = figure.subplots()
    axis.plot(values, label="a line")
    axis.scatter(range(len(values)), values, alpha=0.5)
    axis.set_title("shares & <signs>")
    axis.legend()
    return figure


@pytest.fixture
def settings():
    """What gives matplotlib's global settings, which begin as the defaults whatever other tests did."""
    with mpl.rc_context():
        mpl.rcdefaults()
        # reading the backend chooses one, and imports pyplot for it
        yield lambda: {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def contents(paths):
    return {path.name: path.read_bytes() for path in paths}


def test_the_result_comes_first_and_each_figure_as_png_and_svg(tmp_path):
    figures = {"one": figure_of([1, 2]), "two": figure_of([2, 1])}
    paths = write_report(result_of([0.5, 0.25]), figures, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        *RESULT_FILES,
        "one.png",
        "one.svg",
        "one.txt",
        "two.png",
        "two.svg",
        "two.txt",
    ]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert pd.read_csv(paths[2])["share"].tolist() == [0.5, 0.25]


def test_further_tables_stand_between_the_result_and_the_figures(tmp_path):
    tables = {"more": pd.DataFrame({"x": [1.5, 2]})}
    paths = write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path, tables)
    assert [path.name for path in paths] == [*RESULT_FILES, "more.csv", "one.png", "one.svg", "one.txt"]
    assert (tmp_path / "more.csv").read_text() == "x\n1.5\n2\n"


def test_pictures_are_those_that_matplotlib_saves(tmp_path):
    figure = figure_of([1, 3, 2])
    figure.set_layout_engine("constrained")
    write_report(result_of([0.5]), {"one": figure}, tmp_path, formats=FORMATS)
    assert figure.dpi == 100
    undated = {"png": {"Software": None}, "svg": {"Date": None}}
    undated["pdf"] = {"CreationDate": None, "Creator": None, "Producer": None}
    with mpl.rc_context({"svg.hashsalt": "ab" * 32, "svg.fonttype": "none", "pdf.fonttype": 42}):
        for name in FORMATS:
            dpi = 110 if name == "png" else 220  # of what is an image in a vector format
            figure.savefig(tmp_path / f"two.{name}", dpi=dpi, metadata=undated[name])
            figure.set_layout_engine("none")  # all have the layout of the PNG
            assert (tmp_path / f"two.{name}").read_bytes() == (tmp_path / f"one.{name}").read_bytes()


def test_the_formats_asked_for_are_written_in_their_order(tmp_path):
    paths = write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path, formats=["pdf", "png"])
    assert [path.name for path in paths] == [*RESULT_FILES, "one.pdf", "one.png", "one.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {*RESULT_FILES, "one.pdf", "one.png", "one.txt"}


@pytest.mark.parametrize("formats", [["svg"], ["pdf"]])
def test_a_format_by_itself_has_the_same_bytes_as_beside_others(tmp_path, formats):
    def drawn(folder, formats):
        figure = figure_of([1, 3, 2])
        figure.set_layout_engine("constrained")
        return contents(write_report(result_of([0.5]), {"one": figure}, tmp_path / folder, formats=formats))

    name = f"one.{formats[0]}"
    assert drawn("alone", formats)[name] == drawn("all", FORMATS)[name]


@pytest.mark.parametrize(("formats", "named"), [([], "none"), ("gif", "gif"), (["png", "eps"], "png, eps")])
def test_formats_that_cannot_be_written_are_refused_before_anything_is(tmp_path, formats, named):
    with pytest.raises(InputError, match=f"^figures are written as png, svg, pdf; got {named}$"):
        write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "new", formats=formats)
    assert not (tmp_path / "new").exists()


def test_a_pdf_carries_its_fonts_and_no_date(tmp_path):
    write_report(result_of([1.0]), {"one": figure_of([1, 2])}, tmp_path, formats=["pdf"])
    content = (tmp_path / "one.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content  # a TrueType font
    assert b"/Type3" not in content
    assert b"Date" not in content


def test_the_caption_lies_beside_its_figure_with_all_that_it_rests_on(tmp_path):
    figures = {"ours": PlainFigure("Two shares.\x1b"), "theirs": figure_of([1, 2])}
    write_report(result_of([0.5]), figures, tmp_path, formats=["svg"], command="geometry small a.h5")
    said = (tmp_path / "ours.txt").read_text().split("\n")
    assert said[:3] == ["Two shares.\\x1b", "", "Parameters: seed 0"]
    assert said[3:5] == [f"Store: fingerprint {'ab' * 32}", "Command: geometry small a.h5"]
    assert said[5].startswith("Made with: representation-geometry ")
    assert (tmp_path / "theirs.txt").read_text().split("\n") == said[2:]
    write_report(result_of([0.5]), {"ours": PlainFigure("")}, tmp_path, formats=["svg"])
    assert "Command" not in (tmp_path / "ours.txt").read_text()


def test_without_figures_there_is_the_result(tmp_path):
    assert [path.name for path in write_report(result_of([1.0]), {}, str(tmp_path))] == RESULT_FILES


def test_pngs_are_pngs_and_svgs_hold_their_text_as_text(tmp_path):
    write_report(result_of([1.0]), {"one": figure_of([1, 2])}, tmp_path)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    tree = ElementTree.parse(tmp_path / "one.svg")
    assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    words = {"".join(element.itertext()).strip() for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"shares & <signs>", "a line"} <= words


def test_written_again_a_year_later_every_file_has_the_same_bytes(tmp_path, monkeypatch):
    first = contents(write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "a", formats=FORMATS))
    now, local = time.time(), time.localtime
    monkeypatch.setattr(time, "time", lambda: now + 366 * 86400)
    monkeypatch.setattr(time, "localtime", lambda *_: local(now + 366 * 86400))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert (
        contents(write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "b", formats=FORMATS)) == first
    )
    assert b"<dc:date>" not in first["one.svg"]


def test_other_numbers_give_other_bytes(tmp_path):
    first = contents(write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "a"))
    other = contents(write_report(result_of([0.6]), {"one": figure_of([1, 3])}, tmp_path / "b"))
    assert {name for name in first if first[name] != other[name]} == {"result.nc", "table.csv", "one.png", "one.svg"}


def test_a_report_is_written_over_an_older_one(tmp_path):
    write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "a")
    again = contents(write_report(result_of([0.6]), {"one": figure_of([1, 3])}, tmp_path / "a"))
    assert again == contents(write_report(result_of([0.6]), {"one": figure_of([1, 3])}, tmp_path / "b"))


def test_no_global_setting_is_left_changed_even_when_a_figure_cannot_be_saved(tmp_path, settings):
    before = settings()
    write_report(result_of([1.0]), {"one": figure_of([1, 2])}, tmp_path)
    assert settings() == before
    (tmp_path / "two.png").mkdir()
    with pytest.raises(InputError, match=r"two\.png' is a folder"):
        write_report(result_of([1.0]), {"two": figure_of([1, 2])}, tmp_path)
    assert settings() == before


def test_what_cannot_be_written_leaves_the_earlier_report_as_it_was(tmp_path, monkeypatch):
    first = contents(write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(NoSpaceError, match=r"no room to write '.*result\.nc' \(No space left on device\)"):
        write_report(result_of([0.6]), {"one": figure_of([1, 3])}, tmp_path)
    assert contents(sorted(tmp_path.iterdir())) == dict(sorted(first.items()))


def test_an_analysis_drawn_and_written_twice_gives_the_same_bytes(gpt2, prompts, tmp_path):
    plan = plan_recording(gpt2, prompts.subset(range(0, 105, 5)), sites="mlp", layers="1", positions="members")
    written = []
    with recorded(gpt2, plan, tmp_path / "a.h5") as store:
        for folder in ("a", "b"):
            result = pca_by_layer(store.view("mlp_out"), k=2)
            figures = {"scatter": scatter_by_layer(result), "variance": explained_variance_by_layer(result)}
            written.append(contents(write_report(result, figures, tmp_path / folder)))
    assert len(written[0]) == 10
    assert written[0] == written[1]
