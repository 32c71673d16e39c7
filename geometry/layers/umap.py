"""UMAP of the same rows at every layer."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from cache import ActivationStore, Hook
from cache.models.hooks import Layers, layers_text
from cache.seeds import check_seed
from cache.store.view import Where
from geometry.bases.embedding import umap
from geometry.results.result import LayerResult, site_hooks
from geometry.rows.analysed import Rows, chosen_rows, row_counts

MOST_ROWS = 8192
"""A picture has so many rows, drawn at random where there are more."""


def umap_by_layer(
    store: ActivationStore,
    site: str = "resid_post",
    *,
    layers: Layers = "all",
    where: Where = None,
    n_neighbors: int = 15,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """UMAP of one site at each layer by itself: pictures only, each with its trustworthiness.

    Args:
        store: the store.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: a query over `store.rows`, or a mask; None for shown members. BOS is left out.
        n_neighbors: neighbours that count as near.
        seed: seeds the layout, and the rows drawn where there are more than 8,192.
        on_hook: called after every layer.

    Returns:
        Arrays `scores` (hook, row, 2) and `trustworthiness`; 0 and nan where all rows are equal.

    Raises:
        InputError: no such site, layer or row, or fewer than 5 rows.
        NumbersError: a value is not finite.
    """
    seed = check_seed(seed)
    hooks, rows = site_hooks(store, site, layers), _drawn(chosen_rows(store, where), seed)
    coordinates, trust = [], []
    for hook in hooks:
        x = store.load(hook, rows.chosen)
        flat = len(x) >= 5 and bool((x == x[0]).all())
        embedding = None if flat else umap(x, n_neighbors=n_neighbors, seed=seed)
        coordinates.append(
            np.zeros((len(x), 2), dtype=np.float32) if embedding is None else embedding.coordinates.numpy()
        )
        trust.append(math.nan if embedding is None else embedding.trustworthiness)
        on_hook(hook)
    lines = [
        {"layer": hook.table_layer, "site": site, "hook": hook.name, "trustworthiness": value} | row_counts(rows)
        for hook, value in zip(hooks, trust, strict=True)
    ]
    parameters = {"site": site, "layers": layers_text(layers), "where": rows.where, "seed": seed}
    parameters["n_neighbors"] = n_neighbors
    return LayerResult(
        name="umap",
        hooks=hooks,
        arrays={
            "scores": (("hook", "row", "axis"), np.stack(coordinates)),
            "trustworthiness": (("hook",), np.array(trust)),
        },
        rows=rows.table,
        parameters=parameters,
        source=store.fingerprint,
        table=pd.DataFrame(lines),
    )


def _drawn(rows: Rows, seed: int) -> Rows:
    """At most 8,192 of the rows, in their order."""
    if len(rows.table) <= MOST_ROWS:
        return rows
    kept = np.sort(np.random.default_rng(seed).choice(len(rows.table), MOST_ROWS, replace=False))
    chosen = np.zeros_like(rows.chosen)
    chosen[np.flatnonzero(rows.chosen)[kept]] = True
    return Rows(rows.where, chosen, rows.table.iloc[kept].reset_index(drop=True), rows.units[kept])
