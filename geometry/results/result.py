"""One analysis over many sites of a store, and the result it gives."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import Hook
from cache.errors import InputError
from cache.store.view import View, check_view
from cache.whole_files import write_whole
from geometry.results.described import json_text, versions

Named = Mapping[str, tuple[tuple[str, ...], Shaped[np.ndarray, "..."]]]
Reading = Callable[[Float[Tensor, "row d"]], Named]


@dataclass(frozen=True)
class LayerResult:
    """Values of one analysis at several sites, with the names of their axes.

    Attributes:
        name: the analysis.
        hooks: the sites, along the axis `hook`.
        arrays: name -> (axis names, values); every array's first axis is `hook`.
        rows: labels of the axis `row`, one line each; empty if no array has that axis.
        parameters: everything the values depend on besides the store, the seed among it.
        source: the store's fingerprint.
        table: the values in tidy form.
    """

    name: str
    hooks: tuple[Hook, ...]
    arrays: Named
    rows: pd.DataFrame
    parameters: Mapping[str, Any]
    source: str
    table: pd.DataFrame = field(repr=False)

    def values(self, name: str) -> Shaped[np.ndarray, "..."]:
        """The array of that name.

        Raises:
            InputError: the result has none; the message lists those it has.
        """
        if name not in self.arrays:
            raise InputError(f"{self.name} has no {name!r}; it has {', '.join(self.arrays)}")
        return self.arrays[name][1]

    def save(self, folder: str | Path) -> list[Path]:
        """Write result.npz (arrays), result.json (axes, parameters, source, versions), table.csv and, if any, rows.csv.

        Each file is whole or not there.

        Raises:
            NotAvailableError: the folder cannot be made, or takes no file.
            NoSpaceError: there is no room.
        """
        described = {
            "name": self.name,
            "hooks": [hook.name for hook in self.hooks],
            "axes": {name: list(axes) for name, (axes, _) in self.arrays.items()},
            "parameters": dict(self.parameters),
            "source": self.source,
            "versions": versions(),
        }
        arrays = io.BytesIO()
        np.savez(arrays, allow_pickle=False, **{name: values for name, (_, values) in self.arrays.items()})
        contents: dict[str, bytes | str] = {
            "result.npz": arrays.getvalue(),
            "result.json": json_text(described, indent=2) + "\n",
            "table.csv": self.table.to_csv(index=False, float_format="%.6g"),
        }
        if len(self.rows):
            contents["rows.csv"] = self.rows.to_csv(index=False)
        return [write_whole(Path(folder) / name, content) for name, content in contents.items()]


def per_layer(view: View, reading: Reading) -> Named:
    """Apply a function to the same rows of every site and stack what it gives along a new first axis `hook`.

    Args:
        view: the sites and rows; all rows but BOS where it asks for none.
        reading: takes activations and returns named arrays with their axis names.

    Raises:
        InputError: no row is chosen.
    """
    check_view(view)
    chosen = view.chosen("position >= 0")
    if not chosen.any():
        raise InputError(f"no row fits {view.noted('all')!r}; columns are {', '.join(view.store.rows.columns)}")
    return stacked([reading(view.store.load(hook, chosen)) for hook in view.hooks])


def stacked(found: Sequence[Named]) -> Named:
    """The named arrays of several sites, along a new first axis `hook`."""
    return {key: (("hook", *axes), np.stack([one[key][1] for one in found])) for key, (axes, _) in found[0].items()}
