"""One analysis over many sites of a store, and the result it gives."""

import importlib.metadata
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from torch import Tensor

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.models.hooks import HookLike, Layers, layers_text, parse_layers
from cache.store.rows import Where, where_text
from cache.store.store import check_open
from cache.whole_files import write_whole

Named = Mapping[str, tuple[tuple[str, ...], Shaped[np.ndarray, "..."]]]
_LIBRARIES = ("representation-geometry", "numpy", "scipy", "scikit-learn", "torch", "pandas", "umap-learn")

Analysis = Callable[[Float[Tensor, "row d"]], Named]


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
            "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
        arrays = io.BytesIO()
        np.savez(arrays, allow_pickle=False, **{name: values for name, (_, values) in self.arrays.items()})
        contents: dict[str, bytes | str] = {
            "result.npz": arrays.getvalue(),
            "result.json": json.dumps(described, indent=2, default=_plain) + "\n",
            "table.csv": self.table.to_csv(index=False, float_format="%.6g"),
        }
        if len(self.rows):
            contents["rows.csv"] = self.rows.to_csv(index=False)
        return [write_whole(Path(folder) / name, content) for name, content in contents.items()]


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays as Python's, which JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def site_hooks(store: ActivationStore, site: str, layers: Layers = "all") -> tuple[Hook, ...]:
    """A store's hooks of one kind, lowest first; `resid_post` begins with the embedding (layer -1).

    Raises:
        InputError: the store is not open but a path, or has no such site at those layers.
    """
    check_open(store)
    hooks = [hook for hook in store.hooks if hook.kind == site]
    if not hooks:
        kinds = dict.fromkeys(hook.kind for hook in store.hooks)
        raise InputError(f"the store has no {site!r}; it has {', '.join(kinds)}")
    if site == "resid_post":
        hooks = [hook for hook in store.hooks if hook == Hook("resid_pre", 0)] + hooks
    text = layers_text(layers)
    if text.strip() != "all":
        there = sorted({hook.layer for hook in hooks})
        try:
            chosen = set(parse_layers(text, 1 + there[-1]))
        except InputError:
            chosen = set()
        if not chosen or not chosen <= set(there):
            raise InputError(f"the store has {site} at layers {', '.join(map(str, there))}; got {text!r}")
        hooks = [hook for hook in hooks if hook.layer in chosen]
    return tuple(hooks)


def spread_hooks(store: ActivationStore, site: str, n: int = 8) -> tuple[Hook, ...]:
    """Some of a store's hooks of one kind (all, if fewer), evenly spread up to the last, without the embedding.

    Raises:
        InputError: the store has no such site.
    """
    above = [hook for hook in site_hooks(store, site) if hook.table_layer >= 0]
    if len(above) <= n:
        return tuple(above)
    return tuple(above[i] for i in np.linspace(0, len(above) - 1, n + 1)[1:].round().astype(int).tolist())


def per_layer(
    store: ActivationStore,
    analysis: Analysis,
    hooks: Sequence[HookLike],
    where: Where = None,
    *,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> Named:
    """Apply an analysis to the same rows of every hook and stack what it gives along a new first axis `hook`.

    Args:
        store: the store.
        analysis: takes activations and returns named arrays with their axis names.
        hooks: the sites: hooks, their names, or kinds and layers.
        where: a query over `store.rows`, or a mask; None for all rows.
        on_hook: called after every site.

    Raises:
        InputError: the store lacks a site, or no row is chosen.
    """
    stacked: dict[str, tuple[tuple[str, ...], list[Shaped[np.ndarray, ...]]]] = {}
    check_open(store)
    for hook in map(store.site, hooks):
        x = store.load(hook, where)
        if not len(x):
            raise InputError(f"no row fits {where_text(where, 'all')!r}; columns are {', '.join(store.rows.columns)}")
        for name, (axes, values) in analysis(x).items():
            stacked.setdefault(name, (("hook", *axes), []))[1].append(values)
        on_hook(hook)
    return {name: (axes, np.stack(values)) for name, (axes, values) in stacked.items()}
