"""Figures that show every text as it stands: families, members and tokens may hold `$`, which begins no formula."""

from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from geometry.printable import printable


class PlainFigure(Figure):
    """A matplotlib figure without formulas and control characters, which no SVG may hold; all of ours are such."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw, as matplotlib asks to whenever it saves, shows or lays out."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text(), keep="\n"))
        super().draw(renderer)
