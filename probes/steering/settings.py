"""What a sweep tries and where: every method at the cells that the mean difference chose."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cache.errors import InputError
from geometry.bases.basis import FeatureBasis
from geometry.rows.names import names_of
from probes.directions.estimators import METHODS
from probes.directions.features import basis_parameters, check_basis
from probes.edits.tokens import POSITION_SETS
from probes.steering.cells import GRID, Cells
from probes.steering.directions import Material
from probes.steering.features import FEATURE_DIFFERENCE

EVERY = 3
"""Controls are tried at every so many layers, besides the cells that answers choose."""


@dataclass(frozen=True)
class Grid:
    """What a sweep tries.

    Attributes:
        alphas: strengths, in units of each direction's own step.
        positions: tokens that are edited: of `POSITION_SETS` (BOS is not edited).
        methods: of `METHODS`.
        basis: features of the one site that is swept, as of an SAE: their mean difference through the basis's
            directions is a method too (`feature_difference`, as long as the mean difference), and other features of
            the same frequency and deviation in their place a control (`random_features`).
        n_features: so many features, those that differ most on the pairs that a direction is estimated on; None for
            all.

    Raises:
        InputError: an alpha is not finite, a position set or method does not exist, or none is given; or there are not
            so many features.

    Example:
        >>> len(Grid(alphas=[1.0, 2.0], positions="last", methods="mean_difference").settings)
        2
    """

    alphas: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
    positions: Sequence[str] = ("last", "all")
    methods: Sequence[str] = tuple(METHODS)
    basis: FeatureBasis | None = field(default=None, repr=False, compare=False)
    n_features: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(names_of(self.positions)))
        object.__setattr__(self, "methods", tuple(names_of(self.methods)))
        chosen = ((self.positions, POSITION_SETS, "positions"), (self.methods, tuple(METHODS), "methods"))
        for given, known, what in chosen:
            unknown = [one for one in given if one not in known]
            if unknown or not given:
                raise InputError(f"{what} must be of {', '.join(known)}; got {unknown[0] if unknown else 'none'}")
        if np.ndim(self.alphas) != 1 or not len(self.alphas) or not np.isfinite(self.alphas).all():
            raise InputError(f"alphas must be finite numbers in a list; got {self.alphas}")
        object.__setattr__(self, "alphas", tuple(dict.fromkeys(map(float, self.alphas))))
        _check_features(self.basis, self.n_features)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a result depends on."""
        chosen = {"alphas": list(self.alphas), "positions": list(self.positions), "methods": list(self.methods)}
        return chosen if self.basis is None else chosen | basis_parameters(self.basis) | {"n_features": self.n_features}

    @property
    def settings(self) -> "list[Setting]":
        """The mean difference's."""
        return [Setting(GRID, alpha, positions) for positions in self.positions for alpha in self.alphas]


def _check_features(basis: FeatureBasis | None, n_features: int | None) -> None:
    """Refuse a number of features where there is no basis, or not so many."""
    if basis is not None:
        check_basis(basis)
    elif n_features is not None:
        raise InputError("a number of features is of a basis; give the basis too")
    if basis is None or n_features is None:
        return
    if isinstance(n_features, bool) or n_features not in range(1, 1 + len(basis.directions)):
        raise InputError(f"the basis has {len(basis.directions)} features; of these 1 or more count, got {n_features}")


WHOLE = Grid()
"""What a sweep tries unless told otherwise."""


@dataclass(frozen=True)
class Setting:
    """One way to steer."""

    method: str
    alpha: float
    positions: str


def plan_settings(material: Material, grid: Grid, nested: Cells, thinned: Cells) -> dict[Setting, set[int]]:
    """What a sweep tries besides the mean difference's grid, and at which of the sites (their numbers).

    Args:
        material: what controls and directions can be made from.
        grid: what is tried.
        nested: (alpha, positions) that answers choose at each site.
        thinned: those that controls are compared at by layer.
    """
    words = ["unembedding_difference"] if material.words is not None else []
    others = ["mean_difference_loose", *(name for name in grid.methods if name != GRID)]
    others += [FEATURE_DIFFERENCE] if grid.basis is not None else []
    planned: dict[Setting, set[int]] = {}
    for method in [*others, *words, *material.controls]:
        for one in grid.settings:
            cell = (one.alpha, one.positions)
            at = {n for n, cells in enumerate(nested) if cell in cells or method in words}
            if method in material.controls:
                at |= {n for n, cells in enumerate(thinned) if cell in cells}
            if at:
                planned[Setting(method, one.alpha, one.positions)] = at
    return planned
