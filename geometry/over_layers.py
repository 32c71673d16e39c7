"""What holds over all layers together: p values and limits of values measured at many sites."""

import numpy as np
from jaxtyping import Bool, Float


def p_at_least(value: float, null: Float[np.ndarray, " draw"]) -> float:
    """How often a draw of the null is at least as large, the value itself counted among the draws.

    Returns:
        In [1 / (1 + n_draws), 1]; nan where the value is, or there is no draw.
    """
    if not np.isfinite(value) or not len(null):
        return float("nan")
    return float((1 + (null >= value - 1e-12 * max(1.0, abs(value))).sum()) / (1 + len(null)))


def p_over_layers(
    values: Float[np.ndarray, " hook"], nulls: Float[np.ndarray, "hook draw"]
) -> Float[np.ndarray, " hook"]:
    """P values that hold for all hooks together, by a studentised maximum.

    Values and draws are counted in spreads of each hook's own null from its mean; a value is set against the largest
    that each draw comes to at any hook. Unscaled, one noisy hook would drown all others.

    Args:
        values: one a hook; hooks with nan take no part.
        nulls: the null at each hook; the same draws at all of them.

    References: Westfall and Young 1993, section 2.6; Nichols and Holmes 2002.
    """
    used = np.isfinite(values) & np.isfinite(nulls).all(axis=1)
    found = np.full(len(values), np.nan)
    if used.any() and nulls.shape[1]:
        distances, drawn = studentised(values[used], nulls[used])
        largest = drawn.max(axis=0)
        found[used] = [p_at_least(one, largest) for one in distances]
    return found


def studentised(
    values: Float[np.ndarray, " hook"], nulls: Float[np.ndarray, "hook draw"]
) -> tuple[Float[np.ndarray, " hook"], Float[np.ndarray, "hook draw"]]:
    """Values and draws less the mean of each hook's null, in its standard deviations."""
    centre, spread = nulls.mean(axis=1), nulls.std(axis=1)
    spread = np.where(spread > 0, spread, 1.0)
    return (values - centre) / spread, (nulls - centre[:, None]) / spread[:, None]


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
        spreads: its standard deviation.
        used: hooks that take part.

    Returns:
        nan where fewer than 3 controls have a value.
    """
    kept = distances[used]
    kept = kept[np.isfinite(kept)]
    if distances.shape[1] < 3 or not len(kept):
        return np.full(len(centres), np.nan)
    return centres + float(kept.max()) * spreads
