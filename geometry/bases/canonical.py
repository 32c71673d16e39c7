"""Canonical correlations and their kin. They describe; with few rows they are high whatever the data.

In-sample correlations of n rows in d dimensions are near 1 as soon as d nears n, so that nothing here may be read
without the same number for permuted rows (the nulls of `geometry.similarity.family_measures`) or rows held out.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cache.arrays import ArrayLike, as_pair
from cache.errors import InputError
from geometry.bases.basis import LinearBasis
from geometry.stats.linalg import centre, eigen, entry_signs, row_space
from geometry.stats.moments import JointMoments

KEEP = 0.99
"""Share of variance that SVCCA's components reach."""


@dataclass(frozen=True)
class CanonicalCorrelation:
    """Pairs of directions along which two sets of rows correlate most.

    Attributes:
        correlations: falling, in [0, 1].
        x_basis: features of x: read with CCA's weights, written with its patterns (the covariance times the weights).
        y_basis: those of y.
    """

    correlations: Float[np.ndarray, " component"]
    x_basis: LinearBasis
    y_basis: LinearBasis


def cca(x: ArrayLike, y: ArrayLike, *, k: int | None = None, ridge: float = 0.0) -> CanonicalCorrelation:
    """Canonical correlation analysis, by the singular value decomposition of each side (Bjorck and Golub).

    Args:
        x: activations (row, dx).
        y: others of the same rows (row, dy).
        k: how many components; None for all, which is the smaller rank.
        ridge: added to each side's covariance, as a share of its mean variance. 0 leaves directions without variance
            out (singular values below 1e-6 of the largest) and changes nothing else.

    Returns:
        Components whose scores have variance 1 on these rows (with `ridge` 0). Where n_rows - 1 is no more than the
        sum of the ranks, some correlations are 1 for any data.

    Raises:
        InputError: the two differ in rows, there are fewer than 3, k is too large, or one side has no variance.
        NumbersError: a value is not finite.

    References: Bjorck and Golub 1973, section 3; Hotelling 1936. Patterns: Haufe et al. 2014, eq. 6.

    Example:
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> y = x @ torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -3.0]])  # x, turned and stretched
        >>> cca(x, y, k=2).correlations.round(4)
        array([1., 1.])
    """
    if not 0 <= ridge < math.inf:
        raise InputError(f"ridge must be a finite number of 0 or more; got {ridge}")
    x, y = _checked(x, y)
    left, right = _whitened(x, ridge), _whitened(y, ridge)
    most = min(len(left.scale), len(right.scale))
    if k is not None and not 1 <= k <= most:
        raise InputError(f"these rows have {most} canonical components; got k = {k}")
    u, correlations, v = np.linalg.svd(left.scores.T @ right.scores)
    k = most if k is None else k
    x_basis, signs = _basis(x, left, u[:, :k], None)
    y_basis, _ = _basis(y, right, v.T[:, :k], signs)
    return CanonicalCorrelation(correlations[:k].clip(0, 1), x_basis, y_basis)


def svcca(x: ArrayLike, y: ArrayLike, *, keep: float = KEEP) -> float:
    """Mean canonical correlation of the principal components that reach a share of each side's variance.

    Args:
        x: activations (row, dx).
        y: others of the same rows (row, dy).
        keep: the share that the components kept must reach, in (0, 1].

    Returns:
        In [0, 1].

    Raises:
        InputError: as for `cca`, or `keep` is out of range.
        NumbersError: a value is not finite.

    References: Raghu et al. 2017, section 2.1 (arXiv:1706.05806).
    """
    _check_keep(keep)
    sides = [u[:, : n_components(s**2, keep)] for u, s, _ in map(_row_space, _checked(x, y))]
    return float(np.linalg.svd(sides[0].T @ sides[1], compute_uv=False).clip(0, 1).mean())


def svcca_of_moments(moments: JointMoments, *, keep: float = KEEP) -> float:
    """`svcca` of rows that were read once, in blocks.

    Raises:
        InputError: as for `svcca`.
    """
    _check_keep(keep)
    readers = []
    for side in (moments.x, moments.y):
        values, directions = eigen(side.scatter)
        if values[0] <= 0:
            raise InputError("all rows are equal on one side; there is nothing to correlate")
        n_kept = n_components(values, keep)
        readers.append(directions[:n_kept] / np.sqrt(values[:n_kept, None]))
    return float(np.linalg.svd(readers[0] @ moments.cross @ readers[1].T, compute_uv=False).clip(0, 1).mean())


def pwcca(x: ArrayLike, y: ArrayLike) -> float:
    """Canonical correlations weighted by how much of x each of x's canonical variates accounts for.

    Not symmetric: the weights are x's, the sum over x's dimensions of the magnitude of its product with the variate.

    Returns:
        In [0, 1].

    Raises:
        InputError: as for `cca`.
        NumbersError: a value is not finite.

    References: Morcos et al. 2018, eq. 2 (arXiv:1806.05759).
    """
    x, y = _checked(x, y)
    result = cca(x, y)
    variates = result.x_basis.encode(x.double()).numpy()
    weights = np.abs(variates.T @ centre(x.numpy())).sum(axis=1)
    return float(weights @ result.correlations / weights.sum())


