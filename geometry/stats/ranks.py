"""Where a value ranks among draws of a null that is treated in every respect as the value is.

The value itself is one of the draws that centre and scale: set against means and spreads that leave it out, its
distance would have heavier tails than theirs, and over many layers p would be too small.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from geometry.stats.uncertainty import adjusted


def rank_p(scores: Float[np.ndarray, "draw key"]) -> float:
    """How often a draw is at least as large as the first, the first counted; later keys decide where earlier ones tie.

    Args:
        scores: the value, then the draws of its null; by several keys, such as a share and an effect.

    Returns:
        In [1 / n_draws, 1]; nan where there is the value alone, or a key is nan.
    """
    if len(scores) < 2 or np.isnan(scores).any():
        return float("nan")
    own, at_least = scores[0], np.ones(len(scores), dtype=bool)
    for key, value in zip(scores.T[::-1], own[::-1], strict=True):
        equal = np.abs(key - value) <= 1e-9 * max(1.0, abs(value))
        at_least = np.where(equal, at_least, key > value)
    return float(at_least.mean())


def rank_p_over_layers(scores: Float[np.ndarray, "hook draw"]) -> Float[np.ndarray, " hook"]:
    """P values that hold for all hooks together, by a studentised maximum in which value and draws are treated alike.

    At each hook all draws, the value first among them, are centred and scaled by their common mean and standard
    deviation; the value there is set against the largest that each draw comes to at any hook. Where all are equal,
    nobody is above the mean.

    Args:
        scores: at each hook the value, then the draws of its null; a draw is the same draw at all hooks. Hooks where
            one is nan take no part.

    Returns:
        One a hook, the smallest of which is the p of all hooks; nan where a hook takes no part, or without draws.

    References: single-step maxT, Westfall and Young 1993, section 2.3.
    """
    used = np.isfinite(scores).all(axis=1)
    found = np.full(len(scores), np.nan)
    if scores.shape[1] < 2 or not used.any():
        return found
    kept = scores[used]
    spread = kept.std(axis=1, keepdims=True)
    flat = spread <= 1e-12 * np.abs(kept).max(axis=1, keepdims=True)
    distances = np.where(flat, 0.0, (kept - kept.mean(axis=1, keepdims=True)) / np.where(flat, 1.0, spread))
    largest = distances.max(axis=0)
    found[used] = [(1 + (largest[1:] >= one - 1e-12).sum()) / len(largest) for one in distances[:, 0]]
    return found


def corrected(
    table: pd.DataFrame, scores: Float[np.ndarray, "line draw"], keys: list[str], tested: Bool[np.ndarray, " line"]
) -> pd.DataFrame:
    """P values over layers, and over all that is tested: the columns `p_layers` and `q` of a table.

    Args:
        table: one line a layer and case.
        scores: of each line the value, then the draws of its null.
        keys: the columns whose values make a case.
        tested: lines of cases that count as tests; others have `p_layers` only.

    Returns:
        Columns for the table's lines. `p_layers` holds for all layers of the line's case; `q` is the Benjamini-Hochberg
        adjusted smallest of the case's, or the line's own `p_layers` where that is larger.
    """
    p_layers, q = np.full(len(table), np.nan), np.full(len(table), np.nan)
    groups = [np.asarray(rows) for rows in table.reset_index(drop=True).groupby(keys, sort=False).indices.values()]
    for rows in groups:
        p_layers[rows] = rank_p_over_layers(scores[rows])
    cases = [rows for rows in groups if tested[rows].all()]
    smallest = [p_layers[rows].min() if np.isfinite(p_layers[rows]).all() else np.nan for rows in cases]
    for rows, value in zip(cases, adjusted(smallest), strict=True):
        q[rows] = np.maximum(p_layers[rows], value)
    return pd.DataFrame({"p_layers": p_layers, "q": q}, index=table.index)
