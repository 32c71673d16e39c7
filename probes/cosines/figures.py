"""Pictures of cosines between directions."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.families.controls import CONTROL_PREFIX
from geometry.figures.captions import counted, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import layer_ticks
from geometry.figures.plain import PlainFigure
from geometry.figures.scatter import PALETTE
from geometry.results.result import LayerResult

_COLUMNS = 3


def cosines_over_layers(result: LayerResult) -> Figure:
    """One panel a direction: over layers its cosine with every other, between halves that share no phrasing.

    Black: its cosine with itself, which is its reliability: no other can be expected above it. Dashed: directions that
    lead between control families. Dotted: the sum of two steps in its place.
    """
    names = list(result.parameters["pairs"])
    columns = min(_COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    figure = PlainFigure(_caption(result), figsize=(4.2 * columns + 0.3, 2.9 * lines + 1.0), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names, strict=False):
        _panel(axis, result, name, names)
    lowest = float(result.table["cosine"].fillna(0).min())
    axes[0].set_ylim(min(-0.3, lowest - 0.05), 1.05)  # of all panels, which share it
    legend_below(figure, axes, fontsize=8)
    title = f"{result.parameters['site']}: cosines between directions ({result.parameters['method']})"
    figure.suptitle(title, fontsize=12)
    return figure


def _caption(result: LayerResult) -> str:
    """What `cosines_over_layers` shows."""
    names, table = result.parameters["pairs"], result.table
    parts = [
        f"Cosines between {len(names)} directions ({result.parameters['method']}) in {result.parameters['site']}, over "
        f"layers, a panel a direction: {counted(table)}.",
        "Each cosine is between directions of two halves of the contexts, averaged over which half is whose.",
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
    for number, other in enumerate(names):
        colour, width = ("black", 2.2) if other == name else (PALETTE[number % len(PALETTE)], 1.2)
        style = "--" if other.startswith(CONTROL_PREFIX) and other != name else "-"
        label = "the same direction" if other == name else other
        pair = [name, other] if number >= names.index(name) else [other, name]
        cosines = directions.loc[(directions[["first", "second"]] == pair).all(axis=1), "cosine"]
        axis.plot(layers, cosines, color=colour, linewidth=width, linestyle=style, label=label)
    composed = table[(table["kind"] == "composition") & (table["second"] == name)]
    for path, mine in composed.groupby("first", sort=False):
        axis.plot(mine["layer"], mine["cosine"], color="black", linestyle=":", linewidth=1.4, label=str(path))
    axis.axhline(0, color="#999999", linewidth=0.6)
    axis.set_title(name, fontsize=9)
    axis.set_ylabel("cosine", fontsize=9)
    layer_ticks(axis, layers)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
