"""The measures of layer against layer, which a map between two widths cannot touch: from rows, or from moments."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from torch import Tensor

from geometry.bases.canonical import KEEP, n_components, svcca_of_moments
from geometry.similarity.of_rows import centred_gram, cka_of_moments, matrix_cosine, turned_cosine, u_centred_gram
from geometry.stats.linalg import centre, row_space
from geometry.stats.moments import JointMoments

Prepared = Float[np.ndarray, "_ _"]
Norms = Float[np.ndarray, "2 2"]


@dataclass(frozen=True)
class GridMeasure:
    """A similarity of two sets of rows, in parts that many pairs share.

    Attributes:
        prepare: what is computed once for each layer.
        combine: the value from two prepared layers.
        from_moments: the value from joint moments, for rows that do not fit in memory, and from the four entries of
            `norm_products` for the two sides.
        debiased: whether it looks at those entries; they cost a pass over the rows.
    """

    prepare: Callable[[Float[Tensor, "row d"]], Prepared]
    combine: Callable[[Prepared, Prepared], float]
    from_moments: Callable[[JointMoments, Norms], float]
    debiased: bool = False


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


def _turned_of_moments(joint: JointMoments) -> float:
    own = np.sqrt(np.trace(joint.x.scatter) * np.trace(joint.y.scatter))
    return float(np.linalg.svd(joint.cross, compute_uv=False).sum() / own) if own > 0 else float("nan")


def _correlation_of_moments(joint: JointMoments) -> float:
    if not (joint.x.scatter.any() and joint.y.scatter.any()):
        return float("nan")
    return svcca_of_moments(joint)


def _debiased(joint: JointMoments, norms: Norms) -> float:
    """Debiased CKA in feature space: what `u_centred_gram` gives for rows, without any matrix of rows."""
    n = joint.x.n_rows
    products = {(0, 0): joint.x.scatter, (1, 1): joint.y.scatter, (0, 1): joint.cross}
    traces = np.trace(joint.x.scatter), np.trace(joint.y.scatter)
    own_x, own_y, between = (
        float(np.vdot(products[i, j], products[i, j]))
        - norms[i, j] * n / (n - 2)
        + traces[i] * traces[j] / ((n - 1) * (n - 2))
        for i, j in ((0, 0), (1, 1), (0, 1))
    )
    return float(between / np.sqrt(own_x * own_y)) if own_x > 0 and own_y > 0 else float("nan")


GRID_MEASURES = MappingProxyType(
    {
        "cka": GridMeasure(centred_gram, matrix_cosine, lambda joint, _: cka_of_moments(joint)),
        "cka_debiased": GridMeasure(u_centred_gram, matrix_cosine, _debiased, debiased=True),
        "svcca": GridMeasure(_leading, _mean_correlation, lambda joint, _: _correlation_of_moments(joint)),
        "procrustes": GridMeasure(_scores, turned_cosine, lambda joint, _: _turned_of_moments(joint)),
    }
)
"""By name."""
