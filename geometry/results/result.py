"""The result of one analysis over many sites: values under named axes, what they depend on, and files of it."""

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import Hook
from cache.errors import CorruptFileError, InputError, NotAvailableError
from cache.models.hooks import as_hook
from cache.sealed.opening import check_self_contained
from cache.store.view import View, check_view
from cache.whole_files import write_whole
from geometry.results.described import json_text, versions

Array = tuple[tuple[str, ...], Shaped[np.ndarray, "..."]]
Named = Mapping[str, Array]
Labels = Mapping[str, Sequence[Any] | pd.DataFrame]

Reading = Callable[[Float[Tensor, "row d"]], Named]

FILE = "result.nc"
PER_COMPONENT = ("hook", "component")


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Values of one analysis at several sites, under named axes.

    Attributes:
        name: the analysis.
        dataset: the values, and counts without an axis; `hook` is the axis of sites, with `layer` and `site` along it.
        parameters: everything the values depend on besides the store, the seed among it.
        source: the store's fingerprint.
        rows: labels of the axis `row`, one line each; empty if no array has that axis.
        lines: the axes that the table goes along.

    Example:
        >>> result = pca_by_layer(view, k=2)
        >>> result.dataset["explained_variance_ratio"].dims, result.dataset["layer"].values.tolist()
        (('hook', 'component'), [-1, 0, 1, 2])
        >>> result.table[["layer", "component", "explained_variance_ratio"]].shape
        (8, 3)
        >>> files = result.save("figures/pca")
        >>> LayerResult.load("figures/pca").values("scores").shape == result.values("scores").shape
        True
    """

    name: str
    dataset: xr.Dataset
    parameters: Mapping[str, Any]
    source: str
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    lines: tuple[str, ...] = ("hook",)

    @cached_property
    def table(self) -> pd.DataFrame:
        """What the dataset says of each cell of `lines`, in tidy form (`tidy`)."""
        return tidy(self.dataset, self.lines)

    @cached_property
    def hooks(self) -> tuple[Hook, ...]:
        """The sites, along the axis `hook`."""
        return tuple(as_hook(str(name)) for name in self.dataset["hook"].to_numpy())

    def values(self, name: str) -> Shaped[np.ndarray, "..."]:
        """The array of that name.

        Raises:
            InputError: the result has none; the message lists those it has.
        """
        if name not in self.dataset.data_vars:
            raise InputError(f"{self.name} has no {name!r}; it has {', '.join(map(str, self.dataset.data_vars))}")
        return np.asarray(self.dataset.variables[name].to_numpy())

    def save(self, folder: str | Path) -> list[Path]:
        """Write result.nc (netCDF: all), result.json (axes, parameters, source, versions), table.csv and rows.csv.

        Each file is whole or not there, rows.csv not without rows. The same result gives the same bytes.

        Raises:
            NotAvailableError: the folder cannot be made, or takes no file.
            NoSpaceError: there is no room.
        """
        described = {
            "name": self.name,
            "hooks": [hook.name for hook in self.hooks],
            "axes": {str(name): list(map(str, one.dims)) for name, one in self.dataset.data_vars.items()},
            "labels": list(map(str, self.dataset.coords)),
            "lines": list(self.lines),
            "parameters": dict(self.parameters),
            "source": self.source,
            "versions": versions(),
        }
        text = json_text(described, indent=2)
        contents: dict[str, bytes | str] = {
            FILE: self._netcdf(text),
            "result.json": text + "\n",
            "table.csv": self.table.to_csv(index=False, float_format="%.6g"),
        }
        if len(self.rows):
            contents["rows.csv"] = self.rows.to_csv(index=False)
        return [write_whole(Path(folder) / name, content) for name, content in contents.items()]

    @classmethod
    def load(cls, folder: str | Path) -> "LayerResult":
        """A result that was saved in a folder, or in a result.nc; its parameters come back as JSON knows them.

        Raises:
            NotAvailableError: there is none.
            CorruptFileError: the file is no such result, or is damaged.
        """
        path = Path(folder) / FILE if Path(folder).suffix != ".nc" else Path(folder)
        if not path.is_file():
            raise NotAvailableError(f"{path} is not there; give a folder that an analysis has written")
        check_self_contained(path)
        try:
            with xr.open_datatree(path, engine="h5netcdf") as tree:
                described = json.loads(tree.attrs["described"])
                rows = pd.DataFrame({name: one.to_numpy() for name, one in tree["rows"].to_dataset().data_vars.items()})
                found, lines = tree.to_dataset().load().drop_attrs(), tuple(described["lines"])
            in_order = ({name: found[name].variable for name in described[names]} for names in ("axes", "labels"))
            dataset = xr.Dataset(*in_order)
            tidy(dataset, lines)
            return cls(described["name"], dataset, described["parameters"], described["source"], rows, lines)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise CorruptFileError(f"{path} is no result of an analysis, or is damaged") from error

    def _netcdf(self, described: str) -> bytes:
        columns = {str(name): ("row", _plain(self.rows[name].to_numpy())) for name in self.rows}
        tree = {"/": self.dataset.assign_attrs(described=described), "rows": xr.Dataset(columns)}
        return bytes(xr.DataTree.from_dict(tree).to_netcdf(engine="h5netcdf"))

    def _repr_html_(self) -> str:
        """What a notebook shows: the first lines of the table, and the arrays."""
        title = html.escape(f"{self.name} of {self.parameters.get('site', 'a store')}, {len(self.hooks)} sites")
        return f"<b>{title}</b>{self.table.head(8).to_html()}{self.dataset._repr_html_()}"


def on_sites(
    hooks: Sequence[Hook],
    site: str,
    arrays: Named,
    counts: Mapping[str, int] | None = None,
    labels: Labels | None = None,
) -> xr.Dataset:
    """The arrays of an analysis as one dataset, with coordinates `layer`, `site`, `hook` along its sites.

    Args:
        hooks: the sites.
        site: their kind, as it was asked for: that of the embedding is `resid_post` too.
        arrays: by name its axes and values.
        counts: what holds for all of them.
        labels: of other axes the coordinates; of a data frame each column is one.
    """
    coordinates: dict[str, Any] = {"layer": ("hook", [hook.table_layer for hook in hooks])}
    coordinates |= {"site": ("hook", [site] * len(hooks)), "hook": [hook.name for hook in hooks]}
    used = {axis for axes, _ in arrays.values() for axis in axes}
    for axis, given in (labels or {}).items():
        if axis in used:
            columns = given.to_dict("list") if isinstance(given, pd.DataFrame) else {axis: list(given)}
            coordinates |= {str(column): (axis, values) for column, values in columns.items()}
    return xr.Dataset({**arrays, **(counts or {})}, coordinates)


def from_lines(table: pd.DataFrame, axes: Mapping[str, Sequence[str]], beside: Named | None = None) -> dict[str, Array]:
    """Columns of a table of measured cells as arrays; where a cell has no line, nan, 0 or no text.

    Args:
        table: one line a cell.
        axes: columns that say which, each with all its labels in order.
        beside: further values of each line, by name their axes after it and an array whose first axis is the line.
    """
    cells = pd.MultiIndex.from_product(list(axes.values()))
    at = pd.MultiIndex.from_frame(table[[*axes]]).get_indexer(cells)
    columns: dict[str, Array] = {str(name): ((), table[name].to_numpy()) for name in table if name not in axes}
    found = {}
    for name, (more, given) in (columns | dict(beside or {})).items():
        values = _plain(given)
        missing = {"f": math.nan, "U": ""}.get(values.dtype.kind, 0)
        filled = np.concatenate([values, np.full((1, *values.shape[1:]), missing, dtype=values.dtype)])[at]
        found[name] = ((*axes, *more), filled.reshape(*map(len, axes.values()), *values.shape[1:]))
    return found


def tidy(dataset: xr.Dataset, lines: Sequence[str]) -> pd.DataFrame:
    """One line for each cell of some axes: their coordinates, then every array that has no axis besides.

    Cells in which nothing was measured (`n_rows` is 0) have no line. An axis without coordinates is counted from 0.
    """
    along = [str(name) for name, one in dataset.coords.items() if set(one.dims) <= set(lines)]
    counted = [axis for axis in lines if not any(axis in dataset[name].dims for name in along)]
    values = [str(name) for name, one in dataset.data_vars.items() if set(one.dims) <= set(lines)]
    frame = dataset[[*along, *values]].to_dataframe(dim_order=list(lines)).reset_index()[[*along, *counted, *values]]
    return frame[frame["n_rows"] > 0].reset_index(drop=True) if "n_rows" in frame else frame


def _plain(values: Shaped[np.ndarray, "line ..."]) -> Shaped[np.ndarray, "line ..."]:
    """Texts as numpy's own, as files take them."""
    return values.astype(str) if values.dtype == object else values


def per_layer(view: View, reading: Reading) -> Named:
    """Apply a function to the same rows of every site and stack what it gives along a new first axis `hook`.

    Args:
        view: the sites and rows; all rows but BOS where it asks for none.
        reading: takes activations and returns named arrays with their axis names.

    Raises:
        InputError: no row is chosen.

    Example:
        >>> found = per_layer(view, lambda rows: {"norm": (("row",), rows.norm(dim=1).numpy())})
        >>> found["norm"][0], len(found["norm"][1]) == len(view.hooks)
        (('hook', 'row'), True)
    """
    check_view(view)
    chosen = view.chosen("position >= 0")
    if not chosen.any():
        raise InputError(f"no row fits {view.noted('all')!r}; columns are {', '.join(view.store.rows.columns)}")
    return stacked([reading(view.store.load(hook, chosen)) for hook in view.hooks])


def stacked(found: Sequence[Named]) -> Named:
    """The named arrays of several sites, along a new first axis `hook`."""
    return {key: (("hook", *axes), np.stack([one[key][1] for one in found])) for key, (axes, _) in found[0].items()}
