"""Every layer against every other: of one store, or of two that recorded the same prompts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.seeds import check_seed
from cache.store.view import View, check_view
from geometry.results.result import LayerResult, layer_result
from geometry.rows.analysed import unit_of_rows
from geometry.similarity.layer_measures import GRID_MEASURES, GridMeasure
from geometry.similarity.of_rows import DEBIASED_ROWS
from geometry.stats.cross_moments import cross_moments, norm_products
from geometry.stats.uncertainty import jackknife

IN_MEMORY = 1024
"""Up to so many rows are held in memory, and have errors and nulls; more are streamed through their moments."""

N_PERMUTATIONS = 20

Values = Float[np.ndarray, "hook hook_b"]


def between_layers(view: View, *, measure: str = "cka", seed: int = 0) -> LayerResult:
    """Similarity of every layer to every other on the same rows.

    Up to 1,024 rows come with a jackknife error over members and with permuted rows as description: the same rows are
    alike in all layers for many reasons, so that there is neither p nor interval. More are streamed: memory does not
    depend on their number, and there is neither; read `cka` beside `cka_debiased` then.

    Args:
        view: the sites and rows; each prompt's last token where it asks for none.
        measure: cka, cka_debiased, svcca or procrustes.
        seed: seeds the permutations.

    Raises:
        InputError: no such measure, or too few rows.
    """
    check_view(view)
    return _grid(view, view.chosen(), None, measure, check_seed(seed))


def between_stores(a: View, b: View, *, measure: str = "cka", seed: int = 0) -> LayerResult:
    """Similarity of every layer of one model to every layer of another, on the prompts that both stores have.

    Rows are matched by family, pair key (or text) and shown member; their widths may differ.

    Args:
        a: sites and rows of one model's store.
        b: those of another's.
        measure: cka, cka_debiased, svcca or procrustes.
        seed: seeds the permutations.

    Raises:
        InputError: no such measure, too few rows, or the views have no rows, or no common order of rows.
    """
    for view in (a, b):
        check_view(view)
    chosen, chosen_b = _aligned(a, b)
    return _grid(a, chosen, replace(b, where=chosen_b), measure, check_seed(seed))


def _grid(left: View, chosen: Bool[np.ndarray, " row"], right: View | None, measure: str, seed: int) -> LayerResult:
    """The grid of a view's rows, all of them chosen; `right` is the other side, None for the same."""
    if measure not in GRID_MEASURES:
        raise InputError(f"no measure {measure!r} between layers; there are {', '.join(GRID_MEASURES)}")
    one, other, noted = replace(left, where=chosen), right or replace(left, where=chosen), left.noted()
    n_rows, same, rows = int(chosen.sum()), right is None, left.store.rows[chosen]
    units = np.array(unit_of_rows(left.store, rows))
    if n_rows < 3:
        raise InputError(f"a similarity needs 3 rows; got {n_rows} for {noted!r}")
    if measure == "cka_debiased" and n_rows < DEBIASED_ROWS:
        raise InputError(f"debiased CKA needs {DEBIASED_ROWS} rows; got {n_rows} for {noted!r}")
    if n_rows <= IN_MEMORY:
        x = _load(one)
        found = _held(GRID_MEASURES[measure], x, x if same else _load(other), units, seed)
    else:
        found = {"value": _streamed(GRID_MEASURES[measure], one, other, same=same)}
        found |= {name: np.full_like(found["value"], math.nan) for name in ("se", "null_mean", "null_max")}
    counts = {"n_members": len(set(units.tolist())), "n_templates": rows["template"].nunique(), "n_rows": n_rows}
    names = [hook.name for hook in other.hooks]
    return layer_result(
        "grid",
        left.hooks,
        {name: (("hook", "hook_b"), values) for name, values in found.items()},
        parameters={"site": left.site, "layers": left.layers, "where": noted, "seed": seed, "measure": measure}
        | {"hooks_b": names},
        source="+".join(dict.fromkeys((left.store.fingerprint, other.store.fingerprint))),
        table=_table(measure, left.hooks, other.hooks, found, counts),
        labels={"hook_b": names},
    )


def _load(view: View) -> list[Float[Tensor, "chosen d"]]:
    """All sites' rows."""
    return [view.store.load(hook, view.where) for hook in view.hooks]


def _blocks(view: View, hook: Hook, n_rows: int) -> Iterator[Float[Tensor, "_ d"]]:
    """One site's rows in pieces."""
    return view.store.blocks(hook, view.where, n_rows=n_rows)


