"""A value against its null, and against the limit that controls reached at any of many sites."""

import numpy as np
from jaxtyping import Bool, Float


def p_at_least(value: float, null: Float[np.ndarray, " draw"]) -> float:
    """How often a draw of the null is at least as large, the value itself counted among the draws.

    Returns:
        In [1 / (1 + n_draws), 1]; nan where the value or a draw is not finite, or there is no draw.
    """
    if not np.isfinite(value) or not len(null) or not np.isfinite(null).all():
        return float("nan")
    return float((1 + (null >= value - 1e-12 * max(1.0, abs(value))).sum()) / (1 + len(null)))


def control_limits(
    distances: Float[np.ndarray, "hook control side"],
    centres: Float[np.ndarray, " hook"],
    spreads: Float[np.ndarray, " hook"],
    used: Bool[np.ndarray, " hook"],
) -> Float[np.ndarray, " hook"]:
    """For each hook the value that no control family exceeded at any hook, counted in spreads of the null.

    Args:
        distances: how far each control's value lies above the mean of its own null, in its spreads.
        centres: the mean of the null of the two families compared, at each hook.
        spreads: its standard deviation, as that of the controls' nulls is found.
        used: hooks that take part.

    Returns:
        nan where fewer than 3 controls have a distance at any hook.
    """
    kept = distances[used]
    if np.isfinite(kept).any(axis=(0, 2)).sum() < 3:
        return np.full(len(centres), np.nan)
    return centres + float(kept[np.isfinite(kept)].max()) * spreads
