"""Pictures of cosines between directions."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.families.controls import CONTROL_PREFIX
from geometry.figures.captions import at_layers, counted, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import (
    Ax,
    Shown,
    colour_bar,
    colours,
    curve,
    headline,
    layer_ticks,
    layer_title,
    limits,
    nothing_there,
    panels,
    shown_layers,
)
from geometry.results.result import LayerResult

MANY = 8
"""Directions that have a panel of curves each; more are told apart in matrices."""

_COLUMNS = 3
_MATRICES = 2  # in a line
_COMPOSED = "#AAAAAA"  # seen on black, which it is to lie on, and on white
FEW_LAYERS = 4
"""Layers that have a matrix each unless more are asked for."""
_HALVES = "Each cosine is between directions of two halves of the contexts, averaged over which half is whose."


def drawn_cosines(result: LayerResult) -> Callable[..., Figure]:
    """What draws few directions (`cosines_over_layers`: curves), or many (`cosine_matrices`)."""
    return cosine_matrices if len(result.parameters["pairs"]) > MANY else cosines_over_layers


def cosines_over_layers(result: LayerResult, *, ax: Ax = None) -> Figure:
    """One panel a direction: over layers its cosine with every other, between halves that share no phrasing.

    Black: its cosine with itself, which is its reliability: no other can be expected above it. Dashed: directions that
    lead between control families. Dotted: the sum of two steps in its place.

    Args:
        result: of `cosines_by_layer`.
        ax: where it is drawn, in a figure of the caller's, as many as directions; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    names = list(result.parameters["pairs"])
    caption, size = _caption(result), (4.2, 2.9)
    figure, axes = panels(len(names), caption, most_columns=_COLUMNS, each=size, beside=(0.3, 1.0), sharey=True, ax=ax)
    low, high = limits(result.table["cosine"], least=(-0.3, 1.0))
    for axis, name in zip(axes, names, strict=False):
        _panel(axis, result, name, names)
        axis.set_ylim(low - 0.05, high + 0.05)
    legend_below(figure, axes[: len(names)], fontsize=8)
    headline(figure, _title(result), fontsize=12)
    return figure


def cosine_matrices(result: LayerResult, *, layers: Shown = FEW_LAYERS, ax: Ax = None) -> Figure:
    """Every direction (rows) by every other (columns), a panel a layer, from blue (-1) to red (1): for many directions.

    On the diagonal a direction with itself, which is its reliability.

    Args:
        result: of `cosines_by_layer`.
        layers: which have a panel: how many, evenly spread, or which ones.
        ax: where it is drawn, in a figure of the caller's, as many as layers shown; None for a figure of its own.

    Raises:
        InputError: there is no such layer, or another number of axes.
    """
    names, table = list(result.parameters["pairs"]), result.table[result.table["kind"] == "directions"]
    shown = shown_layers([hook.table_layer for hook in result.hooks], layers)
    side = 0.2 * len(names) + 0.3
    caption = sentences(
        f"Cosines between {len(names)} directions ({result.parameters['method']}) in {result.parameters['site']} at "
        f"{at_layers(result.hooks[i].table_layer for i in shown)} ({len(shown)} of {len(result.hooks)} sites): "
        f"{counted(table)}.",
        _HALVES,
        "Diagonal: a direction with itself, which is its reliability. White: 0, or a direction that could not be had.",
    )
    figure, axes = panels(len(shown), caption, most_columns=_MATRICES, each=(side, side), beside=(3.2, 2.6), ax=ax)
    for i, axis in zip(shown, axes, strict=False):
        here = table[table["hook"] == result.hooks[i].name]
        values = here.pivot_table(index="first", columns="second", values="cosine").reindex(index=names, columns=names)
        both = values.combine_first(values.T).reindex(index=names, columns=names).to_numpy()
        image = axis.imshow(both, vmin=-1, vmax=1, cmap="RdBu_r")
        if np.isnan(both).all():
            nothing_there(axis, "no direction can be had here")
        axis.set_title(layer_title(result.hooks[i]), fontsize=10)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=7)
    for number, axis in enumerate(axes[: len(shown)]):
        axis.label_outer()
        axis.tick_params(labelbottom=number + _MATRICES >= len(shown))  # where no other is beneath
    colour_bar(figure, image, axes, "cosine")
    headline(figure, _title(result), fontsize=12)
    return figure


def _title(result: LayerResult) -> str:
    return f"{result.parameters['site']}: cosines between directions ({result.parameters['method']})"


def _caption(result: LayerResult) -> str:
    """What `cosines_over_layers` shows."""
    names, table = result.parameters["pairs"], result.table
    parts = [
        f"Cosines between {len(names)} directions ({result.parameters['method']}) in {result.parameters['site']}, over "
        f"layers, a panel a direction: {counted(table)}.",
        _HALVES,
        "Black: a direction with itself, which is its reliability; no other is to be expected above it.",
    ]
    if any(name.startswith(CONTROL_PREFIX) for name in names):
        parts.append("Dashed: directions between control families.")
    if (table["kind"] == "composition").any():
        parts.append("Dotted: the sum of two steps in a direction's place.")
    return sentences(*parts)


def _panel(axis: Axes, result: LayerResult, name: str, names: list[str]) -> None:
    layers, table = [hook.table_layer for hook in result.hooks], result.table
    directions = table[table["kind"] == "directions"]
    for number, (other, own_colour) in enumerate(zip(names, colours(len(names)), strict=True)):
        colour, width = ("black", 2.2) if other == name else (own_colour, 1.2)
        style = "--" if other.startswith(CONTROL_PREFIX) and other != name else "-"
        label = "the same direction" if other == name else other
        pair = [name, other] if number >= names.index(name) else [other, name]
        cosines = directions.loc[(directions[["first", "second"]] == pair).all(axis=1), "cosine"]
        curve(axis, layers, cosines, color=colour, linewidth=width, linestyle=style, label=label)
    composed = table[(table["kind"] == "composition") & (table["second"] == name)]
    for path, mine in composed.groupby("first", sort=False):
        curve(axis, mine["layer"], mine["cosine"], color=_COMPOSED, linestyle=":", linewidth=1.6, label=str(path))
    axis.axhline(0, color="#999999", linewidth=0.6)
    axis.set_title(name, fontsize=9)
    axis.set_ylabel("cosine", fontsize=9)
    layer_ticks(axis, layers)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