def held_out_cca(
    x: ArrayLike,
    y: ArrayLike,
    units: Sequence[Hashable] | Shaped[np.ndarray, " row"],
    *,
    k: int = 1,
) -> float:
    """Mean correlation of the first k canonical variates on units that were left out of every fit.

    Each unit is left out in turn: means, the first k principal components of each side and the canonical directions
    among them are fitted to the others, and the unit's rows are projected. The correlation is taken over all rows so
    projected; variates of unrelated sides correlate 0 on average, not above.

    Args:
        x: activations (row, dx).
        y: others of the same rows (row, dy).
        units: the member of each row.
        k: how many components.

    Returns:
        In [-1, 1].

    Raises:
        InputError: fewer than 5 units a component, or as for `cca`.
        NumbersError: a value is not finite.
    """
    members = np.asarray(units)
    labels = np.unique(members)
    if len(labels) < 5 * k:
        raise InputError(f"held-out CCA needs 5 members a component: {5 * k} for k = {k}; got {len(labels)}")
    # in the coordinates of their own row space all inner products stay, and folds are cheap
    sides = [u * s for u, s, _ in map(_row_space, _checked(x, y))]
    if members.shape != (len(sides[0]),):
        raise InputError(f"each of {len(sides[0])} rows needs its member in units; got the shape {members.shape}")
    most = min(side.shape[1] for side in sides)
    if not 1 <= k <= most:
        raise InputError(f"these rows have {most} canonical components; got k = {k}")
    left_out = [np.zeros((len(members), k)), np.zeros((len(members), k))]
    for label in labels:
        train = members != label
        whitened = [_train(side[train], k) for side in sides]
        u, _, v = np.linalg.svd(whitened[0][2].T @ whitened[1][2])
        for scores, side, (mean, reader, _), turn in zip(left_out, sides, whitened, (u, v.T), strict=True):
            scores[~train, : len(turn)] = (side[~train] - mean) @ reader @ turn  # a fold may have fewer components
    products = (left_out[0] * left_out[1]).sum(axis=0)
    sizes = np.sqrt((left_out[0] ** 2).sum(axis=0) * (left_out[1] ** 2).sum(axis=0))
    return float(np.mean(products / np.where(sizes > 0, sizes, np.inf)))


def _check_keep(keep: float) -> None:
    if not 0 < keep <= 1:
        raise InputError(f"keep is a share of variance, above 0 and at most 1; got {keep}")


def n_components(variances: Float[np.ndarray, " component"], keep: float) -> int:
    """How many of the largest variances reach a share of their sum; the scale does not matter."""
    shares = np.cumsum(variances) / variances.sum()
    return min(int(np.searchsorted(shares, keep - 1e-12)) + 1, len(variances))


@dataclass(frozen=True)
class _Whitened:
    scores: Float[np.ndarray, "row rank"]
    scale: Float[np.ndarray, " rank"]
    directions: Float[np.ndarray, "rank d"]


def _whitened(x: Float[Tensor, "row d"], ridge: float) -> _Whitened:
    """Scores of unit sum of squares (less with a ridge) and the singular values they were divided by."""
    u, s, v = _row_space(x)
    scale = np.sqrt(s**2 + ridge * (s**2).sum() / x.shape[1])
    return _Whitened(u * (s / scale), scale, v)


def _basis(
    x: Float[Tensor, "row d"], side: _Whitened, turn: Float[np.ndarray, "rank k"], signs: Float[np.ndarray, " k"] | None
) -> tuple[LinearBasis, Float[np.ndarray, " k"]]:
    """The basis with unit variance of its scores, and its signs; None for those that make the patterns positive."""
    root = np.sqrt(len(x) - 1)
    readers = (turn / side.scale[:, None]).T @ side.directions * root
    patterns = (turn * side.scale[:, None]).T @ side.directions / root
    signs = entry_signs(patterns) if signs is None else signs
    basis = LinearBasis(
        offset=x.double().mean(dim=0),
        directions=torch.from_numpy(patterns * signs[:, None]),
        readers=torch.from_numpy(readers * signs[:, None]),
        deviations=torch.from_numpy(np.linalg.norm(side.scores @ turn, axis=0)),
    )
    return basis, signs


def _row_space(
    x: Float[Tensor, "row d"],
) -> tuple[Float[np.ndarray, "row rank"], Float[np.ndarray, " rank"], Float[np.ndarray, "rank d"]]:
    """The SVD of the centred rows without its zero singular values (`row_space`), of which some must be left."""
    u, s, v = row_space(centre(x.numpy()))
    if not len(s):
        raise InputError("all rows are equal on one side; there is nothing to correlate")
    return u, s, v


def _train(
    x: Float[np.ndarray, "row rank"], k: int
) -> tuple[Float[np.ndarray, " rank"], Float[np.ndarray, "rank kept"], Float[np.ndarray, "row kept"]]:
    """Mean, whitening map onto the first k principal components, and the whitened rows."""
    mean = x.mean(axis=0)
    values, directions = eigen((x - mean).T @ (x - mean))
    k = min(k, int((values > 1e-12 * values[0]).sum())) or 1
    reader = (directions[:k] / np.sqrt(values[:k, None].clip(min=1e-300))).T
    return mean, reader, (x - mean) @ reader


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[Float[Tensor, "row dx"], Float[Tensor, "row dy"]]:
    x, y = as_pair(x, y)
    if len(x) < 3:
        raise InputError(f"a correlation needs 3 rows; got {len(x)}")
    return x, y
