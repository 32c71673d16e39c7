"""How much of rows a reconstruction explains, about their own mean and by dimension, and by how many features."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST = 3
"""Dimensions that vary most, without which explained variance is told too: a few carry most of many models' streams."""

_CONSTANT = 1e-12  # of the largest spread: a dimension with less is none to explain


@dataclass
class Reconstruction:
    """Sums over rows and what is made of them, block by block; about a point near their mean, so that no digit is lost.

    Attributes:
        near: the point.
        n_rows: rows counted so far.
        total: the sum of rows less the point.
        squares: the sum of its squares, by dimension.
        errors: the sum of squared errors, by dimension.
        active: in how many rows each feature is active.
    """

    near: Float[Tensor, " d"]
    n_rows: int
    total: Float[Tensor, " d"]
    squares: Float[Tensor, " d"]
    errors: Float[Tensor, " d"]
    active: Int[Tensor, " feature"]

    @classmethod
    def empty(cls, near: Float[Tensor, " d"], n_features: int) -> "Reconstruction":
        """Of no rows."""
        near = near.double()
        total, squares, errors = torch.zeros(3, len(near), dtype=torch.float64)
        return cls(near, 0, total, squares, errors, torch.zeros(n_features, dtype=torch.int64))

    def add(
        self,
        x: Float[Tensor, "row d"],
        reconstructed: Float[Tensor, "row d"],
        features: Float[Tensor, "row feature"],
    ) -> None:
        """Count rows, what was made of them, and the values of features."""
        moved = x.double() - self.near
        self.n_rows += len(x)
        self.total += moved.sum(dim=0)
        self.squares += moved.square().sum(dim=0)
        self.errors += (x.double() - reconstructed.double()).square().sum(dim=0)
        self.active += torch.count_nonzero(features, dim=0)

    def said(self) -> dict[str, float]:
        """What a table says: of no rows, or rows that are all equal, nan.

        `explained_variance` is 1 - squared error / squared distance from the rows' own mean; `without_largest` the same
        without the three dimensions that vary most; `median_dimension` the median over dimensions, each explained by
        itself; `l0` how many features are active in a row; `dead` the share that are active in none.
        """
        spread = self.squares - self.total.square() / max(self.n_rows, 1)
        rest = spread.argsort()[:-LARGEST]
        varying = spread > _CONSTANT * self.squares.max()
        by_dimension = 1 - self.errors[varying] / spread[varying]
        return {
            "n_rows": self.n_rows,
            "explained_variance": _share(self.errors.sum(), spread.sum()),
            "without_largest": _share(self.errors[rest].sum(), spread[rest].sum()),
            "median_dimension": float(by_dimension.median()) if len(by_dimension) else float("nan"),
            "l0": float(self.active.sum()) / self.n_rows if self.n_rows else float("nan"),
            "dead": float((self.active == 0).double().mean()),
        }


def explained_variance(x: Float[Tensor, "row d"], reconstructed: Float[Tensor, "row d"]) -> float:
    """1 - squared error / squared distance of rows from their mean; nan of rows that are all equal.

    1 is a perfect reconstruction, 0 one that is as far off as the mean; a worse one is negative.
    """
    counted = Reconstruction.empty(x.double().mean(dim=0), 0)
    counted.add(x, reconstructed, x[:, :0])
    return counted.said()["explained_variance"]


def _share(error: Float[Tensor, ""], spread: Float[Tensor, ""]) -> float:
    return float(1 - error / spread) if spread > 0 else float("nan")