def _held(
    measure: GridMeasure,
    x: Sequence[Float[Tensor, "row _"]],
    y: Sequence[Float[Tensor, "row _"]],
    units: Shaped[np.ndarray, " row"],
    seed: int,
) -> dict[str, Values]:
    """Values, jackknife errors over members and the permutation null, of rows held in memory."""
    value = _all_pairs(measure, x, y, None)
    members = np.unique(units)
    rest = [np.flatnonzero(units != member) for member in members]
    left_out = [_all_pairs(measure, x, y, kept) if len(kept) >= 3 else np.full_like(value, math.nan) for kept in rest]
    se = jackknife(np.stack(left_out))
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(units)) for _ in range(N_PERMUTATIONS - 1)]
    fixed = _prepared(measure, x)
    null = np.stack([_combined(measure, fixed, _prepared(measure, y, order)) for order in orders])
    return {
        "value": value,
        "se": se,
        "null_mean": null.mean(axis=0),
        "null_max": null.max(axis=0),
    }


def _all_pairs(
    measure: GridMeasure,
    x: Sequence[Float[Tensor, "row _"]],
    y: Sequence[Float[Tensor, "row _"]],
    kept: Shaped[np.ndarray, " kept"] | None,
) -> Values:
    left = _prepared(measure, x, kept)
    return _combined(measure, left, left if y is x else _prepared(measure, y, kept), symmetric=y is x)


def _prepared(
    measure: GridMeasure, x: Sequence[Float[Tensor, "row _"]], rows: Shaped[np.ndarray, " kept"] | None = None
) -> list[Float[np.ndarray, "_ _"]]:
    return [measure.prepare(layer if rows is None else layer[torch.from_numpy(rows)]) for layer in x]


def _combined(
    measure: GridMeasure,
    left: Sequence[Float[np.ndarray, "_ _"]],
    right: Sequence[Float[np.ndarray, "_ _"]],
    *,
    symmetric: bool = False,
) -> Values:
    values = np.empty((len(left), len(right)))
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            values[i, j] = values[j, i] if symmetric and j < i else measure.combine(x, y)
    return values


def _streamed(measure: GridMeasure, left: View, right: View, *, same: bool) -> Values:
    """Values of rows that are never all in memory, from their joint moments."""
    n_left, n_right, offset = len(left.hooks), len(right.hooks), 0 if same else len(left.hooks)
    sources = [partial(_blocks, left, hook) for hook in left.hooks]
    sources += [] if same else [partial(_blocks, right, hook) for hook in right.hooks]
    values = np.ones((n_left, n_right))
    pairs = [(i, j + offset) for i in range(n_left) for j in range(n_right) if not same or j > i]
    norms = norm_products(sources) if measure.debiased else np.full((len(sources), len(sources)), math.nan)
    for (i, j), joint in cross_moments(sources, pairs):
        values[i, j - offset] = measure.from_moments(joint, norms[np.ix_((i, j), (i, j))])
        if same:
            values[j, i] = values[i, j]
            for k, side in ((i, joint.x), (j, joint.y)):
                values[k, k] = 1 if side.scatter.any() else math.nan
    return values


def _aligned(a: View, b: View) -> tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row_b"]]:
    """The rows of both views that stand for the same member of the same prompt."""
    masks = [view.chosen() for view in (a, b)]
    keys = [_keys(view.store, mask) for view, mask in zip((a, b), masks, strict=True)]
    names = " and ".join(view.store.paths[0].name for view in (a, b))
    common = set(keys[0]) & set(keys[1])
    if not common:
        raise InputError(f"{names} have no row of the same prompt in common")
    kept = []
    for mask, key in zip(masks, keys, strict=True):
        mask = mask.copy()
        mask[np.flatnonzero(mask)[[one not in common for one in key]]] = False
        kept.append(mask)
    orders = [[one for one in key if one in common] for key in keys]
    if orders[0] != orders[1]:
        raise InputError(
            f"{names} hold the same prompts in different orders or a row more than "
            "once; record both with the same --dataset and options"
        )
    return kept[0], kept[1]


def _keys(store: ActivationStore, mask: Bool[np.ndarray, " row"]) -> list[tuple[object, ...]]:
    rows = store.rows[mask]
    texts = store.prompts["text"].to_numpy()[rows["prompt"]]
    own = np.where(store.prompts["values"].map(len).to_numpy()[rows["prompt"]] > 0, rows["pair_key"], texts)
    return list(zip(rows["family"], own, rows["member"], rows["is_last"], strict=True))


def _table(
    measure: str, hooks: Sequence[Hook], hooks_b: Sequence[Hook], found: dict[str, Values], counts: dict[str, int]
) -> pd.DataFrame:
    lines = []
    for i, hook in enumerate(hooks):
        for j, hook_b in enumerate(hooks_b):
            value, se = float(found["value"][i, j]), float(found["se"][i, j])
            line = {"layer": hook.table_layer, "layer_b": hook_b.table_layer, "site": hook.kind, "measure": measure}
            line |= {"a": hook.name, "b": hook_b.name, "value": value, "se": se}
            line |= {name: float(found[name][i, j]) for name in ("null_mean", "null_max")}
            lines.append(line | counts)
    return pd.DataFrame(lines)
