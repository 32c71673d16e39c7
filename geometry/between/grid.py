"""A similarity of every site to every other: of rows held in memory, resample by resample, or streamed, row by row."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from cache import Hook
from cache.store.view import View
from geometry.results.over import Analysis, Loop, over
from geometry.similarity.layer_measures import GridMeasure
from geometry.stats.cross_moments import Source, cross_moments, norm_products
from geometry.stats.moments import Moments
from geometry.stats.uncertainty import jackknife

N_PERMUTATIONS = 20

Values = Float[np.ndarray, "hook hook_b"]


@dataclass(frozen=True)
class Resample:
    """What a grid is computed on.

    Attributes:
        name: how it differs from all rows as they are.
        rows: those that are left of both sides; None for all.
        order: the order of the second side's rows, if another than the first's.
    """

    name: str
    rows: Int[np.ndarray, " kept"] | None = field(default=None, repr=False)
    order: Int[np.ndarray, " row"] | None = field(default=None, repr=False)


def resamples(units: Shaped[np.ndarray, " row"], seed: int) -> list[Resample]:
    """All rows, the rows without each unit, and the rows of one side in random orders."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(units)) for _ in range(N_PERMUTATIONS - 1)]
    without = {unit: np.flatnonzero(units != unit) for unit in np.unique(units).tolist()}
    return [
        Resample("all"),
        *(Resample(f"order {number}", order=order) for number, order in enumerate(orders)),
        *(Resample(f"without {unit}", rows=rows) for unit, rows in without.items()),
    ]


def held_grid(
    measure: GridMeasure,
    views: tuple[View, View],
    units: Shaped[np.ndarray, " row"],
    seed: int,
    analysis: Analysis,
    loop: Loop,
) -> dict[str, Values]:
    """Values, jackknife errors over units and the permutation null, of rows held in memory."""
    same = views[0] is views[1]
    x = [views[0].store.load(hook, views[0].chosen()) for hook in views[0].hooks]
    y = x if same else [views[1].store.load(hook, views[1].chosen()) for hook in views[1].hooks]

    @cache
    def fixed() -> list[Float[np.ndarray, "_ _"]]:
        return _prepared(measure, x)

    def unit(one: Resample) -> Values:
        if one.order is not None:
            return _combined(measure, fixed(), _prepared(measure, y, one.order))
        if one.rows is not None and len(one.rows) < 3:
            return np.full((len(x), len(y)), math.nan)
        left = fixed() if one.rows is None else _prepared(measure, x, one.rows)
        return _combined(measure, left, left if same else _prepared(measure, y, one.rows), symmetric=same)

    every = resamples(units, seed)
    value, *rest = over(every, unit, analysis, loop)
    null, left_out = np.stack(rest[: N_PERMUTATIONS - 1]), np.stack(rest[N_PERMUTATIONS - 1 :])
    return {"value": value, "se": jackknife(left_out), "null_mean": null.mean(axis=0), "null_max": null.max(axis=0)}


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


def streamed_grid(measure: GridMeasure, views: tuple[View, View], analysis: Analysis, loop: Loop) -> Values:
    """Values of rows that are never all in memory, from their joint moments."""
    left, right = views
    same = left is right
    n_left, offset = len(left.hooks), 0 if same else len(left.hooks)
    sources = [*_sources(left), *([] if same else _sources(right))]
    known: dict[int, Moments] = {}

    @cache
    def norms() -> Float[np.ndarray, "source source"]:
        n = len(sources)
        return norm_products(sources) if measure.debiased else np.full((n, n), math.nan)

    def row(hook: Hook) -> Float[np.ndarray, "two hook_b"]:
        """The values of one site with the others (those after it, of one store); 1 for those that vary, else nan."""
        i = left.hooks.index(hook)
        pairs = [(i, j + offset) for j in range(len(right.hooks)) if not same or j > i]
        values, varies = np.ones(len(right.hooks)), np.ones(len(right.hooks))
        for (_, j), joint in cross_moments(sources, pairs, known=known):
            values[j - offset] = measure.from_moments(joint, norms()[np.ix_((i, j), (i, j))])
            for k, side in ((i, joint.x), (j, joint.y)) if same else ():
                varies[k] = 1 if side.scatter.any() else math.nan
        return np.stack([values, varies])

    found = np.stack(over(left.hooks, row, analysis, loop))
    values = found[:, 0]
    if same:
        below = np.tril_indices(n_left, -1)
        values[below] = values.T[below]
        np.fill_diagonal(values, found[0, 1])  # the first site is set against all others
    return values


def _sources(view: View) -> list[Source]:
    def blocks(hook: Hook, n_rows: int) -> Iterator[Float[Tensor, "_ d"]]:
        return view.store.blocks(hook, chosen, n_rows=n_rows)

    chosen = view.chosen()
    return [partial(blocks, hook) for hook in view.hooks]
