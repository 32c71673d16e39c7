"""The measured pairs of families as one result: p over layers, q over pairs, a verdict in each line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cache import Hook
from geometry.layers.order_effect import SharedByList
from geometry.results.dataset import Labels, from_lines, on_sites
from geometry.results.result import LayerResult
from geometry.similarity.family_measures import MEASURES
from geometry.similarity.of_families import MAX_LAG
from geometry.similarity.pair_evidence import Known, Measured
from geometry.similarity.verdict import Evidence, verdict
from geometry.stats.limits import control_limits, p_at_least
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.uncertainty import adjusted

DESCRIBES = "describes only"


@dataclass(frozen=True)
class Found:
    """One measure of one pair at one hook.

    Attributes:
        known: what all measures of the two families have in common.
        measured: the value and its company.
        index_removed: share of the families' index variance that the variant has removed; nan for the plain one.
        by_list: what the families share in increasing and reordered lists; empty without such lists.
    """

    hook: Hook
    pair: tuple[str, str]
    variant: str
    measure: str
    known: Known
    measured: Measured
    index_removed: float
    by_list: SharedByList
    n_rows: int


FOUND_TYPES = (Found, Hook, Known, Measured, SharedByList)
"""What it is made of."""


def comparison_result(
    found: Sequence[Found], hooks: Sequence[Hook], parameters: Mapping[str, Any], source: str
) -> LayerResult:
    """Put the values of all pairs and layers together; `found` is in order of hook, pair, variant and measure."""
    pairs, variants, measures = (parameters[name] for name in ("pairs", "variants", "measures"))
    shape = (len(hooks), len(pairs), len(variants), len(measures))
    over_layers, limits, orders = (np.full(shape, np.nan) for _ in range(3))
    grid = np.array([*found, None], dtype=object)[:-1].reshape(shape)
    for index in np.ndindex(shape[1:]):
        at = (slice(None), *index)
        column = list(grid[at])
        over_layers[at], limits[at] = _over_layers([one.measured for one in column])
        orders[at] = _order_p(column)
    lines = zip(found, over_layers.ravel(), limits.ravel(), orders.ravel(), strict=True)
    table = pd.DataFrame([_line(one, *map(float, numbers)) for one, *numbers in lines])
    table = _with_order_q(_with_verdicts(_with_q(table)))
    axes = {"hook": [hook.name for hook in hooks], "pair": pairs, "variant": variants, "measure": measures}
    most = max(len(one.measured.controls) for one in found)
    controls = np.full((len(found), most, 2), np.nan)
    for i, one in enumerate(found):
        controls[i, : len(one.measured.controls)] = one.measured.controls
    beside = {"controls": (("control", "side"), controls), "lag_profile": (("lag",), np.stack([*map(_lags, found)]))}
    arrays = from_lines(table.drop(columns=["a", "b"]), axes, beside)
    names = pd.DataFrame([(name, *one.pair) for name, one in zip(pairs, grid[0, :, 0, 0], strict=True)])
    labels: Labels = {"measure": measures, "variant": variants, "pair": names.set_axis(["pair", "a", "b"], axis=1)}
    labels = {**labels, "lag": range(-MAX_LAG, MAX_LAG + 1)}
    dataset = on_sites(hooks, parameters["site"], arrays, labels=labels)
    return LayerResult("compare", dataset, parameters, source, lines=tuple(axes))


def _over_layers(column: Sequence[Measured]) -> tuple[Float[np.ndarray, " hook"], Float[np.ndarray, " hook"]]:
    """P over all hooks of one measure of one pair, and the limit that controls reached at any."""
    n_scores = max(len(one.scores) for one in column)
    scores = np.stack([one.scores if len(one.scores) else np.full(n_scores, np.nan) for one in column])
    used = np.isfinite(scores).all(axis=1) & (n_scores > 0)
    centre = np.array([one.unrelated.mean() if len(one.unrelated) else math.nan for one in column])
    spread = np.array([one.spread for one in column])
    distances = np.stack([one.distances for one in column])
    return rank_p_over_layers(scores), control_limits(distances, centre, spread, used)


def _order_p(column: Sequence[Found]) -> Float[np.ndarray, " hook"]:
    """Where the increasing list ranks among the reordered ones, over all hooks at which the pair has a value."""
    there = np.isfinite([one.measured.value for one in column])
    products = np.stack([one.by_list.products for one in column])
    return rank_p_over_layers(np.where(there[:, None], products, np.nan))


def _line(one: Found, p_layers: float, limit: float, order_p: float) -> dict[str, Any]:
    """All of a line but q and the verdict, which depend on the other lines."""
    got, known = one.measured, one.known
    controls = got.controls[np.isfinite(got.controls)]
    line: dict[str, Any] = {
        "hook": one.hook.name,
        "measure": one.measure,
        "variant": one.variant,
        "pair": f"{one.pair[0]} - {one.pair[1]}",
        "a": one.pair[0],
        "b": one.pair[1],
        "value": got.value,
        "ci_low": got.ci_low,
        "ci_high": got.ci_high,
        "se_templates": known.error if one.measure == "matched_cosine" else math.nan,
        "p": p_at_least(got.scores[0], got.scores[1:]) if len(got.scores) else math.nan,
        "p_layers": p_layers,
        "p_floor": 1 / (1 + len(got.unrelated)) if len(got.unrelated) else math.nan,
    }
    line |= _summed("null", got.unrelated) | {"null_sd": float(got.unrelated.std()) if len(got.unrelated) else math.nan}
    line |= {"permuted_mean": got.permuted_mean, "permuted_max": got.permuted_max} | _summed("control", controls)
    return line | {
        "control_min": float(controls.min()) if len(controls) else math.nan,
        "control_limit": limit,
        "n_controls": len(got.controls),
        "own_p": known.own_p,
        "reliability": known.reliability,
        "index_removed": one.index_removed,
        "peak_lag": _peak(_lags(one)),
        "order_p": order_p if MEASURES[one.measure].decides else math.nan,
        "reordered": one.by_list.reordered,
        "order_bound": one.by_list.bound,
        "n_orders": max(len(one.by_list.products) - 1, 0),
        "n_members": known.n_members,
        "n_templates": known.n_templates,
        "n_rows": one.n_rows,
    }


def _summed(name: str, values: Float[np.ndarray, " draw"]) -> dict[str, float]:
    there = bool(len(values))
    return {
        f"{name}_mean": float(values.mean()) if there else math.nan,
        f"{name}_max": float(values.max()) if there else math.nan,
    }


def _lags(one: Found) -> Float[np.ndarray, " lag"]:
    """The lag profile; nan for measures that describe."""
    return one.known.lags if MEASURES[one.measure].decides else np.full(2 * MAX_LAG + 1, np.nan)


def _peak(lags: Float[np.ndarray, " lag"]) -> float:
    return float(np.nanargmax(lags)) - MAX_LAG if np.isfinite(lags).any() else math.nan


def _with_q(table: pd.DataFrame) -> pd.DataFrame:
    """Benjamini-Hochberg over the pairs, by the smallest p over layers of each; no layer's q is below its own p.

    Pairs that no layer of is reliable enough to be tested count as p = 1.
    """
    q = np.full(len(table), np.nan)
    for _, group in table.groupby(["measure", "variant"], sort=False):
        q[group.index] = _over_pairs(group, "p_layers", screened=1.0)
    table.insert(list(table.columns).index("p_floor") + 1, "q", q)
    return table


def _with_order_q(table: pd.DataFrame) -> pd.DataFrame:
    """The same for the order of the members, over the pairs that are called shared at some layer."""
    q = np.full(len(table), np.nan)
    for _, group in table.groupby(["measure", "variant"], sort=False):
        shared = group.groupby(["a", "b"])["verdict"].transform(lambda words: (words == "shared").any())
        mine = group[shared]
        q[mine.index] = _over_pairs(mine.assign(order_p=mine["order_p"].where(mine["verdict"] == "shared")), "order_p")
    table.insert(list(table.columns).index("order_p") + 1, "order_q", q)
    return table


def _over_pairs(group: pd.DataFrame, p: str, screened: float = math.nan) -> Float[np.ndarray, " line"]:
    best = group.groupby(["a", "b"], sort=False)[p].min()
    if not best.notna().any():
        return np.full(len(group), np.nan)
    by_pair = dict(zip(best.index, adjusted(best.fillna(screened).to_list()), strict=True))
    pairs = [by_pair[pair] for pair in zip(group["a"], group["b"], strict=True)]
    return np.where(group[p].notna(), np.maximum(pairs, group[p]), np.nan)


def _with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    names = tuple(Evidence.__dataclass_fields__)
    words = []
    for line in table.to_dict("records"):
        line["peak_lag"] = 0 if pd.isna(line["peak_lag"]) else int(line["peak_lag"])
        decides = MEASURES[line["measure"]].decides
        words.append(verdict(Evidence(**{name: line[name] for name in names})) if decides else DESCRIBES)
    return table.assign(verdict=words)
