"""What a number is worth: standard errors over members, and what chance would give."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geometry.decompose import spectrum

Statistic = Callable[[Float[Tensor, "row d"]], Float[np.ndarray, " component"]]


def jackknife_se(
    x: Float[Tensor, "row d"], members: Sequence[Hashable], statistic: Statistic
) -> Float[np.ndarray, " component"]:
    """Standard error of a statistic over members: all rows of one member are left out together.

    Args:
        x: activations.
        members: the member of each row.
        statistic: what is computed from rows.

    Returns:
        One standard error for each value of the statistic; nan below 5 members.

    References: Efron and Tibshirani 1993, eq. 11.5.
    """
    labels = list(dict.fromkeys(members))
    codes = np.array([labels.index(member) for member in members])
    if len(labels) < 5:
        return np.full_like(statistic(x), np.nan)
    left = np.stack([statistic(x[torch.from_numpy(codes != i)]) for i in range(len(labels))])
    se: Float[np.ndarray, " component"] = np.sqrt(
        (len(labels) - 1) / len(labels) * ((left - left.mean(axis=0)) ** 2).sum(axis=0)
    )
    return se


def explained_variance_null(
    x: Float[Tensor, "row d"], *, k: int, n_permutations: int, seed: int
) -> Float[np.ndarray, "permutation component"]:
    """Explained variance ratios after every column is permuted by itself: no dimensions vary together.

    Returns:
        The k largest ratios of each permutation, in [0, 1].

    References: parallel analysis, Horn 1965, in the permutation form of Buja and Eyuboglu 1992.
    """
    rng = np.random.default_rng(seed)
    centred = (x.double() - x.double().mean(dim=0)).numpy()
    null = []
    for _ in range(n_permutations):
        variances = spectrum(torch.from_numpy(rng.permuted(centred, axis=0)))
        null.append(variances[:k] / variances.sum())
    return np.stack(null)
