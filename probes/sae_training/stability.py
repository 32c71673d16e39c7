"""Whether seeds find the same features: each SAE's matched one by one to another's, beside directions that are none."""

from collections.abc import Sequence
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.store import ActivationStore
from geometry.bases.nonnegative import matched_cosines
from geometry.stats.draws import gaussian_combinations
from probes.sae.basis import SAEBasis
from probes.sae.quality import ALL, tallies

ALIKE = 0.7
"""Cosine above which two features are told to be the same."""

BANDS = MappingProxyType(
    {"all": (-1.0, 1.0), "dead": (-1.0, 0.0), "to .001": (0.0, 1e-3), "to .01": (1e-3, 1e-2), "to .1": (1e-2, 0.1)}
    | {"to 1": (0.1, 1.0)}
)
"""Features by the share of rows in which they are active: above the first number, up to the second."""

_MOST_ROWS = 4096  # from which the null's directions are drawn


def seed_stability(
    saes: Sequence[SAEBasis],
    store: ActivationStore,
    rows: Bool[np.ndarray, " row"],
    *,
    n_draws: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Matched cosines of each two SAEs of one site, by how often the first one's features are active.

    No two features have the same partner, and the sum of cosines is the largest (Hungarian matching). Features that
    point against each other are no match: 0.

    Args:
        saes: of one site and width; different seeds.
        store: the store.
        rows: from which frequencies and the null are taken, such as those of documents left out.
        n_draws: of the null: as many directions, drawn from the covariance of the rows, in the second one's place.
        seed: of the null.

    Returns:
        A row for each two and band of `BANDS`: `first`, `second`, `band`, `n_features`, `cosine` (mean), `above` (the
        share of features above `ALIKE`), `null_cosine` and `null_above`, their means over draws. nan of no features.

    Raises:
        InputError: fewer than two SAEs, not of one site, or no row.

    References: Paulo and Belrose 2025 (arXiv:2501.16615); the mean, up to signs, Song et al. 2025 (arXiv:2505.20254).
    """
    if len(saes) < 2 or len({sae.hook for sae in saes}) > 1 or not rows.any() or n_draws < 1:
        raise InputError(
            f"stability takes two SAEs of one site, rows and a draw; got {len(saes)} and {rows.sum()} rows"
        )
    of_all = np.array([""] * int(rows.sum()))
    found = [tallies(sae, store, rows, of_all)[ALL] for sae in saes]
    active = [(tally.active.double() / tally.n_rows).numpy() for tally in found]
    draws = _null_directions(saes[0], store, rows, n_draws, check_seed(seed))
    directions = [sae.directions.double().numpy() for sae in saes]
    null = [np.stack([matched_cosines(one, draw) for draw in draws]) for one in directions[:-1]]
    lines = []
    for i, j in combinations(range(len(saes)), 2):
        cosines = matched_cosines(directions[i], directions[j])
        names = {"first": saes[i].origin.name, "second": saes[j].origin.name}
        for band, (low, high) in BANDS.items():
            chosen = (active[i] > low) & (active[i] <= high)
            lines.append({**names, "band": band, **_said(cosines[chosen], null[i][:, chosen])})
    return pd.DataFrame(lines)


def _said(cosines: Float[np.ndarray, " feature"], null: Float[np.ndarray, "draw feature"]) -> dict[str, float]:
    some = len(cosines) > 0
    return {
        "n_features": len(cosines),
        "cosine": float(np.mean(cosines)) if some else np.nan,
        "above": float((cosines > ALIKE).mean()) if some else np.nan,
        "null_cosine": float(np.mean(null)) if some else np.nan,
        "null_above": float((null > ALIKE).mean()) if some else np.nan,
    }


def _null_directions(
    sae: SAEBasis, store: ActivationStore, rows: Bool[np.ndarray, " row"], n_draws: int, seed: int
) -> Float[np.ndarray, "draw feature d"]:
    if sae.hook is None:
        raise InputError(f"{sae.origin.name} is of no site that stores have; load it with store=")
    numbers = np.flatnonzero(rows)
    mask = np.zeros(len(rows), dtype=bool)
    mask[numbers[np.linspace(0, len(numbers) - 1, min(_MOST_ROWS, len(numbers))).astype(int)]] = True
    x = store.load(sae.hook, mask).double()
    rng = np.random.default_rng(seed)
    return gaussian_combinations(x - x.mean(dim=0), (n_draws, len(sae.directions)), rng).numpy()
