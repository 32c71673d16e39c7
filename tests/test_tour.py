"""docs/tour.ipynb runs as it is, shows its pictures and values, warns of nothing, and was committed as it runs."""

import base64
import io

import nbformat
import pytest
from matplotlib.image import imread

from tests.tour import TOUR, cells, executed, results

SHOWN = ["model", "prompts", "store", "result", "to_word"]  # what cells end with, besides pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return executed(tmp_path_factory.mktemp("tour"))


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(TOUR, as_version=4)


def last_line(cell):
    return cell.source.splitlines()[-1]


def test_nothing_fails_and_nothing_is_warned_of(run):
    assert all(cell.execution_count for cell in cells(run))
    said = [output.text for cell in cells(run) for output in cell.outputs if output.get("name") == "stderr"]
    assert said == []


def test_a_figure_at_the_end_of_a_cell_is_a_picture(run):
    drawn = [cell for cell in cells(run) if last_line(cell).endswith(".plot()")]
    assert len(drawn) == 2
    for cell in drawn:
        (output,) = results(cell)
        picture = imread(io.BytesIO(base64.b64decode(output.data["image/png"])), format="png")
        assert picture[..., :3].std() > 0.05  # and not a white page


def test_a_value_at_the_end_of_a_cell_is_shown_in_short(run):
    shown = {last_line(cell): results(cell)[-1].data["text/html"] for cell in cells(run) if last_line(cell) in SHOWN}
    assert list(shown) == SHOWN
    assert all("next: <code>" in html and len(html) < 4000 for html in shown.values())


def test_what_is_committed_is_what_comes(run, committed):
    for here, there in zip(cells(run), cells(committed), strict=True):
        assert [sorted(one.get("data", ())) for one in results(here)] == [
            sorted(one.get("data", ())) for one in there.outputs
        ], here.source
        said, written = ([one.get("text") for one in results(cell)] for cell in (here, there))
        assert said == written, here.source


def test_what_is_committed_is_small_and_of_no_machine():
    text = TOUR.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert not [word for word in ("/tmp/", "/home/", "/root/", "site-packages", "Warning") if word in text]
