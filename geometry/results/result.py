"""The result of one analysis over many sites: values under named axes, what they depend on, and files of it."""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

Named = Mapping[str, tuple[tuple[str, ...], Shaped[np.ndarray, "..."]]]
Labels = Mapping[str, Sequence[Any] | pd.DataFrame]

Reading = Callable[[Float[Tensor, "row d"]], Named]

FILE = "result.nc"


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Values of one analysis at several sites, under named axes.

    Attributes:
        name: the analysis.
        dataset: the values; every array's first axis is `hook`, whose coordinates are names of sites and `layer`.
        rows: labels of the axis `row`, one line each; empty if no array has that axis.
        parameters: everything the values depend on besides the store, the seed among it.
        source: the store's fingerprint.
        table: the values in tidy form.

    Example:
        >>> result = pca_by_layer(view, k=2)
        >>> result.dataset["explained_variance_ratio"].dims, result.dataset["layer"].values.tolist()
        (('hook', 'component'), [-1, 0, 1, 2])
        >>> files = result.save("figures/pca")
        >>> LayerResult.load("figures/pca").values("scores").shape == result.values("scores").shape
        True
    """

    name: str
    dataset: xr.Dataset
    rows: pd.DataFrame
    parameters: Mapping[str, Any]
    source: str
    table: pd.DataFrame = field(repr=False)

    @property
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
        return np.asarray(self.dataset[name].to_numpy())

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
                rows, table = (_frame(tree[name].to_dataset()) for name in ("rows", "table"))
                dataset = tree.to_dataset().load().drop_attrs()
            return cls(described["name"], dataset, rows, described["parameters"], described["source"], table)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise CorruptFileError(f"{path} is no result of an analysis, or is damaged") from error

    def _netcdf(self, described: str) -> bytes:
        tree = xr.DataTree.from_dict(
            {
                "/": self.dataset.assign_attrs(described=described),
                "rows": _columns(self.rows),
                "table": _columns(self.table),
            }
        )
        return bytes(tree.to_netcdf(engine="h5netcdf"))

    def _repr_html_(self) -> str:
        """What a notebook shows: the first lines of the table, and the arrays."""
        title = html.escape(f"{self.name} of {self.parameters.get('site', 'a store')}, {len(self.hooks)} sites")
        return f"<b>{title}</b>{self.table.head(8).to_html()}{self.dataset._repr_html_()}"


def layer_result(
    name: str,
    hooks: Sequence[Hook],
    arrays: Named,
    *,
    parameters: Mapping[str, Any],
    source: str,
    table: pd.DataFrame,
    rows: pd.DataFrame | None = None,
    labels: Labels | None = None,
) -> LayerResult:
    """The result of an analysis at some sites.

    Args:
        name: the analysis.
        hooks: the sites.
        arrays: by name its axes, the first of which is `hook`, and values.
        parameters: everything the values depend on besides the store.
        source: the store's fingerprint.
        table: the values in tidy form.
        rows: labels of the axis `row`.
        labels: of other axes the coordinates; of a data frame each column is one.
    """
    coordinates: dict[str, Any] = {"hook": [hook.name for hook in hooks]}
    coordinates["layer"] = ("hook", [hook.table_layer for hook in hooks])
    used = {axis for axes, _ in arrays.values() for axis in axes}
    for axis, given in (labels or {}).items():
        if axis in used:
            columns = given.to_dict("list") if isinstance(given, pd.DataFrame) else {axis: list(given)}
            coordinates |= {str(column): (axis, values) for column, values in columns.items()}
    dataset = xr.Dataset({key: (axes, values) for key, (axes, values) in arrays.items()}, coordinates)
    return LayerResult(name, dataset, pd.DataFrame() if rows is None else rows, parameters, source, table)


def _columns(frame: pd.DataFrame) -> xr.Dataset:
    """A data frame's columns as arrays along `line`, texts as numpy's."""
    texts = {name: frame[name].to_numpy() for name in frame}
    found = {
        str(name): ("line", values.astype(str) if values.dtype == object else values) for name, values in texts.items()
    }
    return xr.Dataset(found)


def _frame(columns: xr.Dataset) -> pd.DataFrame:
    return pd.DataFrame({name: one.to_numpy() for name, one in columns.load().data_vars.items()})


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
