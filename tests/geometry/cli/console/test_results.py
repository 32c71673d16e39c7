"""Every result goes the same way: drawn, saved, printed, said; and nothing unfinished is left beside it."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cache import Hook
from cache.errors import NotAvailableError
from geometry.cli.console.results import Report, drawn, write_results
from geometry.cli.tables.shown import Shown
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult

FORMATS = ("svg",)
SITE = {"layer": 0, "site": "z", "hook": "blocks.0.attn.hook_z"}


def result_of(name, value):
    return LayerResult(
        name, on_sites([Hook("z", 0)], "z", {"share": (("hook",), np.array([value]))}), {"seed": 0}, "ab"
    )


@pytest.fixture
def two(tmp_path):
    drawn = []

    def draw():
        drawn.append(1)
        return {"one": Figure()}

    report = Report(
        draw, {"extra": pd.DataFrame({"x": [1]})}, [Shown(pd.DataFrame({"x": [7]}), "a title")], ["rows: all"]
    )
    results = {tmp_path / "a": (result_of("a", 0.5), report), tmp_path / "b": (result_of("b", 0.25), report)}
    return results, drawn


def test_files_tables_and_notes_are_written_printed_and_said_once(two, tmp_path, capsys):
    (tmp_path / "a" / "unfinished-0123456789abcdef").mkdir(parents=True)
    results, drawn = two
    write_results(results, formats=FORMATS, as_json=False, full=False, quiet=False)
    for name in "ab":
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert files == {"result.nc", "result.json", "table.csv", "extra.csv", "one.svg", "one.txt"}
    out, err = capsys.readouterr()
    assert out.count("title") == out.count("7") == 2
    assert err.count("rows: all") == 1
    assert all(f"{name}/table.csv" in err for name in "ab")
    assert len(drawn) == 2


def test_json_is_all_tables_as_one_and_nothing_else_on_standard_output(two, capsys):
    write_results(two[0], formats=FORMATS, as_json=True, full=False, quiet=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == [{**SITE, "share": 0.5}, {**SITE, "share": 0.25}]
    assert err == ""


def test_quiet_says_nothing(two, capsys):
    write_results(two[0], formats=FORMATS, as_json=False, full=True, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_what_was_kept_stays_where_a_result_cannot_be_written(two, tmp_path):
    kept = tmp_path / "b" / "unfinished-0123456789abcdef"
    (tmp_path / "a").write_text("a file where a folder should be")
    kept.mkdir(parents=True)
    with pytest.raises(NotAvailableError):
        write_results(two[0], formats=FORMATS, as_json=False, full=False, quiet=True)
    assert kept.exists()


def test_all_layers_are_a_further_figure_where_the_first_does_not_show_them():
    """Pictures that give what they were asked for."""
    result = result_of("a", 0.5)
    hooks = [Hook("z", layer) for layer in range(5)]
    many = LayerResult("b", on_sites(hooks, "z", {"share": (("hook",), np.zeros(5))}), {"seed": 0}, "ab")
    pictures = {"curves": lambda: "one", "panels": lambda *, layers=4: layers}
    assert drawn(many, pictures, None) == {"curves": "one", "panels": 4}
    assert drawn(many, pictures, 2) == {"curves": "one", "panels": 2}
    assert drawn(many, pictures, "0,3") == {"curves": "one", "panels": "0,3"}
    assert drawn(many, pictures, "all") == {"curves": "one", "panels": 4, "panels-all": "all"}
    assert drawn(result, pictures, "all") == {"curves": "one", "panels": 4}
