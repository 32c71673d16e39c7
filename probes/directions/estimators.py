"""Ways to find what tells one group of activations from another: each gives a step from `x` to `y`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cache.arrays import ArrayLike, as_pair
from cache.errors import InputError
from geometry.stats.draws import gaussian_combinations
from geometry.stats.linalg import row_space

Estimator = Callable[[ArrayLike, ArrayLike], Float[Tensor, " d"]]
"""From rows (pair, d) of one group and of another, matched in their order, to a step."""


def mean_difference(x: ArrayLike, y: ArrayLike) -> Float[Tensor, " d"]:
    """The mean of `y - x` over pairs.

    References: Rimsky et al. 2023, section 3 (arXiv:2312.06681).
    """
    x, y = _pairs(x, y)
    return mean_differences(x, y, np.ones((1, len(x)), dtype=bool))[0].float()


def mean_differences(
    x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"], keep: Bool[np.ndarray, "step pair"]
) -> Float[Tensor, "step d"]:
    """The mean of `y - x` over the pairs that each line of `keep` chooses, float64; 0 where it chooses none."""
    weights = keep / np.maximum(keep.sum(axis=1, keepdims=True), 1)
    return torch.from_numpy(weights) @ (y.double() - x.double())


def random_steps(
    x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"], n: int, rng: np.random.Generator
) -> Float[Tensor, "step d"]:
    """Steps with the activations' covariance within the two groups, float64, of no length in particular."""
    rows = torch.cat([one - one.mean(dim=0) for one in (x.double(), y.double())])
    return gaussian_combinations(rows, (n,), rng)


def principal_difference(x: ArrayLike, y: ArrayLike) -> Float[Tensor, " d"]:
    """The direction along which the pairs' differences are largest, turned the way most of them point.

    The differences are not centred: that would remove what they have in common.

    References: Zou et al. 2023, section 3.1 (arXiv:2310.01405); the sign as in repeng.
    """
    x, y = _pairs(x, y)
    differences = y.double() - x.double()
    first = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    return _as_long_as_the_mean(first if (differences @ first).mean() >= 0 else -first, differences)


def logistic(x: ArrayLike, y: ArrayLike) -> Float[Tensor, " d"]:
    """The weights of an L2-penalised logistic regression that tells `y` from `x`.

    Fitted in the rows' own space and at their overall scale (root mean square), where the penalty means the same at
    every layer.

    References: scikit-learn, LogisticRegression with C = 1.
    """
    from sklearn.linear_model import LogisticRegression

    return _weights(LogisticRegression(max_iter=1000, tol=1e-6), *_pairs(x, y))


def lda(x: ArrayLike, y: ArrayLike) -> Float[Tensor, " d"]:
    """Fisher's discriminant between `x` and `y`, the covariance within groups shrunk as Ledoit and Wolf say.

    References: Ledoit and Wolf 2004; scikit-learn, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return _weights(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), *_pairs(x, y))


def mean_only(x: ArrayLike, y: ArrayLike) -> Float[Tensor, " d"]:
    """The mean of `y` alone, with nothing taken away: as steering vectors without a contrast are made.

    `x` is not used; it is an argument as every estimator's.
    """
    x, y = _pairs(x, y)
    return mean_difference(torch.zeros_like(y), y)


METHODS: Mapping[str, Estimator] = MappingProxyType(
    {
        "mean_difference": mean_difference,
        "pca": principal_difference,
        "logistic": logistic,
        "lda": lda,
        "mean_only": mean_only,
    }
)
"""The ways to find a direction from activations alone."""


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[Float[Tensor, "pair d"], Float[Tensor, "pair d"]]:
    return as_pair(x, y, axes=("pair", "d"), same_shape=True)


def _as_long_as_the_mean(vector: Float[Tensor, " d"], differences: Float[Tensor, "pair d"]) -> Float[Tensor, " d"]:
    length = vector.double().norm()
    return (vector.double() * (differences.mean(dim=0).norm() / length.clamp_min(1e-300))).float()


def _weights(classifier: Any, x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"]) -> Float[Tensor, " d"]:
    """The weights of a linear classifier that tells `y` from `x`, as long as the mean difference.

    It is fitted to centred rows in coordinates of their own space, at root mean square 1: a ridge-type penalty does not
    see a rotation, so the fit is the same as in d dimensions.
    """
    rows = torch.cat([x, y]).double().numpy()
    rows = rows - rows.mean(axis=0)
    u, s, v = row_space(rows)
    if not len(s):
        raise InputError("all activations are the same, so nothing tells the groups apart")
    scale = float(np.sqrt((s**2).sum() / len(rows)))
    fitted = classifier.fit(u * (s / scale), np.repeat([0, 1], len(x)))
    return _as_long_as_the_mean(torch.from_numpy(fitted.coef_[0] @ v), y.double() - x.double())
