"""The result of an analysis: named axes with labels, a table of them, and files that read back equal."""

import json
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from cache import Hook
from cache.errors import CorruptFileError, GeometryError, InputError, NotAvailableError
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from tests.views import arrays_of

EMBED = Hook("resid_pre", 0)
RESID = tuple(Hook("resid_post", layer) for layer in range(3))


def small_result(labels=None, **changes) -> LayerResult:
    """Two sites by hand, with labels that CSV files have to quote."""
    rows = pd.DataFrame({"prompt": [0, 0, 1], "token_text": ['"', ":\n", "NA"], "is_last": [False, True, True]})
    arrays = {
        "share": (("hook", "component"), np.array([[1 / 3, 0.1], [0.25, np.nan]])),
        "scores": (("hook", "row", "component"), np.arange(12, dtype=np.float32).reshape(2, 3, 2)),
        "count": (("hook",), np.array([5, 7])),
    }
    given = {
        "name": "small",
        "dataset": on_sites((EMBED, RESID[0]), "resid_post", changes.pop("arrays", arrays), {"n_members": 3}, labels),
        "parameters": {"where": None, "seed": 3, "site": "resid_post"},
        "source": "ab" * 32,
        "rows": rows,
        "lines": ("hook", "component"),
    }
    return LayerResult(**{**given, **changes})


def test_an_array_is_found_by_name_and_an_unknown_name_lists_them():
    assert small_result().values("count").tolist() == [5, 7]
    with pytest.raises(InputError, match=r"small has no 'shares'; it has share, scores, count, n_members$"):
        small_result().values("shares")


def test_saved_arrays_read_back_equal_without_pickle(tmp_path):
    result = small_result()
    paths = result.save(tmp_path / "deep" / "er")
    assert [path.name for path in paths] == ["result.nc", "result.json", "table.csv", "rows.csv"]
    assert {path.parent for path in paths} == {tmp_path / "deep" / "er"}
    for place in (paths[0], tmp_path / "deep" / "er"):
        loaded = LayerResult.load(place)
        assert loaded.dataset.equals(result.dataset)
        assert (loaded.name, loaded.hooks, loaded.source) == (result.name, result.hooks, result.source)
        assert dict(loaded.parameters) == dict(result.parameters)
        for name, (axes, values) in arrays_of(result).items():
            assert arrays_of(loaded)[name][0] == axes
            assert loaded.values(name).dtype == values.dtype
        pd.testing.assert_frame_equal(loaded.table, result.table)
        pd.testing.assert_frame_equal(loaded.rows, result.rows)


def test_the_same_result_is_the_same_bytes(tmp_path):
    first, again = (small_result().save(tmp_path / name)[0].read_bytes() for name in "ab")
    assert first == again


def test_axes_have_their_labels_as_coordinates():
    labels = {"component": ["first", "second"], "unused": [1], "row": pd.DataFrame({"token": ["a", "b", "a"]})}
    result = small_result(labels=labels)
    assert result.dataset["share"].sel(component="second").to_numpy()[0] == 0.1
    assert result.dataset["scores"].sel(hook="blocks.0.hook_resid_post").shape == (3, 2)
    assert result.dataset["layer"].to_numpy().tolist() == [-1, 0]
    assert result.dataset["token"].dims == ("row",)
    assert "unused" not in result.dataset.coords


def test_the_table_has_a_line_for_each_cell_of_its_axes():
    table = small_result(labels={"component": ["first", "second"]}).table
    assert list(table) == ["layer", "site", "hook", "component", "share", "count", "n_members"]
    assert table["layer"].tolist() == [-1, -1, 0, 0]
    assert set(table["site"]) == {"resid_post"}
    assert table["component"].tolist() == ["first", "second"] * 2
    assert table["count"].tolist() == [5, 5, 7, 7]
    np.testing.assert_array_equal(table["share"], [1 / 3, 0.1, 0.25, np.nan])
    assert small_result().table["component"].tolist() == [0, 1, 0, 1]
    assert small_result(lines=("hook",)).table.columns.tolist() == ["layer", "site", "hook", "count", "n_members"]


def test_a_notebook_shows_the_table_and_what_to_do_next():
    shown = small_result(name="<small>")._repr_html_()
    assert "<b>&lt;small&gt; of resid_post, 2 sites</b>" in shown
    assert "<td>0.333</td>" in shown
    assert repr(small_result()) == "<LayerResult small of resid_post, 2 sites>"
    assert "next: <code>result.table</code> · <code>result.save(&quot;folder&quot;)</code>" in shown


