"""Which families take the place of those that are probed: draws that are, of unrelated families, as good as they."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from geometry.stats.uncertainty import LEAST_CONTROLS


def control_draws(
    names: Sequence[str], pool: Sequence[str], n_draws: int, seed: int
) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """Draws of as many families as are probed, and whether the probed families can be ranked among them.

    They can where the controls alone would give 19 different draws. The draws are then subsets of families and controls
    together, other than the families themselves: if the families are like the controls, any subset is as good. Draws of
    controls alone would overlap with one another and not with the families, which of 2 to 4 families in twenty controls
    makes p too small by a half. Else they are the subsets of controls, for description.

    Args:
        names: the families that are probed.
        pool: controls with the same contexts and members.
        n_draws: how many draws; fewer where there are fewer.
        seed: seeds them.

    Returns:
        The draws, and whether p can be taken from them.
    """
    size = len(names)
    if math.comb(len(pool), size) < LEAST_CONTROLS:
        return tuple(combinations(pool, size)), False
    together, own = [*names, *pool], tuple(range(size))
    if math.comb(len(together), size) - 1 <= n_draws:
        chosen = [one for one in combinations(range(len(together)), size) if one != own]
        return tuple(tuple(together[i] for i in one) for one in chosen), True
    rng, found = np.random.default_rng((seed, 2)), {own: None}
    while len(found) <= n_draws:
        found[tuple(sorted(rng.choice(len(together), size, replace=False).tolist()))] = None
    return tuple(tuple(together[i] for i in one) for one in list(found)[1:]), True
