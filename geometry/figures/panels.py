"""Panels of a figure: how many, of which layers, how those are named on their axes, and how values go over them."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cache import Hook
from cache.errors import InputError
from cache.models.hooks import parse_layers
from geometry.figures.plain import PlainFigure

MOST_SHOWN = 8
"""Layers that have a panel each unless more are asked for."""

Ax = Axes | Sequence[Axes] | np.ndarray | None
"""Panels of a figure of the caller's, to draw into; None for a figure of our own."""

Values = Sequence[float] | Shaped[np.ndarray, "..."] | pd.Series | pd.Index | pd.DataFrame
"""Numbers along an axis."""

Within = tuple[float, float]
"""The lowest and the highest."""

EVERYTHING: Within = (-math.inf, math.inf)

_BAR_SHARE = 0.6  # of the panels' height
_BAR_THICK = 0.16  # inches
_HALF = np.array([-0.25, 0.25])  # where half a layer begins and ends

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#A6761D")
"""Okabe and Ito's colours, which the colour-blind can tell apart, with wine and brown for their yellow and their black.

Families take them in order; black and grey are for what they stand beside, such as nulls and controls.
"""

BAND = "#DDDDDD"
"""The colour of what controls and nulls reach."""

Shown = int | str | Collection[int]
"""How many layers are shown, evenly spread; or which: `all`, numbers, or a string such as `0,4-7,-1`."""


def shown_layers(there: Sequence[int], layers: Shown = MOST_SHOWN) -> list[int]:
    """Where the layers that have a panel stand among all; the embedding (-1) goes with layer 0 where they are named.

    Args:
        there: all, in order.
        layers: which are shown.

    Raises:
        InputError: it is no such number or list, or names no layer that there is.

    Example:
        >>> shown_layers(range(-1, 30))
        [0, 4, 9, 13, 17, 21, 26, 30]
        >>> shown_layers(range(-1, 30), "0,-1")
        [0, 1, 30]
    """
    if isinstance(layers, int):
        if isinstance(layers, bool) or layers < 1:
            raise InputError(f"layers shown are a number from 1, a list such as 0,4-7,-1, or all; got {layers}")
        return np.unique(np.linspace(0, len(there) - 1, layers).round().astype(int)).tolist()
    blocks = [max(layer, 0) for layer in there]
    wanted = {*blocks} if layers == "all" else {*parse_layers(layers, max(blocks) + 1)}
    found = [i for i, block in enumerate(blocks) if block in wanted]
    if not found:
        raise InputError(f"layers analysed are {', '.join(map(str, dict.fromkeys(blocks)))}; got {layers} to show")
    return found


def panels(
    n: int,
    caption: str,
    *,
    most_columns: int,
    each: tuple[float, float],
    beside: tuple[float, float],
    sharey: bool = False,
    ax: Ax = None,
) -> tuple[Figure, Shaped[np.ndarray, " panel"]]:
    """A figure of n panels, in lines as even as can be, and its axes, with nothing where the last line is not full.

    Args:
        n: how many.
        caption: what the figure shows.
        most_columns: panels in a line, at most.
        each: width and height of a panel, in inches.
        beside: width and height of what is not panels.
        sharey: all have the same y axis.
        ax: panels of the caller's, which are taken instead; such a figure has no caption.

    Raises:
        InputError: the caller's are not so many.
    """
    if ax is not None:
        return _given(ax, n)
    lines = max(1, math.ceil(n / most_columns))
    columns = max(1, math.ceil(n / lines))
    size = (each[0] * columns + beside[0], each[1] * lines + beside[1])
    figure = PlainFigure(caption, figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=sharey).ravel()
    for axis in axes[n:]:
        axis.set_axis_off()
    return figure, axes


def _given(ax: Any, n: int) -> tuple[Figure, Shaped[np.ndarray, " panel"]]:
    axes = np.ravel(np.array(ax, dtype=object))
    if len(axes) != n or not all(isinstance(axis, Axes) for axis in axes):
        raise InputError(f"the figure has {n} panel{'s' * (n > 1)}, and takes as many axes; got {len(axes)}")
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    return figure, axes


def headline(figure: Figure, text: str, *, fontsize: float) -> None:
    """A title over all panels; a figure of the caller's keeps its own."""
    if isinstance(figure, PlainFigure):
        figure.suptitle(text, fontsize=fontsize)


def layer_title(hook: Hook) -> str:
    """A layer's name in figures: `embed`, or `layer 3`."""
    return "embed" if hook.table_layer < 0 else f"layer {hook.layer}"


