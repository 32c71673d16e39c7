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
from geometry.figures.scatter import explained_variance_by_layer, scatter_by_layer
from geometry.layers.principal import pca_by_layer
from geometry.report import write_report
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from tests.recordings import recorded

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
    assert [path.name for path in paths] == [*RESULT_FILES, "one.png", "one.svg", "two.png", "two.svg"]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert pd.read_csv(paths[2])["share"].tolist() == [0.5, 0.25]


def test_further_tables_stand_between_the_result_and_the_figures(tmp_path):
    tables = {"more": pd.DataFrame({"x": [1.5, 2]})}
    paths = write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path, tables)
    assert [path.name for path in paths] == [*RESULT_FILES, "more.csv", "one.png", "one.svg"]
    assert (tmp_path / "more.csv").read_text() == "x\n1.5\n2\n"


def test_pictures_are_those_that_matplotlib_saves(tmp_path):
    figure = figure_of([1, 3, 2])
    figure.set_layout_engine("constrained")
    write_report(result_of([0.5]), {"one": figure}, tmp_path)
    assert figure.dpi == 100
    with mpl.rc_context({"svg.hashsalt": "ab" * 32, "svg.fonttype": "none"}):
        figure.savefig(tmp_path / "two.png", dpi=110, metadata={"Software": None})
        figure.set_layout_engine("none")  # the SVG has the layout of the PNG
        figure.savefig(tmp_path / "two.svg", dpi=110, metadata={"Date": None})
    assert (tmp_path / "two.png").read_bytes() == (tmp_path / "one.png").read_bytes()
    assert (tmp_path / "two.svg").read_bytes() == (tmp_path / "one.svg").read_bytes()


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
    first = contents(write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "a"))
    now, local = time.time(), time.localtime
    monkeypatch.setattr(time, "time", lambda: now + 366 * 86400)
    monkeypatch.setattr(time, "localtime", lambda *_: local(now + 366 * 86400))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert contents(write_report(result_of([0.5]), {"one": figure_of([1, 2])}, tmp_path / "b")) == first
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
    assert len(written[0]) == 8
    assert written[0] == written[1]
