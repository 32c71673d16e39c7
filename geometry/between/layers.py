"""Every layer against every other: of one store, or of two that recorded the same prompts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.models.hooks import Layers, layers_text
from cache.seeds import check_seed
from cache.store.view import Where, where_text
from geometry.results.result import LayerResult, site_hooks
from geometry.rows.analysed import text_rows, unit_of_rows
from geometry.similarity.layer_measures import GRID_MEASURES, GridMeasure
from geometry.similarity.of_rows import DEBIASED_ROWS
from geometry.stats.cross_moments import cross_moments, norm_products
from geometry.stats.uncertainty import jackknife

IN_MEMORY = 1024
"""Up to so many rows are held in memory, and have errors and nulls; more are streamed through their moments."""

N_PERMUTATIONS = 20

Values = Float[np.ndarray, "hook hook_b"]


@dataclass(frozen=True)
class Side:
    """The rows of one store that take part, and its sites."""

    store: ActivationStore
    hooks: tuple[Hook, ...]
    chosen: Bool[np.ndarray, " row"]

    def load(self) -> list[Float[Tensor, "chosen d"]]:
        """All sites' rows."""
        return [self.store.load(hook, self.chosen) for hook in self.hooks]

    def blocks(self, hook: Hook, n_rows: int) -> Iterator[Float[Tensor, "_ d"]]:
        """One site's rows in pieces."""
        return self.store.blocks(hook, self.chosen, n_rows=n_rows)


def between_layers(
    store: ActivationStore,
    *,
    measure: str = "cka",
    site: str = "resid_post",
    layers: Layers = "all",
    where: Where = None,
    seed: int = 0,
) -> LayerResult:
    """Similarity of every layer to every other on the same rows.

    Up to 1,024 rows come with a jackknife error over members and with permuted rows as description: the same rows are
    alike in all layers for many reasons, so that there is neither p nor interval. More are streamed: memory does not
    depend on their number, and there is neither; read `cka` beside `cka_debiased` then.

    Args:
        store: the store.
        measure: cka, cka_debiased, svcca or procrustes.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: a query over `store.rows`, or a mask; None for each prompt's last token. BOS is left out.
        seed: seeds the permutations.

    Raises:
        InputError: no such measure, site, layer or row.
    """
    seed = check_seed(seed)
    side = Side(store, site_hooks(store, site, layers), text_rows(store, where))
    return _grid(side, None, measure, _parameters(site, layers, where, seed))


def between_stores(
    a: ActivationStore,
    b: ActivationStore,
    *,
    measure: str = "cka",
    site: str = "resid_post",
    layers: Layers = "all",
    where: Where = None,
    seed: int = 0,
) -> LayerResult:
    """Similarity of every layer of one model to every layer of another, on the prompts that both stores have.

    Rows are matched by family, pair key (or text) and shown member; their widths may differ.

    Args:
        a: one model's store.
        b: another's.
        measure: cka, cka_debiased, svcca or procrustes.
        site: the kind of site, in both.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges, in both.
        where: a query over `store.rows`, or a mask of them, in both; None for each prompt's last token.
        seed: seeds the permutations.

    Raises:
        InputError: no such measure, site, layer or row, or the stores have no rows, or no common order of rows.
    """
    seed = check_seed(seed)
    sides = _aligned(a, b, where)
    left, right = (
        Side(store, site_hooks(store, site, layers), chosen) for store, chosen in zip((a, b), sides, strict=True)
    )
    return _grid(left, right, measure, _parameters(site, layers, where, seed))


def _parameters(site: str, layers: Layers, where: Where, seed: int) -> dict[str, object]:
    return {"site": site, "layers": layers_text(layers), "where": where_text(where), "seed": seed}


def _grid(left: Side, right: Side | None, measure: str, parameters: dict[str, object]) -> LayerResult:
    if measure not in GRID_MEASURES:
        raise InputError(f"no measure {measure!r} between layers; there are {', '.join(GRID_MEASURES)}")
    chosen, other = GRID_MEASURES[measure], right or left
    n_rows, same = int(left.chosen.sum()), right is None
    rows = left.store.rows[left.chosen]
    units = np.array(unit_of_rows(left.store, rows))
    if n_rows < 3:
        raise InputError(f"a similarity needs 3 rows; got {n_rows} for {parameters['where']!r}")
    if measure == "cka_debiased" and n_rows < DEBIASED_ROWS:
        raise InputError(f"debiased CKA needs {DEBIASED_ROWS} rows; got {n_rows} for {parameters['where']!r}")
    if n_rows <= IN_MEMORY:
        x = left.load()
        found = _held(chosen, x, x if same else other.load(), units, int(str(parameters["seed"])))
    else:
        found = {"value": _streamed(chosen, left, other, same=same)}
        found |= {name: np.full_like(found["value"], math.nan) for name in ("se", "null_mean", "null_max")}
    counts = {
        "n_members": len(set(units.tolist())),
        "n_templates": rows["template"].nunique(),
        "n_rows": n_rows,
    }
    table = _table(measure, left.hooks, other.hooks, found, counts)
    return LayerResult(
        name="grid",
        hooks=left.hooks,
        arrays={name: (("hook", "hook_b"), values) for name, values in found.items()},
        rows=pd.DataFrame(),
        parameters={**parameters, "measure": measure, "hooks_b": [hook.name for hook in other.hooks]},
        source="+".join(dict.fromkeys((left.store.fingerprint, other.store.fingerprint))),
        table=table,
    )


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


def _streamed(measure: GridMeasure, left: Side, right: Side, *, same: bool) -> Values:
    """Values of rows that are never all in memory, from their joint moments."""
    n_left, n_right, offset = len(left.hooks), len(right.hooks), 0 if same else len(left.hooks)
    sources = [partial(left.blocks, hook) for hook in left.hooks]
    sources += [] if same else [partial(right.blocks, hook) for hook in right.hooks]
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


def _aligned(
    a: ActivationStore, b: ActivationStore, where: Where
) -> tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row_b"]]:
    """The rows of both stores that stand for the same member of the same prompt."""
    masks = [text_rows(store, where) for store in (a, b)]
    keys = [_keys(store, mask) for store, mask in zip((a, b), masks, strict=True)]
    common = set(keys[0]) & set(keys[1])
    if not common:
        raise InputError(f"{a.paths[0].name} and {b.paths[0].name} have no row of the same prompt in common")
    kept = []
    for mask, key in zip(masks, keys, strict=True):
        mask = mask.copy()
        mask[np.flatnonzero(mask)[[one not in common for one in key]]] = False
        kept.append(mask)
    orders = [[one for one in key if one in common] for key in keys]
    if orders[0] != orders[1]:
        raise InputError(
            f"{a.paths[0].name} and {b.paths[0].name} hold the same prompts in different orders or a row more than "
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
