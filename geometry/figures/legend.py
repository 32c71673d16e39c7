"""The legend under the panels of a figure: as many names in a line as the figure is wide."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text

from geometry.figures.plain import PlainFigure, shortened
from geometry.printable import printable

LONGEST = 60
"""Characters of a name, at most."""


def legend_below(figure: Figure, axes: Iterable[Axes], *, fontsize: float = 9) -> Legend:
    """Name what the panels show under them, each name once, as the first panel that has it shows it.

    The names stand in as few lines as the figure's width allows, so that none is cut off; a name that is longer than
    `LONGEST` ends in an ellipsis. In a figure of the caller's they stand in the first
    panel.

    Args:
        figure: the figure, with constrained layout.
        axes: its panels.
        fontsize: of the names, in points.

    Example:
        >>> from geometry.figures.plain import PlainFigure
        >>> figure = PlainFigure("two lines", figsize=(2, 2), layout="constrained")
        >>> axis = figure.subplots()
        >>> for name in ("one rather long name", "another rather long name"):
        ...     lines = axis.plot([0, 1], label=name)
        >>> [text.get_text() for text in legend_below(figure, [axis]).get_texts()]
        ['one rather long name', 'another rather long name']
    """
    axes = list(axes)
    named: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(shortened(printable(str(label), keep="\n"), LONGEST), handle)
    if not isinstance(figure, PlainFigure):
        legend = axes[0].legend([*named.values()], [*named], fontsize=fontsize - 3, frameon=False)
        _literally(axes)
        return legend
    style: dict[str, Any] = {"loc": "outside lower center", "fontsize": fontsize, "frameon": False}
    for n_lines in range(1, len(named) + 1):
        legend = figure.legend([*named.values()], [*named], ncols=-(-len(named) // n_lines), **style)
        for text in legend.get_texts():
            text.set_parse_math(False)  # as the figure will draw it
        if legend.get_window_extent().width <= figure.bbox.width or n_lines == len(named):
            return legend
        legend.remove()
    return figure.legend([], [], **style)


def enlarge(legend: Legend) -> None:
    """Marks of a legend in a size at which their colours are told apart."""
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            handle.set_linewidth(3)
        elif isinstance(handle, PathCollection):
            handle.set_sizes([40])


def _literally(axes: Sequence[Axes]) -> None:
    """Texts of panels as they stand, as a figure of ours draws them of itself."""
    for axis in axes:
        for text in axis.findobj(Text):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text(), keep="\n"))
