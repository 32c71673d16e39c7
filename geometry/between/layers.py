"""Every layer against every other: of one store, or of two that recorded the same prompts."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from cache import ActivationStore
from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.view import View, check_view
from geometry.between.grid import held_grid, streamed_grid
from geometry.results.dataset import Named, on_sites
from geometry.results.over import ALONE, Analysis, Loop
from geometry.results.result import LayerResult
from geometry.rows.analysed import unit_of_rows
from geometry.similarity.layer_measures import GRID_MEASURES
from geometry.similarity.of_rows import DEBIASED_ROWS

IN_MEMORY = 1024
"""Up to so many rows are held in memory, and have errors and nulls; more are streamed through their moments."""


def between_layers(view: View, *, measure: str = "cka", seed: int = 0, loop: Loop = ALONE) -> LayerResult:
    """Similarity of every site of a view to every other on the same rows.

    Up to 1,024 rows come with a jackknife error over members and with permuted rows as description: the same rows are
    alike in all layers for many reasons, so that there is neither p nor interval. More are streamed: memory does not
    depend on their number, and there is neither; read `cka` beside `cka_debiased` then.

    Args:
        view: the sites and rows; each prompt's last token where it asks for none.
        measure: cka, cka_debiased, svcca or procrustes.
        seed: seeds the permutations.
        loop: who watches, and where finished resamples, or lines of a streamed grid, are kept.

    Raises:
        InputError: no such measure, or fewer than 3 rows.

    Example:
        >>> grid = between_layers(view, measure="cka").values("value")  # (hook, hook_b)
        >>> grid.shape, bool(abs(grid.diagonal() - 1).max() < 1e-6)
        ((4, 4), True)
    """
    seed = check_seed(seed)
    check_view(view)
    parameters = {"site": view.site, "layers": view.layers, "where": view.noted(), "seed": seed}
    return _grid((view, view), measure, parameters, loop)


def between_stores(view: View, other: View, *, measure: str = "cka", seed: int = 0, loop: Loop = ALONE) -> LayerResult:
    """Similarity of every layer of one model to every layer of another, on the prompts that both stores have.

    Rows are matched by family, pair key (or text) and shown member; their widths may differ.

    Args:
        view: sites and rows of one model's store; each prompt's last token where it asks for none.
        other: those of another's.
        measure: cka, cka_debiased, svcca or procrustes.
        seed: seeds the permutations.
        loop: who watches, and where finished resamples, or lines of a streamed grid, are kept.

    Raises:
        InputError: no such measure, or the stores have no rows, or no common order of rows.

    Example:
        >>> with ActivationStore.open("activations/tour.h5") as other:
        ...     between_stores(view, other.view(), measure="cka").values("value").shape
        (4, 4)
    """
    seed = check_seed(seed)
    for one in (view, other):
        check_view(one)
    parameters = {"site": view.site, "layers": view.layers, "where": view.noted()}
    theirs = {"site": other.site, "layers": other.layers, "where": other.noted()}
    parameters |= {f"{name}_b": value for name, value in theirs.items() if value != parameters[name]}
    chosen = zip((view, other), _aligned(view, other), strict=True)
    left, right = (replace(one, where=mask) for one, mask in chosen)
    return _grid((left, right), measure, parameters | {"seed": seed}, loop)


def _grid(views: tuple[View, View], measure: str, parameters: Mapping[str, Any], loop: Loop) -> LayerResult:
    """The grid of two views; of one with itself where both are the same."""
    if measure not in GRID_MEASURES:
        raise InputError(f"no measure {measure!r} between layers; there are {', '.join(GRID_MEASURES)}")
    left, right = views
    rows, where = left.store.rows[left.chosen()], parameters["where"]
    n_rows, units = len(rows), np.array(unit_of_rows(left.store, rows))
    if n_rows < 3:
        raise InputError(f"a similarity needs 3 rows; got {n_rows} for {where!r}")
    if measure == "cka_debiased" and n_rows < DEBIASED_ROWS:
        raise InputError(f"debiased CKA needs {DEBIASED_ROWS} rows; got {n_rows} for {where!r}")
    parameters = {**parameters, "measure": measure, "hooks_b": [hook.name for hook in right.hooks]}
    source = "+".join(dict.fromkeys(view.source for view in views))
    analysis = Analysis("grid", parameters | {"of": "layers" if left is right else "stores"}, source, many_threads=True)
    if n_rows <= IN_MEMORY:
        found = held_grid(GRID_MEASURES[measure], views, units, parameters["seed"], analysis, loop)
    else:
        found = {"value": streamed_grid(GRID_MEASURES[measure], views, analysis, loop)}
        found |= {name: np.full_like(found["value"], math.nan) for name in ("se", "null_mean", "null_max")}
    counts = {"n_members": len(set(units.tolist())), "n_templates": rows["template"].nunique(), "n_rows": n_rows}
    labels = pd.DataFrame({"layer_b": [hook.table_layer for hook in right.hooks], "hook_b": parameters["hooks_b"]})
    axes = ("hook", "hook_b")
    arrays: Named = {"measure": ((), np.array(measure)), **{name: (axes, values) for name, values in found.items()}}
    dataset = on_sites(left.hooks, left.site, arrays, counts, {"hook_b": labels})
    source = "+".join(dict.fromkeys(view.store.fingerprint for view in views))
    return LayerResult("grid", dataset, parameters, source, lines=axes)


def _aligned(view: View, other: View) -> tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row_b"]]:
    """The rows of both stores that stand for the same member of the same prompt."""
    a, b = view.store, other.store
    masks = [view.chosen(), other.chosen()]
    keys = [_keys(store, mask) for store, mask in zip((a, b), masks, strict=True)]
    common = set(keys[0]) & set(keys[1])
    if not common:
        raise InputError(f"{a.paths[0].name} and {b.paths[0].name} have no row of the same prompt in common")
    for mask, key in zip(masks, keys, strict=True):
        mask[np.flatnonzero(mask)[[one not in common for one in key]]] = False
    orders = [[one for one in key if one in common] for key in keys]
    if orders[0] != orders[1]:
        raise InputError(
            f"{a.paths[0].name} and {b.paths[0].name} hold the same prompts in different orders or a row more than "
            "once; record both with the same --dataset and options"
        )
    return masks[0], masks[1]


def _keys(store: ActivationStore, mask: Bool[np.ndarray, " row"]) -> list[tuple[object, ...]]:
    rows = store.rows[mask]
    texts = store.prompts["text"].to_numpy()[rows["prompt"]]
    own = np.where(store.prompts["values"].map(len).to_numpy()[rows["prompt"]] > 0, rows["pair_key"], texts)
    return list(zip(rows["family"], own, rows["member"], rows["is_last"], strict=True))
