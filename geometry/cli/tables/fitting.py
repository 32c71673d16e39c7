"""Columns set in a width: the first ones that fit; words may take several lines, numbers never."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells

from geometry.cli.tables.cells import cells, is_numeric
from geometry.printable import printable

if TYPE_CHECKING:
    import pandas as pd

_GAP = "  "
_NARROWEST = 24
"""A column of texts that are longer than this is given no less; of a narrow terminal a third."""


@dataclass(frozen=True)
class Column:
    """A column in words.

    Attributes:
        name: its heading.
        cells: what stands under it, line by line.
        numeric: whether these are numbers, which stand to the right and are never divided.
    """

    name: str
    cells: tuple[str, ...]
    numeric: bool

    @property
    def natural(self) -> int:
        """The width that it takes where there is room."""
        return max(cell_len(self.name), self.widest)

    @property
    def widest(self) -> int:
        """The width of its widest cell."""
        return max(map(cell_len, self.cells), default=0)

    def narrow(self, width: int) -> int:
        """The least width that it is given in a table of a width: headings are divided at spaces, texts too."""
        least = max(2, min(_NARROWEST, width // 3))
        heading = min(max(map(cell_len, self.name.split()), default=0), least)
        return max(heading, self.widest if self.numeric else min(self.widest, least))


def columns_of(frame: "pd.DataFrame") -> list[Column]:
    """The columns of a data frame in words, in their order."""
    series = [frame.iloc[:, place] for place in range(frame.shape[1])]
    return [Column(printable(str(one.name)), tuple(cells(one)), is_numeric(one)) for one in series]


def that_fit(columns: Sequence[Column], width: int) -> int:
    """How many of the columns, from the first, a width has room for; one at least."""
    used = 0
    for number, column in enumerate(columns):
        used += column.narrow(width) + (len(_GAP) if number else 0)
        if number and used > width:
            return number
    return len(columns)


def evenly(n: int, kept: int) -> list[int]:
    """Places of some of so many things, in equal steps; the first and the last among them.

    No more than `kept` and one are there, and all if that is no fewer.
    """
    if n <= kept:
        return list(range(n))
    step = -(-(n - 1) // max(kept - 1, 1))
    return sorted({*range(0, n, step), n - 1})


def set_in(columns: Sequence[Column], width: int | None) -> list[str]:
    """The lines of a table: headings, a rule, cells; None sets them as wide as they are.

    No line is longer than the width if `that_fit` says that all columns fit.
    """
    widths = [one.natural for one in columns] if width is None else _widths(columns, width)
    heading = [wrapped(one.name, size) for one, size in zip(columns, widths, strict=True)]
    tallest = max(map(len, heading), default=0)
    lines = _joined(columns, widths, [[""] * (tallest - len(one)) + one for one in heading])
    lines.append(_GAP.join("-" * size for size in widths))
    for row in zip(*(one.cells for one in columns), strict=True):
        lines += _joined(columns, widths, [wrapped(text, size) for text, size in zip(row, widths, strict=True)])
    return lines


def wrapped(text: str, width: int, between: str = " ") -> list[str]:
    """A text in lines of a width, divided at spaces or what else is between its parts; a wider part, anywhere."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split(between):
        if cell_len(joined := f"{lines[-1]}{between}{word}" if lines[-1] else word) <= width:
            lines[-1] = joined
        else:
            lines += chop_cells(word, width)
    return lines if lines[0] else lines[1:]


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """A width for each column: texts grow before headings, the narrowest first, until there is no room."""
    natural = [one.natural for one in columns]
    widths = [min(one.narrow(width), width) if not one.numeric else one.narrow(width) for one in columns]
    left = width - sum(widths) - len(_GAP) * (len(widths) - 1)
    while left > 0 and (growing := [i for i, size in enumerate(widths) if size < natural[i]]):
        widths[min(growing, key=lambda i: (columns[i].numeric, widths[i]))] += 1
        left -= 1
    return widths


def _joined(columns: Sequence[Column], widths: Sequence[int], parts: Sequence[Sequence[str]]) -> list[str]:
    """Cells of one or more lines side by side."""
    lines = []
    for line in zip_longest(*parts, fillvalue=""):
        padded = []
        for text, column, size in zip(line, columns, widths, strict=True):
            blank = " " * (size - cell_len(text))
            padded.append(blank + text if column.numeric else text + blank)
        lines.append(_GAP.join(padded).rstrip())
    return lines
