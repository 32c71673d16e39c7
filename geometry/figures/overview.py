"""Comparisons at a glance: many families as a triangle of small panels, layers by layers as shades."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import numbers_in
from geometry.figures.captions import at_layers, counted, outside, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import BAND, PALETTE, Within, band, curve, layer_ticks, limits, nothing_there, panels
from geometry.figures.plain import PlainFigure
from geometry.results.result import LayerResult
from geometry.similarity.family_measures import MEASURES

FEW_PAIRS = 6
"""Pairs of families that have a large panel each; more are a triangle of small ones."""

_WRITTEN = 8  # layers whose similarities have room to be written down
_EACH = (1.7, 1.3)
_SHOWN = (-1.0, 1.5)


def families_overview(result: LayerResult, *, measure: str = "matched_cosine") -> Figure:
    """A triangle of panels, one a pair: the family of the line and that of the column, similarity over layers.

    Colour: the value; filled points are called `shared`. Grey: from the lowest to the highest control family. Dashed:
    the members' readout directions removed; of a measure that describes, the mean under permuted members. It is a
    figure of its own.

    Args:
        result: of `between_pairs`.
        measure: one of those that it has.
    """
    table = result.table[result.table["measure"] == measure]
    plain = table[table["variant"] == "plain"]
    names = list(dict.fromkeys([*plain["a"], *plain["b"]]))
    n = len(names) - 1
    size = (_EACH[0] * n + 0.8, _EACH[1] * n + 1.3)
    figure = PlainFigure(_caption(result, plain, measure), figsize=size, layout="constrained")
    axes = figure.subplots(n, n, squeeze=False, sharex=True, sharey=True)
    drawn: dict[tuple[int, int], Axes] = {}
    between = limits(table[["value", "permuted_mean", "control_min", "control_max"]], least=(0.0, 1.0), within=_SHOWN)
    for line, column in product(range(n), range(n)):
        mine = _of(table, names[line + 1], names[column]) if column <= line else table[:0]
        if len(mine):
            drawn[line, column] = axes[line, column]
            _panel(axes[line, column], mine, between)
        else:
            axes[line, column].remove()
    _name_outside(drawn, names)
    first = next(iter(drawn.values()))
    first.set_ylim(between[0] - 0.05, between[1] + 0.3)  # of all, which share it; above the values: how many members
    first.set_yticks([tick for tick in (-1, -0.5, 0, 0.5, 1, 1.5) if between[0] <= tick <= between[1]])
    legend_below(figure, [first])
    figure.suptitle(f"{result.parameters['site']}: {measure} of pairs of families, over layers", fontsize=12)
    return figure


def layer_heatmap(result: LayerResult, *, ax: Axes | None = None) -> Figure:
    """Similarity of every layer (row) to every other (column), dark to light from 0 to 1.

    Args:
        result: of `between_layers` or `between_stores`.
        ax: where it is drawn, in a figure of the caller's; None for a figure of its own.
    """
    values = result.values("value")
    table = result.table
    rows, columns = table["layer"].drop_duplicates().tolist(), table["layer_b"].drop_duplicates().tolist()
    figure, (axis,) = panels(1, _grid_caption(result), most_columns=1, each=(6.4, 5.6), beside=(0, 0), ax=ax)
    image = axis.imshow(values, vmin=min(0.0, float(np.nanmin(values))), vmax=1, cmap="viridis", origin="lower")
    if max(values.shape) <= _WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if value > 0.6 else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    for labels, place in ((rows, axis.set_yticks), (columns, axis.set_xticks)):
        step = max(1, math.ceil(len(labels) / 16))
        shown = range(0, len(labels), step)
        place(list(shown), ["embed" if labels[i] < 0 else str(labels[i]) for i in shown], fontsize=8)
    axis.set_xlabel("layer")
    axis.set_ylabel("layer")
    figure.colorbar(image, ax=axis, shrink=0.85, label=str(result.parameters["measure"]))
    first = table.iloc[0]
    axis.set_title(
        f"{result.parameters['site']}: {result.parameters['measure']}, {numbers_in(first, 'row', 'member')}",
        fontsize=10,
    )
    return figure


def _name_outside(drawn: dict[tuple[int, int], Axes], names: Sequence[str]) -> None:
    """Names and numbers at the first panel of each line, and the first and last of each column."""
    for (line, column), axis in drawn.items():
        in_line = [other for one, other in drawn if one == line]
        in_column = [one for one, other in drawn if other == column]
        axis.tick_params(labelleft=column == min(in_line), labelbottom=line == max(in_column))
        axis.set_ylabel(names[line + 1] if column == min(in_line) else "", fontsize=9)
        axis.set_xlabel("layer" if line == max(in_column) else "", fontsize=8)
        axis.set_title(names[column] if line == min(in_column) else "", fontsize=9)


def _panel(axis: Axes, mine: pd.DataFrame, between: Within) -> None:
    plain, removed = mine[mine["variant"] == "plain"], mine[mine["variant"] != "plain"]
    layers = plain["layer"]
    if plain["control_max"].notna().any():
        low, high = plain["control_min"], plain["control_max"]
        band(axis, layers, low, high, within=between, color=BAND, label="controls")
    axis.axhline(0, color="black", linewidth=0.4)
    curve(axis, layers, plain["value"], within=between, color=PALETTE[0], linewidth=1.3, label="value")
    style: dict[str, Any] = {"linestyle": "--", "linewidth": 0.8, "within": between}
    if len(removed):
        label = removed["variant"].iloc[0]
        curve(axis, removed["layer"], removed["value"], color=PALETTE[0], label=label, **style)
    elif plain["permuted_mean"].notna().any():
        curve(axis, layers, plain["permuted_mean"], color="black", label="permuted", **style)
    called = plain[plain["verdict"] == "shared"]
    axis.plot(called["layer"], called["value"], color=PALETTE[0], marker="o", markersize=2.2, linestyle="none")
    axis.annotate(
        f"n {plain['n_members'].iloc[0]}",
        (0.03, 0.97),
        xycoords="axes fraction",
        va="top",
        fontsize=6.5,
        color="#555555",
    )
    if plain["value"].isna().all():
        nothing_there(axis, "reliable at no layer" if plain["permuted_mean"].isna().all() else "no value")
    axis.spines[["top", "right"]].set_visible(False)
    layer_ticks(axis, layers.tolist(), most=4)
    axis.tick_params(labelsize=7)


def _of(table: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """The lines of two families, whichever is named first."""
    return table[((table["a"] == a) & (table["b"] == b)) | ((table["a"] == b) & (table["b"] == a))]


def _caption(result: LayerResult, plain: pd.DataFrame, measure: str) -> str:
    """What `families_overview` shows."""
    decides = MEASURES[measure].decides
    others = [one for one in result.parameters["variants"] if one != "plain"]
    return sentences(
        f"Similarity ({measure}) of {result.parameters['site']} between the family of the line and that of the column, "
        f"at {at_layers(plain['layer'])}: {counted(plain)}; n: members of the pair.",
        "Layers at which the codes are not reliable are left out." if decides else "A measure that describes.",
        "Filled points: the verdict is shared." if (plain["verdict"] == "shared").any() else "",
        "Grey: from the lowest to the highest control family in place of one of the two."
        if plain["control_max"].notna().any()
        else "No controls.",
        f"Dashed: {others[0]}." if others else "",
        outside(plain["value"], _SHOWN),
        "Dashed: the mean under permuted members." if not others and plain["permuted_mean"].notna().any() else "",
    )


def _grid_caption(result: LayerResult) -> str:
    """What `layer_heatmap` shows."""
    layers, others = (at_layers(result.table[name]) for name in ("layer", "layer_b"))
    return (
        f"Similarity ({result.parameters['measure']}) of {result.parameters['site']} at {layers} (rows) to "
        f"{'each other' if layers == others else others} (columns), on the same prompts: {counted(result.table)}."
    )