def layer_ticks(axis: Axes, layers: Sequence[int], *, most: int = 16) -> None:
    """Ticks at even steps of the layers, the embedding among them, and the axis' name; a single layer in the middle.

    All layers are within the axis, also where nothing is drawn at them.

    Args:
        axis: the panel.
        layers: those that are drawn, in order.
        most: ticks, at most, and one for the embedding.
    """
    step, span = max(1, math.ceil(len(layers) / most)), layers[-1] - layers[0]
    gapless = span == len(layers) - 1
    ticks = [layer for layer in layers if layer < 0 or layer % step == 0] if gapless else list(layers)[::step]
    if ticks[:2] == [-1, 0] and span > most / 2 + 1:  # where the two names have no room beside each other
        ticks.remove(0)
    ticks = ticks or [layers[0]]
    axis.update_datalim([(layers[0], 0), (layers[-1], 0)], updatey=False)
    axis.autoscale_view(scaley=False)
    axis.set_xticks(ticks, ["embed" if layer < 0 else str(layer) for layer in ticks])
    axis.set_xlabel("layer")
    if not span:
        axis.set_xlim(layers[0] - 1, layers[0] + 1)


def curve(axis: Axes, layers: Values, values: Values, *, within: Within = EVERYTHING, **style: Any) -> None:
    """Values over layers as a line, half a layer long where no other is beside it; a triangle at the edge if outside.

    Args:
        axis: the panel.
        layers: in order.
        values: nan where there is none.
        within: the lowest and the highest value that are shown.
        style: of the line, as matplotlib names it.
    """
    x, y = np.asarray(layers), np.asarray(values, dtype=float)
    (line,) = axis.plot(x, y.clip(*within), **style)
    if line.get_marker() == "None":
        for i in np.flatnonzero(_alone(y)):
            axis.plot(x[i] + _HALF, np.full(2, y[i]).clip(*within), **{**style, "label": None})
    for outside, edge, mark in ((y < within[0], within[0], "v"), (y > within[1], within[1], "^")):
        if outside.any():
            axis.plot(x[outside], np.full(outside.sum(), edge), color=line.get_color(), marker=mark, linestyle="none")


def band(axis: Axes, layers: Values, low: Values, high: Values, *, within: Within = EVERYTHING, **style: Any) -> None:
    """From low to high over layers; at a layer without another beside it as a bar of half a layer's width."""
    x = np.asarray(layers, dtype=float)
    below, above = (np.asarray(one, dtype=float).clip(*within) for one in (low, high))
    axis.fill_between(x, below, above, linewidth=0, **style)
    for i in np.flatnonzero(_alone(below + above)):
        axis.fill_between(x[i] + _HALF, below[i], above[i], linewidth=0, **{**style, "label": None})


def limits(*values: Values, least: Within, within: Within = EVERYTHING) -> Within:
    """The lowest and the highest of all values, as far as they are shown.

    Args:
        values: what is drawn; nan where there is none.
        least: what is shown whatever the values are.
        within: what is shown at most.
    """
    whole = np.concatenate([np.ravel(np.asarray(one, dtype=float)) for one in (*values, least)])
    there = whole[np.isfinite(whole)].clip(*within)
    return float(there.min()), float(there.max())


def spans_decades(values: Values) -> bool:
    """Whether a tenth of the values, none of them negative, are below a hundredth of the largest, and seen as nothing.

    Example:
        >>> spans_decades([0.9, 0.001, 0.002]), spans_decades([0.9, 0.1]), spans_decades([0.9, -0.001])
        (True, False, False)
    """
    whole = np.ravel(np.asarray(values, dtype=float))
    there = whole[np.isfinite(whole)]
    if not len(there) or there.min() < 0 or not there.max():
        return False
    return bool(np.quantile(there, 0.1) < there.max() / 100)


def colours(n: int) -> list[str]:
    """As many colours that the colour-blind tell apart: those of `PALETTE`, or of more than it has a scale's.

    Example:
        >>> colours(2)
        ['#0072B2', '#D55E00']
    """
    if n <= len(PALETTE):
        return list(PALETTE[:n])
    return [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 0.95, n))]


def colour_bar(figure: Figure, shades: ScalarMappable, axes: Iterable[Axes], label: str) -> None:
    """A bar beside panels, named, as thick in a figure of many lines of panels as in one of one."""
    length = _BAR_SHARE * figure.get_size_inches()[1]
    figure.colorbar(shades, ax=list(axes), label=label, shrink=_BAR_SHARE, aspect=max(8.0, length / _BAR_THICK))


def nothing_there(axis: Axes, said: str) -> None:
    """What stands in a panel that has no value to show."""
    axis.text(0.5, 0.5, said, transform=axis.transAxes, ha="center", va="center", fontsize=7, color="#555555")


def _alone(values: np.ndarray) -> np.ndarray:
    """Where a value is finite and neither of those beside it."""
    there = np.pad(np.isfinite(values), 1)
    return there[1:-1] & ~there[:-2] & ~there[2:]
