"""An interval of a matched cosine: which true cosines an unrelated rest would turn into the one observed."""

import numpy as np
from jaxtyping import Float

LEVEL = 0.95


def cosine_interval(
    value: float,
    unrelated: Float[np.ndarray, " draw"],
    sizes: Float[np.ndarray, " draw"],
    error: float,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the cosine between two families' codes, by turning their null around.

    Let one family's code be `cos(a) x + sin(a) z`, x the other's and z an unrelated code of the same structure. Then
    the cosine observed depends on a, on the cosine t of x with z and on their sizes' ratio r alone:
    `tan(a) = sin(f) / (r cos(f + arcsin(t)))` with f the arc cosine of the value. The interval is that of cos(a) over
    draws of t, r and of the error that contexts leave. A jackknife over members of overlapping windows covers much
    less than it claims. The true cosine is that in the frames compared: their number is no sample of frames.

    Args:
        value: the matched cosine, corrected for its ceiling.
        unrelated: matched cosines of one family's code with unrelated ones of the other's structure.
        sizes: the size of unrelated codes, relative to their root mean square.
        error: standard error of the value over contexts.
        seed: seeds the draws of that error.

    Returns:
        Lower and upper limit in [-1, 1]; nan where the value or its error is, or there is no draw.

    References: inverting a test, Casella and Berger 2002, section 9.2.1.
    """
    if not np.isfinite([value, error]).all() or not len(unrelated):
        return float("nan"), float("nan")
    rng = np.random.default_rng([seed, 3])
    noise = rng.normal(size=len(unrelated)) * error
    seen = np.arccos(np.clip(np.clip(value, -1, 1) - noise, -1, 1))
    ratio = sizes / rng.permutation(sizes)
    away = np.arcsin(np.clip(unrelated, -1, 1))
    true = np.cos(np.arctan2(np.sin(seen), ratio * np.cos(seen + away)))
    low, high = np.quantile(true, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
