"""What analyses find as one dataset under named axes: of sites, of the lines of a table, and the table made of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import Hook
from cache.errors import InputError
from cache.shown.progress import progress_bar
from cache.store.view import View, check_view

Array = tuple[tuple[str, ...], Shaped[np.ndarray, "..."]]
Named = Mapping[str, Array]
Labels = Mapping[str, Sequence[Any] | pd.DataFrame]

Reading = Callable[[Float[Tensor, "row d"]], Named]

PER_COMPONENT = ("hook", "component")


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
        values = plain(given)
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


def plain(values: Shaped[np.ndarray, "line ..."]) -> Shaped[np.ndarray, "line ..."]:
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
    found = []
    with progress_bar("sites", len(view.hooks)) as tell:
        for hook in view.hooks:
            found.append(reading(view.store.load(hook, chosen)))
            tell(len(found))
    return stacked(found)


def stacked(found: Sequence[Named]) -> Named:
    """The named arrays of several sites, along a new first axis `hook`."""
    return {key: (("hook", *axes), np.stack([one[key][1] for one in found])) for key, (axes, _) in found[0].items()}
