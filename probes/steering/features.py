"""Steps through a basis's features: what two groups differ by of them, written; and others in their place."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geometry.bases.basis import FeatureBasis
from probes.directions.estimators import mean_differences
from probes.directions.features import read_features

FEATURE_DIFFERENCE = "feature_difference"
RANDOM_FEATURES = "random_features"

N_NEAR = 10
"""Features that one in the place of another is drawn from: the nearest to it in frequency and deviation."""

_ROWS = 256  # features whose distances from all others are held at once


def feature_parts(
    basis: FeatureBasis,
    values: tuple[Float[Tensor, "pair feature"], Float[Tensor, "pair feature"]],
    keep: Bool[np.ndarray, "trial pair"],
    most: int | None = None,
) -> Float[Tensor, "trial feature"]:
    """For each trial the mean over its pairs of `f_y - f_x`, float64.

    Args:
        basis: whose features they are.
        values: of both sides of every pair.
        keep: the pairs of each trial.
        most: how many features count, those whose differences write most; the others' are 0. None for all.
    """
    parts = mean_differences(*values, keep)
    if most is None:
        return parts
    sizes = parts.abs() * basis.directions.double().norm(dim=1)
    chosen = sizes.topk(min(most, parts.shape[1]), dim=1).indices
    return torch.zeros_like(parts).scatter_(1, chosen, parts.gather(1, chosen))


def feature_step(
    method: str,
    basis: FeatureBasis,
    xy: tuple[Float[Tensor, "pair d"], Float[Tensor, "pair d"]],
    keep: Bool[np.ndarray, "trial pair"],
    most: int | None,
    seed: int,
) -> Float[Tensor, "trial d"]:
    """What alpha 1 adds by `feature_difference` or `random_features`, float64, of no length in particular.

    `feature_difference` is the mean difference of features through the directions: `(mean f_y - mean f_x) @
    directions`. In `random_features` other features stand in the place of those (`in_their_place`).
    """
    x, y = (read_features(basis, one) for one in xy)
    parts = feature_parts(basis, (x, y), keep, most)
    if method == RANDOM_FEATURES:
        parts = in_their_place(parts, torch.cat([x, y]), basis, np.random.default_rng([seed, len(method)]))
    return parts @ basis.directions.double()


def in_their_place(
    parts: Float[Tensor, "trial feature"],
    values: Float[Tensor, "row feature"],
    basis: FeatureBasis,
    rng: np.random.Generator,
) -> Float[Tensor, "trial feature"]:
    """Other features in the place of those that change: each writes as much as the one that it stands for.

    It is drawn for every trial from the 10 that are nearest in frequency (the share of rows where the feature is
    active) and in the deviation of what it writes, each by its ratio, among those that change in no trial; where there
    are not so many, among all that are active but itself. Signs are drawn too: of features that differ between the
    groups as the others do, half then point the wrong way.
    """
    lengths = basis.directions.double().norm(dim=1)
    active = (values != 0).any(dim=0) & (lengths > 0)
    changed = (parts != 0).any(dim=0)
    pool = torch.nonzero(active & ~changed)[:, 0]
    pool = pool if len(pool) >= N_NEAR else torch.nonzero(active)[:, 0]
    moved = torch.nonzero(changed & active)[:, 0]
    near = _nearest(values, lengths, moved, pool)
    if not near.shape[1] or not len(moved):
        return torch.zeros_like(parts)
    draws = torch.from_numpy(rng.integers(near.shape[1], size=(len(parts), len(moved))))
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], size=parts.shape))  # of those drawn: twice the same adds up
    to = near[torch.arange(len(moved)), draws]
    amounts = parts[:, moved].abs() * lengths[moved] / lengths[to]
    return signs * torch.zeros_like(parts).scatter_add_(1, to, amounts)


def _nearest(
    values: Float[Tensor, "row feature"],
    lengths: Float[Tensor, " feature"],
    moved: Int[Tensor, " moved"],
    pool: Int[Tensor, " other"],
) -> Int[Tensor, "moved near"]:
    """For each of some features the nearest of a pool, itself not among them."""
    frequency = (values != 0).double().mean(dim=0)
    deviation = values.double().std(dim=0, correction=0) * lengths
    at = torch.stack([frequency, deviation], dim=1).clamp_min(1e-12).log2()
    n = min(N_NEAR, len(pool) - int(torch.isin(moved, pool).any()))
    found = [torch.empty(0, max(n, 0), dtype=torch.int64)]
    for some in torch.split(moved, _ROWS):
        away = torch.cdist(at[some], at[pool], p=1)
        away[some[:, None] == pool[None]] = torch.inf
        found.append(pool[away.topk(max(n, 0), dim=1, largest=False).indices])
    return torch.cat(found)
