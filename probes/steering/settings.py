"""What a sweep tries and where: every method at the cells that the mean difference chose."""

from collections.abc import Sequence
from dataclasses import dataclass

from probes.steering.cells import GRID
from probes.steering.directions import Material

EVERY = 3
"""Controls are tried at every so many layers, besides the cells that answers choose."""


@dataclass(frozen=True)
class Setting:
    """One way to steer."""

    method: str
    alpha: float
    positions: str


def plan_settings(
    material: Material,
    methods: Sequence[str],
    grid: Sequence[Setting],
    nested: Sequence[set[tuple[float, str]]],
    thinned: Sequence[set[tuple[float, str]]],
) -> dict[Setting, set[int]]:
    """What a sweep tries besides the mean difference's grid, and at which of the sites (their numbers).

    Args:
        material: what controls and directions can be made from.
        methods: of `METHODS`.
        grid: settings of the mean difference.
        nested: (alpha, positions) that answers choose at each site.
        thinned: those that controls are compared at by layer.
    """
    words = ["unembedding_difference"] if material.words is not None else []
    others = ["mean_difference_loose", *(name for name in methods if name != GRID)]
    planned: dict[Setting, set[int]] = {}
    for method in [*others, *words, *material.controls]:
        for one in grid:
            cell = (one.alpha, one.positions)
            at = {n for n, cells in enumerate(nested) if cell in cells or method in words}
            if method in material.controls:
                at |= {n for n, cells in enumerate(thinned) if cell in cells}
            if at:
                planned[Setting(method, one.alpha, one.positions)] = at
    return planned
