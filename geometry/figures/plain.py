"""Figures that show every text as it stands: families, members and tokens may hold `$`, which begins no formula."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.table import Table
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from geometry.printable import printable

_LONGEST = 40  # characters of a label


class PlainFigure(Figure):
    """A matplotlib figure without formulas and control characters, which no SVG may hold; all of ours are such."""

    def draw(self, renderer: Any) -> None:
        """Draw, as matplotlib asks to whenever it saves, shows or lays out."""
        for axis in self.findobj(Axis):
            _escape_ticks(axis)
        for text in self._texts():
            text.set_parse_math(False)
            text.set_text(_shown(text.get_text()))
        super().draw(renderer)

    def _texts(self) -> Iterator[Text]:
        yield from self.findobj(Text)
        for table in self.findobj(Table):  # whose cells do not show their texts to findobj
            yield from (cell.get_text() for cell in table.get_celld().values())


def _escape_ticks(axis: Any) -> None:
    """The labels of an axis are kept apart from its texts, and set anew at every drawing; long ones leave no room."""
    if axis.get_scale() == "log":  # whose own labels are formulas
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    labels = [label.get_text() for label in axis.get_ticklabels()]
    if labels != (shown := [_shortened(_shown(label)) for label in labels]):
        axis.set_ticklabels(shown)


def _shortened(text: str) -> str:
    """The text, or its beginning where it is too long for an axis."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _shown(text: str) -> str:
    return printable(text, keep="\n")
