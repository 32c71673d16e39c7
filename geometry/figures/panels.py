"""Panels of a figure: how many, of which layers, and how layers are named on their axes."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache import Hook
from cache.errors import InputError
from cache.models.hooks import parse_layers
from geometry.figures.plain import PlainFigure

MOST_SHOWN = 8
"""Layers that have a panel each unless more are asked for."""

Ax = Axes | Sequence[Axes] | np.ndarray | None
"""Panels of a figure of the caller's, to draw into; None for a figure of our own."""

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
    """A figure of n panels, line by line, and its axes, with nothing where the last line is not full.

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
    columns = min(most_columns, n)
    lines = math.ceil(n / columns)
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
    """Ticks at the embedding and at even steps of the layers, and the axis' name."""
    step = max(1, math.ceil(len(layers) / most))
    ticks = [layer for layer in layers if layer < 0 or (layer > 0 and layer % step == 0)] or list(layers)
    axis.set_xticks(ticks, ["embed" if layer < 0 else str(layer) for layer in ticks])
    axis.set_xlabel("layer")
