"""The measures of layer against layer, which a map between two widths cannot touch: from rows, or from moments."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from torch import Tensor

from geometry.canonical import KEEP, n_components, svcca_of_moments
from geometry.cross_moments import Crossed
from geometry.linalg import centre, row_space
from geometry.moments import JointMoments
from geometry.similarity import (
    centred_gram,
    cka_of_moments,
    matrix_cosine,
    u_centred_gram,
)

Prepared = Float[np.ndarray, "_ _"]


@dataclass(frozen=True)
class GridMeasure:
    """A similarity of two sets of rows, in parts that many pairs share.

    Attributes:
        prepare: what is computed once for each layer.
        combine: the value from two prepared layers.
        from_moments: the value from joint moments, for rows that do not fit in memory.
    """

    prepare: Callable[[Float[Tensor, "row d"]], Prepared]
    combine: Callable[[Prepared, Prepared], float]
    from_moments: Callable[[Crossed], float]


def _leading(x: Float[Tensor, "row d"]) -> Prepared:
    """Orthonormal scores on the principal components that reach 99 % of the variance."""
    u, s, _ = row_space(centre(x.numpy()))
    return u[:, : n_components(s**2, KEEP)] if len(s) else u


def _scores(x: Float[Tensor, "row d"]) -> Prepared:
    u, s, _ = row_space(centre(x.numpy()))
    return u * s


def _mean_correlation(x: Prepared, y: Prepared) -> float:
    if not (x.size and y.size):
        return float("nan")
    return float(np.linalg.svd(x.T @ y, compute_uv=False).clip(0, 1).mean())


def _turned(x: Prepared, y: Prepared) -> float:
    own = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.linalg.svd(x.T @ y, compute_uv=False).sum() / own) if own > 0 else float("nan")


def _turned_of_moments(joint: JointMoments) -> float:
    own = np.sqrt(np.trace(joint.x.scatter) * np.trace(joint.y.scatter))
    return float(np.linalg.svd(joint.cross, compute_uv=False).sum() / own) if own > 0 else float("nan")


def _correlation_of_moments(joint: JointMoments) -> float:
    if not (joint.x.scatter.any() and joint.y.scatter.any()):
        return float("nan")
    return svcca_of_moments(joint)


def _debiased(crossed: Crossed) -> float:
    """Debiased CKA in feature space: what `u_centred_gram` gives for rows, without any matrix of rows."""
    joint, n = crossed.joint, crossed.joint.x.n_rows
    traces = np.trace(joint.x.scatter), np.trace(joint.y.scatter)

    def hsic(product: Float[np.ndarray, "dx dy"], norms: float, trace_x: float, trace_y: float) -> float:
        square = float(np.vdot(product, product))
        return square - norms * n / (n - 2) + trace_x * trace_y / ((n - 1) * (n - 2))

    own_x = hsic(joint.x.scatter, crossed.norms_x, traces[0], traces[0])
    own_y = hsic(joint.y.scatter, crossed.norms_y, traces[1], traces[1])
    between = hsic(joint.cross, crossed.norms_xy, *traces)
    return between / float(np.sqrt(own_x * own_y)) if own_x > 0 and own_y > 0 else float("nan")


GRID_MEASURES = MappingProxyType(
    {
        "cka": GridMeasure(centred_gram, matrix_cosine, lambda crossed: cka_of_moments(crossed.joint)),
        "cka_debiased": GridMeasure(u_centred_gram, matrix_cosine, _debiased),
        "svcca": GridMeasure(_leading, _mean_correlation, lambda crossed: _correlation_of_moments(crossed.joint)),
        "procrustes": GridMeasure(_scores, _turned, lambda crossed: _turned_of_moments(crossed.joint)),
    }
)
"""By name."""
