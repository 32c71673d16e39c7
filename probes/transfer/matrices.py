"""Pictures of interventions as matrices: receivers by donors, a panel a layer."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cache.families.controls import CONTROL_PREFIX
from geometry.figures.panels import Ax, Shown, colour_bar, headline, panels, shown_layers
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_MEMBERS
from probes.transfer import captions

FEW_LAYERS = 4
"""Layers that have a matrix each unless more are asked for."""


def transfer_matrices(
    result: LayerResult, positions: str | None = None, *, layers: Shown = FEW_LAYERS, ax: Ax = None
) -> Figure:
    """Receivers (rows) by donors (columns): share of edits after which the likeliest token is the answer moved to.

    Panels are the layers where the families' own edits succeed most often, in their order. Small: the members behind a
    value; a ring marks fewer than 5.

    Args:
        result: of `transfer_matrix`.
        positions: which position set; None for the first.
        layers: which have a panel: how many, the best ones, or which ones.
        ax: where it is drawn, in a figure of the caller's, as many as layers shown; None for a figure of its own.

    Raises:
        InputError: there is no such layer, or another number of axes.
    """
    table = captions.at_positions(result, positions)
    shown = _best_layers(table, -table["success"], layers)
    figure, axes = _matrices(table, shown, captions.of_transfer_matrices(result, table), [], ax)
    _heatmaps(figure, axes, table, shown, ("success", "success", {}))
    headline(figure, captions.title(result, table, "a donor's step in a receiver's prompt"), fontsize=11)
    return figure


def erasure_matrices(
    result: LayerResult, positions: str | None = None, *, layers: Shown = FEW_LAYERS, ax: Ax = None
) -> Figure:
    """Receivers (rows) by donors (columns): accuracy left once the donor's index subspace is removed.

    Panels are the layers where removing the families' own subspaces leaves least, in their order. A star: the
    donor's subspace is necessary (q at most .05, less left than by subspaces of unrelated donors, within members and of
    controls). To the right the mean over unrelated donors and over subspaces within members, and the unedited accuracy.

    Args:
        result: of `erasure_matrix`.
        positions: which position set; None for the first.
        layers: which have a panel: how many, the best ones, or which ones.
        ax: where it is drawn, in a figure of the caller's, as many as layers shown; None for a figure of its own.

    Raises:
        InputError: there is no such layer, or another number of axes.
    """
    table = captions.at_positions(result, positions)
    shown = _best_layers(table, table["left"], layers)
    beside = {"unrelated": "null_mean", "within": "within_mean", "unedited": "unedited"}
    figure, axes = _matrices(table, shown, captions.of_erasure_matrices(result, table), beside, ax)
    _heatmaps(figure, axes, table, shown, ("accuracy left", "left", beside))
    what = f"a donor's index subspace (rank {result.parameters['rank']}) removed; * necessary"
    headline(figure, captions.title(result, table, what), fontsize=11)
    return figure


def _best_layers(table: pd.DataFrame, losses: "pd.Series[float]", layers: Shown) -> list[int]:
    """So many layers at which families' own edits lose least on average, in their order; or those that are named."""
    if not isinstance(layers, int):
        there = list(dict.fromkeys(table["layer"]))
        return [there[i] for i in shown_layers(there, layers)]
    own = losses[table["donor_kind"] == "own"].groupby(table["layer"]).mean()
    return sorted(own.sort_values(kind="stable").index[:layers])


def _matrices(
    table: pd.DataFrame, layers: Sequence[int], caption: str, beside: Collection[str], ax: Ax
) -> tuple[Figure, np.ndarray]:
    """A panel a layer, as large as its matrix asks for."""
    n_donors, n_receivers, columns = table["donor"].nunique() + len(beside), table["receiver"].nunique(), 2
    width = 0.56 * n_donors + 1.5
    each = (max(width, 8.6 / min(columns, len(layers))), 0.52 * n_receivers + 1.3)
    return panels(len(layers), caption, most_columns=columns, each=each, beside=(0.9, 0.9), ax=ax)


def _heatmaps(
    figure: Figure,
    axes: np.ndarray,
    table: pd.DataFrame,
    layers: Sequence[int],
    drawn: tuple[str, str, dict[str, str]],
) -> None:
    label, value, beside = drawn
    receivers, donors = list(dict.fromkeys(table["receiver"])), [*dict.fromkeys(table["donor"]), *beside]
    for axis, layer in zip(axes, layers, strict=False):
        image = _heatmap(axis, table[table["layer"] == layer], receivers, donors, value, beside)
        axis.set_title("embed" if layer < 0 else f"layer {layer}", fontsize=10)
        axis.set_ylabel("receiver", fontsize=9)
        axis.set_xlabel("donor", fontsize=9)
    colour_bar(figure, image, axes, label)


def _heatmap(
    axis: Axes, table: pd.DataFrame, receivers: list[str], donors: list[str], value: str, beside: dict[str, str]
) -> AxesImage:
    """One layer's matrix, with its values and their number of members written in."""
    lines = {(line["receiver"], line["donor"]): line for _, line in table.iterrows()}
    values = np.full((len(receivers), len(donors)), np.nan)
    for r, receiver in enumerate(receivers):
        for d, donor in enumerate(donors):
            line = lines.get((receiver, donor), lines.get((receiver, receiver)) if donor in beside else None)
            if line is None:
                continue
            values[r, d] = line[beside.get(donor, value)]
            mark = "*" if donor not in beside and line.get("necessary") == "yes" else ""
            mark += "°" if line["n_members"] < LEAST_MEMBERS else ""
            colour = "black" if values[r, d] > 0.6 else "white"
            text = f"{values[r, d]:.2f}{mark}".removeprefix("0") if values[r, d] < 1 else f"1.0{mark}"
            axis.text(d, r - 0.1, text, ha="center", va="center", fontsize=8.5, color=colour)
            if donor not in beside:
                members = f"n {line['n_members']}"
                axis.text(d, r + 0.3, members, ha="center", va="center", fontsize=6, color=colour)
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    names = [name.replace(CONTROL_PREFIX, "control ") for name in donors]
    axis.set_xticks(range(len(donors)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(receivers)), receivers, fontsize=9)
    axis.tick_params(length=0)
    return image
