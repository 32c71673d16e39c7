"""Results of `geometry compare` put together by hand, for pictures and summaries that only read them."""

import numpy as np

from cache import Hook
from geometry.between_table import Found, Measured, comparison_result

LAYERS = (-1, 0, 1, 2)


def hooks():
    return (Hook("resid_pre", 0), *(Hook("resid_post", layer) for layer in LAYERS[1:]))


def found(hook, pair, value, *, variant="plain", measure="matched_cosine", n_members=8, n_controls=20, control=0.1):
    """One measured value with an error of .05, 120 permutations around 0 and controls around `control`."""
    rng = np.random.default_rng(0)
    null = np.concatenate([[value], 0.2 * rng.uniform(-1, 1, 119)])
    lags = np.array([-0.2, -0.1, 0.1, value, 0.1, -0.1, -0.2]) if measure == "matched_cosine" else np.full(7, np.nan)
    return Found(
        hook=hook,
        pair=tuple(pair.split(" - ")),
        variant=variant,
        measure=measure,
        measured=Measured(
            value=value,
            se=0.05 if n_members >= 5 else np.nan,
            ci_low=value - 0.1 if n_members >= 7 else np.nan,
            ci_high=value + 0.1 if n_members >= 7 else np.nan,
            null=null,
            controls=np.linspace(-control, control, 2 * n_controls).reshape(n_controls, 2),
        ),
        se_templates=0.02,
        own_p=np.nan if np.isnan(value) else 0.005,
        lags=lags,
        n_members=n_members,
        n_templates=10,
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
