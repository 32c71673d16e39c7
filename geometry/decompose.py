"""Decompositions of activations into directions."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.errors import InputError


@dataclass(frozen=True)
class Decomposition:
    """Orthonormal directions of greatest variance around a mean.

    Attributes:
        mean: the mean that was subtracted.
        directions: one unit vector a row, in order of falling variance; the entry of largest magnitude is
            positive.
        explained_variance: variance along each direction (divided by n_rows - 1), in squared activation units.
        explained_variance_ratio: the same as a share of the total variance, in [0, 1].
    """

    mean: Float[Tensor, " d"]
    directions: Float[Tensor, "component d"]
    explained_variance: Float[np.ndarray, " component"]
    explained_variance_ratio: Float[np.ndarray, " component"]

    def scores(self, x: Float[Tensor, "row d"]) -> Float[Tensor, "row component"]:
        """Coordinates of rows along the directions."""
        return (x.float() - self.mean) @ self.directions.T


def pca(x: Float[Tensor, "row d"], *, k: int) -> Decomposition:
    """Principal components of rows, computed in float64 from the smaller side.

    Args:
        x: activations; their mean is removed here.
        k: how many components.

    Raises:
        InputError: there are not more rows than components, or k exceeds d, or all rows are equal, or a value
            is not finite.

    References: sklearn.decomposition.PCA, with the same attribute names and sign rule as svd_flip on components.
    """
    n_rows, d = x.shape
    if not 1 <= k <= min(n_rows - 1, d):
        raise InputError(f"{n_rows} rows of width {d} have at most {min(n_rows - 1, d)} components; got k = {k}")
    if not torch.isfinite(x).all():
        raise InputError("the activations are not all finite; geometry verify says whether the file is sound")
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    variances = spectrum(centred)
    if variances[0] <= 0:
        raise InputError("all rows are equal; there is no variance to decompose")
    if n_rows > d:
        directions = torch.linalg.eigh(centred.T @ centred)[1].T.flip(0)[:k]
    else:
        directions = torch.linalg.svd(centred, full_matrices=False)[2][:k]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    explained = variances[:k]
    return Decomposition(
        mean=mean.float(),
        directions=(directions * largest.sign()).float(),
        explained_variance=explained,
        explained_variance_ratio=explained / variances.sum(),
    )


def spectrum(centred: Float[Tensor, "row d"]) -> Float[np.ndarray, " component"]:
    """Variances along all principal components of centred rows, falling, `min(n_rows, d)` of them."""
    n_rows, d = centred.shape
    gram = centred.T @ centred if n_rows > d else centred @ centred.T
    # eigvalsh can return -1e-12 for a zero eigenvalue
    variances: Float[np.ndarray, " component"] = torch.linalg.eigvalsh(gram.double()).flip(0).clamp(min=0).numpy()
    return variances / (n_rows - 1)
