"""What a sweep tries and where: every method at the cells that the mean difference chose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache.errors import InputError
from geometry.rows.names import names_of
from probes.directions.estimators import METHODS
from probes.edits.tokens import POSITION_SETS
from probes.steering.cells import GRID, Cells
from probes.steering.directions import Material

EVERY = 3
"""Controls are tried at every so many layers, besides the cells that answers choose."""


@dataclass(frozen=True)
class Grid:
    """What a sweep tries.

    Attributes:
        alphas: strengths, in units of each direction's own step.
        positions: tokens that are edited: of `POSITION_SETS` (BOS is not edited).
        methods: of `METHODS`.

    Raises:
        InputError: an alpha is not finite, or a position set or method does not exist; or none is given.

    Example:
        >>> len(Grid(alphas=[1.0, 2.0], positions="last", methods="mean_difference").settings)
        2
    """

    alphas: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
    positions: Sequence[str] = ("last", "all")
    methods: Sequence[str] = tuple(METHODS)

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

    @property
    def settings(self) -> "list[Setting]":
        """The mean difference's."""
        return [Setting(GRID, alpha, positions) for positions in self.positions for alpha in self.alphas]


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
