"""Results of `geometry compare` put together by hand, for pictures and summaries that only read them."""

import numpy as np

from cache import Hook
from geometry.between.table import Found, comparison_result
from geometry.layers.order_effect import NO_LISTS
from geometry.similarity.pair_evidence import Known, Measured

LAYERS = (-1, 0, 1, 2)


def hooks():
    return (Hook("resid_pre", 0), *(Hook("resid_post", layer) for layer in LAYERS[1:]))


def known(*, n_members=8, own_p=0.005, reliability=0.9, lags=None):
    """What the measures of a pair have in common."""
    lags = np.array([-0.2, -0.1, 0.1, 0.9, 0.1, -0.1, -0.2]) if lags is None else lags
    return Known(own_p, reliability, 0.02, lags, n_members, 10)


def measured(value, *, half=0.1, unrelated=None, n_controls=20, control=0.1):
    """A value with an interval, unrelated codes around 0 and controls around `control`, at most 2 spreads away."""
    unrelated = 0.05 * np.random.default_rng(0).uniform(-1, 1, 119) if unrelated is None else np.array(unrelated)
    controls = np.linspace(-control, control, 2 * n_controls).reshape(n_controls, 2)
    drawn = unrelated if np.isfinite(value) else np.empty(0)
    return Measured(
        value=value,
        ci_low=value - half,
        ci_high=value + half,
        unrelated=drawn,
        scores=np.append(value, drawn) if len(drawn) else np.empty(0),
        permuted_mean=0.004,
        permuted_max=0.2,
        controls=controls,
        distances=controls / (control or 1.0) * 2,
        spread=float(np.std(unrelated)) if len(unrelated) else np.nan,
    )


def found(hook, pair, value, *, variant="plain", measure="matched_cosine", **choices):
    """One measured value; without one there is no index effect."""
    common = {name: choices.pop(name) for name in ("n_members", "own_p", "reliability", "lags") if name in choices}
    by_list = choices.pop("by_list", NO_LISTS)
    if np.isnan(value):
        common |= {"own_p": np.nan, "reliability": np.nan}
    return Found(
        hook=hook,
        pair=tuple(pair.split(" - ")),
        variant=variant,
        measure=measure,
        known=known(**common),
        measured=measured(value, **choices),
        index_removed=np.nan if variant == "plain" else 0.2,
        by_list=by_list,
        n_rows=160,
    )


def result(values, *, measure="matched_cosine", readout=True, **choices):
    """A comparison from `{"a - b": values over LAYERS}`; with the readout removed, a tenth is lost."""
    variants = ["plain"] + ["readout removed"] * readout
    every = [
        found(
            hook, pair, over_layers[i] * (1 if variant == "plain" else 0.9), variant=variant, measure=measure, **choices
        )
        for i, hook in enumerate(hooks())
        for pair, over_layers in values.items()
        for variant in variants
    ]
    parameters = {"site": "resid_post", "pairs": list(values), "variants": variants, "measures": [measure], "seed": 0}
    return comparison_result(every, hooks(), parameters, "ab" * 32)