def test_a_result_without_pictures_says_so():
    assert small_result().pictures() == {}
    with pytest.raises(InputError, match=r"^small has no picture; it has none$"):
        small_result().plot()


@pytest.mark.parametrize("content", [b"", b"no netCDF", "an array in another file", "another netCDF"])
def test_what_is_no_result_is_told_and_read_from_no_other_file(tmp_path, content):
    path = tmp_path / "result.nc"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "another netCDF":
        path.write_bytes(bytes(small_result().dataset.to_netcdf(engine="h5netcdf")))
    else:
        small_result().save(tmp_path)
        with h5py.File(path, "r+") as file:
            file["elsewhere"] = h5py.ExternalLink("/etc/other.h5", "/x")
    with pytest.raises(CorruptFileError, match=r"result\.nc (cannot be read|is no result|holds a link)"):
        LayerResult.load(tmp_path)


def test_a_table_reads_back_equal_with_labels_of_every_kind(tmp_path):
    labels = {"component": pd.DataFrame({"word": ["b", "a"], "size": [0.5, 2.0]})}
    result = small_result(labels=labels)
    result.save(tmp_path)
    pd.testing.assert_frame_equal(LayerResult.load(tmp_path).table, result.table)
    assert list(result.table)[:5] == ["layer", "site", "hook", "word", "size"]


def test_a_result_whose_table_goes_along_no_axis_of_its_own_is_damaged(tmp_path):
    small_result().save(tmp_path)
    with h5py.File(tmp_path / "result.nc", "r+") as file:
        described = str(file.attrs["described"])
        assert '"component"\n  ]' in described
        file.attrs["described"] = described.replace(
            '"lines": [\n    "hook",\n    "component"', '"lines": [\n    "nowhere"'
        )
    with pytest.raises(CorruptFileError, match=r"result\.nc is no result of an analysis, or is damaged"):
        LayerResult.load(tmp_path)


def test_a_folder_without_a_result_is_told(tmp_path):
    with pytest.raises(NotAvailableError, match=r"result\.nc is not there; give a folder that an analysis has written"):
        LayerResult.load(tmp_path)


def test_saved_json_says_what_the_arrays_are_and_where_they_come_from(tmp_path):
    small_result().save(tmp_path)
    described = json.loads((tmp_path / "result.json").read_text())
    assert set(described.pop("versions")) == {
        "representation-geometry",
        "numpy",
        "scipy",
        "scikit-learn",
        "torch",
        "pandas",
        "umap-learn",
    }
    assert described == {
        "name": "small",
        "hooks": ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"],
        "axes": {
            "share": ["hook", "component"],
            "scores": ["hook", "row", "component"],
            "count": ["hook"],
            "n_members": [],
        },
        "labels": ["layer", "site", "hook"],
        "lines": ["hook", "component"],
        "parameters": {"where": None, "seed": 3, "site": "resid_post"},
        "source": "ab" * 32,
    }


def test_saved_tables_read_back_equal(tmp_path):
    result = small_result()
    result.save(tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), result.table, rtol=1e-5)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rows.csv", keep_default_na=False), result.rows)


def test_an_object_array_is_refused_rather_than_pickled(tmp_path):
    pickled = {"things": (("hook",), np.array([{}, {}], dtype=object))}
    with pytest.raises(ValueError, match="cannot serialize arbitrary Python objects"):
        small_result(arrays=pickled, lines=("hook",)).save(tmp_path)


def test_saving_again_a_year_later_gives_the_same_bytes(tmp_path, monkeypatch):
    first = {path.name: path.read_bytes() for path in small_result().save(tmp_path / "a")}
    now, local = time.time(), time.localtime
    monkeypatch.setattr(time, "time", lambda: now + 366 * 86400)
    monkeypatch.setattr(time, "localtime", lambda *_: local(now + 366 * 86400))
    assert {path.name: path.read_bytes() for path in small_result().save(tmp_path / "b")} == first


def test_a_result_without_rows_is_saved_as_well(tmp_path):
    arrays = {"count": arrays_of(small_result())["count"]}
    result = small_result(rows=pd.DataFrame(), arrays=arrays, lines=("hook",))
    assert all(Path(path).is_file() for path in result.save(tmp_path))


def test_a_file_where_the_folder_should_be_is_told(tmp_path):
    (tmp_path / "report").write_text("something of mine")
    with pytest.raises(GeometryError, match="report"):
        small_result().save(tmp_path / "report")
