"""The result of one analysis over many sites: its dataset, what that depends on, and files of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Shaped

from cache import Hook
from cache.errors import CorruptFileError, InputError, NotAvailableError
from cache.models.hooks import as_hook
from cache.sealed.opening import check_self_contained
from cache.shown.cards import card
from cache.whole_files import write_whole
from geometry.results.dataset import plain, tidy
from geometry.results.described import json_text, versions

FILE = "result.nc"

_PICTURES = ("geometry.pictures", "probes.pictures")
"""Who draws results, looked for by name once a picture is asked for: pictures stand on results, and not the reverse."""


@dataclass(frozen=True, eq=False, repr=False)
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
        >>> figure = result.plot(color="frame", layers="1-2")  # result.plot("spectra"), and what else is in pictures()
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
        return self.dataset.variables[name].to_numpy()

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
        columns = {str(name): ("row", plain(self.rows[name].to_numpy())) for name in self.rows}
        tree = {"/": self.dataset.assign_attrs(described=described), "rows": xr.Dataset(columns)}
        return bytes(xr.DataTree.from_dict(tree).to_netcdf(engine="h5netcdf"))

    def pictures(self) -> dict[str, Callable[[], Any]]:
        """What draws each picture of the result, by the name that its command gives it; the foremost comes first."""
        found = (import_module(module).pictures_of(self) for module in _PICTURES)
        return next((pictures for pictures in found if pictures), {})

    def plot(self, picture: str | None = None, **options: Any) -> Any:
        """A picture of the result, as its command draws it: a matplotlib figure, which a notebook shows.

        Args:
            picture: which of `pictures`, if not the foremost: of `pca` `scatter`, `explained_variance` or `spectra`.
            options: what that picture takes: `ax=` of a figure of your own, a scatter `color=` by any label of the
                rows, pictures with a panel a layer `layers=`.

        Raises:
            InputError: there is no such picture, or it has no such option; the message lists those there are.
        """
        pictures = self.pictures()
        name = next(iter(pictures), "") if picture is None else picture
        if name not in pictures:
            known = ", ".join(pictures) or "none"
            raise InputError(f"{self.name} has no picture {name!r}; it has {known}".replace(" ''", ""))
        taken = [one for one, what in signature(pictures[name]).parameters.items() if what.kind is what.KEYWORD_ONLY]
        if unknown := [one for one in options if one not in taken]:
            raise InputError(f"{name} has no option {unknown[0]!r}; it has {', '.join(taken) or 'none'}")
        return pictures[name](**options)

    def __repr__(self) -> str:
        return f"<LayerResult {self._title()}>"

    def _title(self) -> str:
        return f"{self.name} of {self.parameters.get('site', 'a store')}, {len(self.hooks)} sites"

    def _repr_html_(self) -> str:
        table = self.table.drop(columns=["site", "hook"], errors="ignore")
        first, *others = self.pictures() or [None]
        drawn = ["result.plot()"] if first else []
        then = (*drawn, *(f'result.plot("{name}")' for name in others[:2]), "result.table", 'result.save("folder")')
        return card(self._title(), {"rows": self.parameters.get("where", "")}, table, then)
