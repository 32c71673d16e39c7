"""Draws that vary as rows do."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_combinations(
    rows: Float[Tensor, "row d"], shape: tuple[int, ...], rng: np.random.Generator
) -> Float[Tensor, "*draws d"]:
    """Vectors whose covariance is the rows' scatter: combinations of them with standard normal weights, float64.

    Args:
        rows: centred.
        shape: how many vectors, along which axes.
        rng: draws the weights: the same for rows of the same number, as at other sites.
    """
    return torch.from_numpy(rng.normal(size=(*shape, len(rows)))) @ rows.double()
