"""Figures that show every text as it stands, and whole: `$` begins no formula, and titles take the lines they need."""

import io
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.table import Table
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, NullFormatter, StrMethodFormatter

from geometry.printable import printable

MOST_VECTORS = 5000
"""Points of a figure that are vectors in SVG and PDF; of more, all are one image."""

_LONGEST = 40  # characters of a label
_FREE = 0.88  # of a panel's width is for its title: what stands at its left moves it


class PlainFigure(Figure):
    """A matplotlib figure without formulas and control characters, which no SVG may hold; all of ours are such.

    Attributes:
        caption: what is drawn: what stands for what, how many of what it rests on, what errors and nulls are.
    """

    def __init__(self, caption: str, **options: Any) -> None:
        """A figure has its caption from the beginning.

        Args:
            caption: its text.
            options: those of a matplotlib figure.
        """
        super().__init__(**options)
        self.caption = caption

    def draw(self, renderer: Any) -> None:
        """Draw, as matplotlib asks to whenever it saves, shows or lays out."""
        for axis in self.findobj(Axis):
            _escape_ticks(axis)
        artists = self.findobj()
        for text in _texts(artists):
            text.set_parse_math(False)
            text.set_text(_shown(text.get_text()))
        for title, width in self._titles():
            _fit(title, width, renderer)
        points = [one for one in artists if isinstance(one, PathCollection)]
        many = sum(np.shape(one.get_offsets())[0] for one in points) > MOST_VECTORS
        for one in points:
            one.set_rasterized(many)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """What a notebook shows where the figure is the last line of a cell: pyplot does not know it."""
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()

    def _titles(self) -> Iterator[tuple[Text, float]]:
        """The titles of the figure and of its panels, and the width that each has, in pixels."""
        yield from ((text, self.bbox.width) for text in self.texts)
        for axis in self.axes:
            if (spec := axis.get_subplotspec()) is not None:
                yield axis.title, _FREE * self.bbox.width * len(spec.colspan) / spec.get_gridspec().ncols


def _texts(artists: Iterable[Artist]) -> Iterator[Text]:
    for artist in artists:
        if isinstance(artist, Text):
            yield artist
        elif isinstance(artist, Table):  # whose cells do not show their texts to findobj
            yield from (cell.get_text() for cell in artist.get_celld().values())


def _fit(title: Text, width: float, renderer: Any) -> None:
    """Break a title that is wider than its place into lines as even as they can be; a word without room is cut."""
    words, taken = title.get_text(), title.get_window_extent(renderer).width
    if taken > width:
        most = int(0.8 * width / taken * max(map(len, words.split("\n"))))
        words = re.sub(r"\S+", lambda word: shortened(word[0], most), words)
    for n_lines in range(1, words.count(" ") + 2):
        if taken <= width:
            return
        title.set_text("\n".join(part for line in words.split("\n") for part in _even(line, n_lines)))
        taken = title.get_window_extent(renderer).width


def _even(line: str, n_lines: int) -> list[str]:
    """A text in so many lines, the longest of which is as short as it can be."""
    wraps = (textwrap.wrap(line, most, break_long_words=False) for most in range(-(-len(line) // n_lines), len(line)))
    return next((lines for lines in wraps if len(lines) <= n_lines), [line])


def _escape_ticks(axis: Any) -> None:
    """The labels of an axis are kept apart from its texts, and set anew at every drawing; long ones leave no room."""
    if isinstance(axis.get_major_formatter(), LogFormatter):  # which writes formulas
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    labels = [label.get_text() for label in axis.get_ticklabels()]
    if labels != (shown := [shortened(_shown(label)) for label in labels]):
        axis.set_ticklabels(shown)


def shortened(text: str, most: int = _LONGEST) -> str:
    """The text, or its beginning where it is longer than so many characters."""
    return text if len(text) <= most else text[: max(most, 2) - 1] + "…"


def _shown(text: str) -> str:
    return printable(text, keep="\n")
