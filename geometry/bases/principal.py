"""Decompositions of activations into orthonormal directions: SVD and PCA, from rows or from their moments."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache.arrays import ArrayLike, as_pair, as_rows
from cache.errors import InputError
from cache.shown.cards import card
from geometry.bases.basis import FeatureBasis, deviations_of, orthonormal_basis
from geometry.stats.linalg import eigen, fix_signs
from geometry.stats.moments import Moments


@dataclass(frozen=True)
class Decomposition:
    """Features found in activations, and how much of the activations they are.

    Attributes:
        basis: the features; `basis.directions` in order of falling variance (of falling share for NMF).
        spectrum: variance along every component that the data has, falling, in squared activation units; for
            `svd` the mean square instead.
        explained_variance: that of the components kept.
        explained_variance_ratio: the same as a share of the total, in [0, 1].
        reconstruction_error: the share of the total that the components kept leave out, in [0, 1].
        n_rows: how many rows it was fitted on.
    """

    basis: FeatureBasis
    spectrum: Float[np.ndarray, " all"]
    explained_variance: Float[np.ndarray, " component"]
    explained_variance_ratio: Float[np.ndarray, " component"]
    reconstruction_error: float
    n_rows: int

    @property
    def directions(self) -> Float[Tensor, "component d"]:
        """The directions of the basis."""
        return self.basis.directions

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """What the basis decodes where every feature is 0: the mean that was subtracted (0 for `svd`)."""
        return self.basis.decode(torch.zeros(len(self.basis.directions)))

    @property
    def n_components(self) -> int:
        """How many components were kept."""
        return len(self.directions)

    def scores(self, x: ArrayLike) -> Float[Tensor, "row component"]:
        """Feature values of rows (row, d)."""
        return self.basis.encode(as_rows(x).float())

    def _repr_html_(self) -> str:
        shares = self.explained_variance_ratio
        table = pd.DataFrame({"component": range(len(shares)), "explained_variance_ratio": shares})
        facts = {"components": len(shares), "left out": f"{self.reconstruction_error:.3g} of the total"}
        title = f"a decomposition of {self.n_rows} rows, {self.directions.shape[1]} wide"
        return card(title, facts, table, ("found.scores(x)", "found.directions", "basis_at(store, site, found.basis)"))


def pca(x: ArrayLike, *, k: int) -> Decomposition:
    """Principal components of rows, computed in float64 from the smaller side.

    Args:
        x: activations (row, d); their mean is removed here.
        k: how many components.

    Raises:
        InputError: there are not more rows than components, or k exceeds d, or all rows are equal.
        NumbersError: a value is not finite.

    References: sklearn.decomposition.PCA, with the same attribute names and sign rule as svd_flip on components.

    Example:
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
        >>> found = pca(line, k=1)
        >>> found.explained_variance_ratio.round(4), found.directions
        (array([1.]), tensor([[0.4472, 0.8944]]))
    """
    x = as_rows(x)
    n_rows, d = x.shape
    _check_k(k, n_rows, d, min(n_rows - 1, d))
    mean = x.double().mean(dim=0)
    values, directions = _principal((x.double() - mean).numpy(), k)
    if values[0] <= 0:
        raise InputError("all rows are equal; there is no variance to decompose")
    spectrum = values[: min(n_rows - 1, d)] / (n_rows - 1)
    return _decomposition(mean, directions, spectrum, n_rows, np.sqrt(spectrum[:k].clip(0)))


def svd(x: ArrayLike, *, k: int) -> Decomposition:
    """Right singular vectors of rows: as `pca`, with no mean removed, so that the first one is mostly the mean.

    `explained_variance` is a mean square: the singular value squared, divided by n_rows.

    Args:
        x: activations (row, d).
        k: how many components.

    Raises:
        InputError: k exceeds the number of rows or of dimensions, or all values are 0.
        NumbersError: a value is not finite.

    References: sklearn.decomposition.TruncatedSVD (whose explained variance is centred; this one is not).

    Example:
        >>> svd(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), k=2).explained_variance
        array([8. , 4.5])
    """
    x = as_rows(x)
    n_rows, d = x.shape
    _check_k(k, n_rows, d, min(n_rows, d))
    values, directions = _principal(x.double().numpy(), k)
    if values[0] <= 0:
        raise InputError("all activations are 0; there is nothing to decompose")
    deviations = deviations_of(x.double() @ torch.from_numpy(directions.copy()).T).numpy()
    return _decomposition(torch.zeros(d, dtype=torch.float64), directions, values / n_rows, n_rows, deviations)


def pca_of_moments(moments: Moments, *, k: int) -> Decomposition:
    """Principal components of rows that were read once, in blocks: `pca` for data larger than memory.

    Raises:
        InputError: as for `pca`.
    """
    _check_k(k, moments.n_rows, len(moments.mean), min(moments.n_rows - 1, len(moments.mean)))
    values, directions = eigen(moments.scatter)
    if values[0] <= 0:
        raise InputError("all rows are equal; there is no variance to decompose")
    kept = min(moments.n_rows - 1, len(values))
    spectrum = values[:kept] / (moments.n_rows - 1)
    deviations = np.sqrt(spectrum[:k].clip(0))
    return _decomposition(torch.from_numpy(moments.mean), directions[:k], spectrum, moments.n_rows, deviations)


def svd_of_moments(moments: Moments, *, k: int) -> Decomposition:
    """Right singular vectors of rows that were read once, in blocks: `svd` for data larger than memory.

    Raises:
        InputError: as for `svd`.
    """
    d = len(moments.mean)
    _check_k(k, moments.n_rows, d, min(moments.n_rows, d))
    values, directions = eigen(moments.scatter + moments.n_rows * np.outer(moments.mean, moments.mean))
    if values[0] <= 0:
        raise InputError("all activations are 0; there is nothing to decompose")
    spectrum = values[: min(moments.n_rows, d)] / moments.n_rows
    kept = directions[:k]
    deviations = np.sqrt(np.einsum("kd,kd->k", kept @ moments.covariance, kept).clip(0))
    return _decomposition(torch.zeros(d, dtype=torch.float64), kept, spectrum, moments.n_rows, deviations)


def subspace_overlap(a: ArrayLike, b: ArrayLike) -> Float[np.ndarray, " component"]:
    """How far the first j directions of two sets span the same subspace, for every j.

    Args:
        a: orthonormal directions (component, d).
        b: as many others.

    Returns:
        Mean squared cosine of the principal angles, in [0, 1]; about j / d for unrelated subspaces of d
        dimensions, and meaningful only beside that.

    Raises:
        InputError: they differ in number or width.
        NumbersError: a value is not finite.
    """
    a, b = as_pair(a, b, ("a", "b"), axes=("component", "d"), same_shape=True)
    products = (a.double() @ b.double().T).square().numpy()
    k = len(products)
    return np.array([products[:j, :j].sum() / j for j in range(1, k + 1)])


def _principal(
    x: Float[np.ndarray, "row d"], k: int
) -> tuple[Float[np.ndarray, " all"], Float[np.ndarray, "component d"]]:
    """Squared singular values, falling, and the first right singular vectors with their signs fixed."""
    n_rows, d = x.shape
    if n_rows > d:
        values, directions = eigen(x.T @ x)
        return values, directions[:k]
    _, singular, right = np.linalg.svd(x, full_matrices=False)
    return singular**2, fix_signs(right[:k])


def _decomposition(
    mean: Float[Tensor, " d"],
    directions: Float[np.ndarray, "component d"],
    spectrum: Float[np.ndarray, " all"],
    n_rows: int,
    deviations: Float[np.ndarray, " component"],
) -> Decomposition:
    kept = spectrum[: len(directions)]
    ratios = kept / spectrum.sum()
    return Decomposition(
        basis=orthonormal_basis(
            torch.from_numpy(directions.copy()).float(), mean.float(), deviations=torch.from_numpy(deviations)
        ),
        spectrum=spectrum,
        explained_variance=kept,
        explained_variance_ratio=ratios,
        reconstruction_error=max(0.0, 1 - float(ratios.sum())),
        n_rows=n_rows,
    )


def _check_k(k: int, n_rows: int, d: int, most: int) -> None:
    if not 1 <= k <= most:
        raise InputError(f"{n_rows} rows of width {d} have at most {most} components; got k = {k}")
