"""UMAP of the same rows at every layer."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cache import Hook
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.bases.embedding import umap
from geometry.results.dataset import Named, on_sites, stacked
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.analysed import Rows, chosen_rows, row_counts

MOST_ROWS = 4000
"""A picture has so many rows, drawn at random where there are more: of 4,096 and more, neighbours are approximate and
not the same in every run."""


def umap_by_layer(
    view: View, families: str | Sequence[str] | None = None, *, n_neighbors: int = 15, seed: int = 0, loop: Loop = ALONE
) -> LayerResult:
    """UMAP of a view's rows at each site by itself: pictures only, each with its trustworthiness.

    Args:
        view: the sites and rows; those of `default_rows` where it asks for none.
        families: which; None for all but controls, unless the view's own query names families.
        n_neighbors: neighbours that count as near.
        seed: seeds the layout, and the rows drawn where there are more than 4,000.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays `scores` (hook, row, 2) and `trustworthiness`; 0 and nan where all rows are equal.

    Raises:
        InputError: no row, or fewer than 5 rows.
        NumbersError: a value is not finite.

    Example:
        >>> result = umap_by_layer(store.view(layers="2", where="is_last and family != 'months'"))
        >>> result.values("scores").shape  # (hook, row, axis)
        (1, 65, 2)
    """
    seed = check_seed(seed)
    rows = _drawn(chosen_rows(view, families), seed)
    parameters = {"site": view.site, "layers": view.layers, "where": rows.where, "seed": seed}
    parameters |= {"n_neighbors": n_neighbors, "most_rows": MOST_ROWS}

    def unit(hook: Hook) -> Named:
        return _picture(view.store.load(hook, rows.chosen), n_neighbors, seed)

    arrays = stacked(over(view.hooks, unit, Analysis("umap", parameters, view.source, many_threads=True), loop))
    dataset = on_sites(view.hooks, view.site, arrays, row_counts(rows))
    return LayerResult("umap", dataset, parameters, view.store.fingerprint, rows.table)


def _picture(x: Float[Tensor, "row d"], n_neighbors: int, seed: int) -> Named:
    if len(x) >= 5 and bool((x == x[0]).all()):
        coordinates, trust = np.zeros((len(x), 2), dtype=np.float32), math.nan
    else:
        embedding = umap(x, n_neighbors=n_neighbors, seed=seed)
        coordinates, trust = embedding.coordinates.numpy(), embedding.trustworthiness
    return {"scores": (("row", "axis"), coordinates), "trustworthiness": ((), np.array(trust))}


def _drawn(rows: Rows, seed: int) -> Rows:
    """At most 4,000 of the rows, in their order."""
    if len(rows.table) <= MOST_ROWS:
        return rows
    kept = np.sort(np.random.default_rng(seed).choice(len(rows.table), MOST_ROWS, replace=False))
    chosen = np.zeros_like(rows.chosen)
    chosen[np.flatnonzero(rows.chosen)[kept]] = True
    return Rows(rows.where, chosen, rows.table.iloc[kept].reset_index(drop=True), rows.units[kept])
