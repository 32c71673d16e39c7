"""The measured pairs of families as one result: p over layers, q over pairs, a verdict in each line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from cache import Hook
from geometry.evidence import adjusted, control_limits
from geometry.index_sharing import MAX_LAG
from geometry.layerwise import LayerResult
from geometry.measures import MEASURES
from geometry.permutations import max_statistic_p, permutation_p
from geometry.verdict import Evidence, verdict

DESCRIBES = "describes only"
NUMBERS: tuple[str, ...] = ("value", "se", "ci_low", "ci_high", "null_mean", "null_max", "p", "p_layers")
NUMBERS += ("control_mean", "control_min", "control_max", "control_limit")


@dataclass(frozen=True)
class Measured:
    """A value and its company.

    Attributes:
        null: values under permuted members, the true one first.
        controls: for each control family, its value with the first and with the second family.
    """

    value: float
    se: float
    ci_low: float
    ci_high: float
    null: Float[np.ndarray, " permutation"]
    controls: Float[np.ndarray, "control side"]


@dataclass(frozen=True)
class Found:
    """One measure of one pair at one hook.

    Attributes:
        measured: its value and company.
        se_templates: its bootstrap error over templates; nan for measures without.
        own_p: the larger p of the two families' own index effects.
        lags: the lag profile; nan for measures that only describe.
    """

    hook: Hook
    pair: tuple[str, str]
    variant: str
    measure: str
    measured: Measured
    se_templates: float
    own_p: float
    lags: Float[np.ndarray, " lag"]
    n_members: int
    n_templates: int
    n_rows: int


def comparison_result(
    found: Sequence[Found], hooks: Sequence[Hook], parameters: Mapping[str, Any], source: str
) -> LayerResult:
    """Put the values of all pairs and layers together; `found` is in order of hook, pair, variant and measure."""
    pairs, variants, measures = (parameters[name] for name in ("pairs", "variants", "measures"))
    shape = (len(hooks), len(pairs), len(variants), len(measures))
    over_layers, limits = np.full(shape, np.nan), np.full(shape, np.nan)
    grid = np.array([*found, None], dtype=object)[:-1].reshape(shape)
    for index in np.ndindex(shape[1:]):
        column = list(grid[(slice(None), *index)])
        over_layers[(slice(None), *index)] = max_statistic_p(_nulls(column))
        limits[(slice(None), *index)] = control_limits([one.measured.controls for one in column])
    lines = zip(found, over_layers.ravel(), limits.ravel(), strict=True)
    table = pd.DataFrame([_line(one, float(p), float(limit)) for one, p, limit in lines])
    table = _with_q(table)
    axes = ("hook", "pair", "variant", "measure")
    arrays: dict[str, tuple[tuple[str, ...], Shaped[np.ndarray, ...]]] = {
        name: (axes, table[name].to_numpy(dtype=np.float64).reshape(shape)) for name in NUMBERS
    }
    most = max(len(one.measured.controls) for one in found)
    controls = np.full((len(found), most, 2), np.nan)
    for i, one in enumerate(found):
        controls[i, : len(one.measured.controls)] = one.measured.controls
    arrays["controls"] = ((*axes, "control", "side"), controls.reshape(*shape, most, 2))
    arrays["lag_profile"] = ((*axes, "lag"), np.stack([one.lags for one in found]).reshape(*shape, -1))
    return LayerResult(
        name="compare",
        hooks=tuple(hooks),
        arrays=arrays,
        rows=pd.DataFrame(),
        parameters=parameters,
        source=source,
        table=table,
    )


def _nulls(column: Sequence[Found]) -> Float[np.ndarray, "hook permutation"]:
    """The nulls of one measure at all hooks, of one length: a hook without a value has nan, however many."""
    nulls = [one.measured.null for one in column]
    least = min(map(len, nulls))
    return np.stack([null if np.isfinite(null[0]) else np.full(least, np.nan) for null in nulls])


def _line(one: Found, p_layers: float, limit: float) -> dict[str, Any]:
    a, b = one.pair
    got = one.measured
    controls = got.controls[np.isfinite(got.controls)]
    permuted = got.null[1:] if np.isfinite(got.value) else got.null[:0]
    line: dict[str, Any] = {
        "layer": one.hook.table_layer,
        "site": one.hook.kind,
        "hook": one.hook.name,
        "measure": one.measure,
        "variant": one.variant,
        "a": a,
        "b": b,
        "value": got.value,
        "se": got.se,
        "se_templates": one.se_templates,
        "ci_low": got.ci_low,
        "ci_high": got.ci_high,
        "null_mean": float(permuted.mean()) if len(permuted) else math.nan,
        "null_max": float(permuted.max()) if len(permuted) else math.nan,
        "p": permutation_p(got.null) if len(permuted) else math.nan,
        "p_layers": p_layers if len(permuted) else math.nan,
        "p_floor": 1 / len(got.null) if len(permuted) else math.nan,
        "control_mean": float(controls.mean()) if len(controls) else math.nan,
        "control_min": float(controls.min()) if len(controls) else math.nan,
        "control_max": float(controls.max()) if len(controls) else math.nan,
        "control_limit": limit,
        "n_controls": len(got.controls),
        "own_p": one.own_p,
        "peak_lag": _peak(one.lags),
        "n_members": one.n_members,
        "n_templates": one.n_templates,
        "n_rows": one.n_rows,
    }
    return line | {"verdict": _word(one, line)}


def _word(one: Found, line: Mapping[str, Any]) -> str:
    if not MEASURES[one.measure].decides:
        return DESCRIBES
    names = ("value", "ci_low", "ci_high", "own_p", "control_limit", "n_controls", "n_members")
    return verdict(Evidence(**{name: line[name] for name in names}, p=line["p_layers"], peak_lag=line["peak_lag"] or 0))


def _peak(lags: Float[np.ndarray, " lag"]) -> int | None:
    return int(np.nanargmax(lags)) - MAX_LAG if np.isfinite(lags).any() else None


def _with_q(table: pd.DataFrame) -> pd.DataFrame:
    """Benjamini-Hochberg over the pairs: each is tested once a measure, by its smallest p over layers."""
    q = np.full(len(table), np.nan)
    for _, group in table.groupby(["measure", "variant"], sort=False):
        best = group.groupby(["a", "b"], sort=False)["p_layers"].min()
        by_pair = dict(zip(best.index, adjusted(best.to_list()), strict=True))
        q[group.index] = [by_pair[pair] for pair in zip(group["a"], group["b"], strict=True)]
    table.insert(list(table.columns).index("p_floor") + 1, "q", q)
    return table
