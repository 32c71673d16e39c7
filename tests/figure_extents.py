"""What of a figure cannot be read: texts that are cut off at its border, and titles that run into each other."""

from itertools import combinations

from matplotlib.axis import Axis, Tick
from matplotlib.text import Text

SLACK = 1.5  # pixels


def checked(draw):
    """A figure's way to draw itself that ends in an error where something cannot be read."""

    def draw_and_check(figure, renderer):
        draw(figure, renderer)
        if hasattr(figure.canvas, "get_renderer"):
            found = unreadable(figure)
            if found:
                raise AssertionError(f"cut off, or over each other: {found}")

    return draw_and_check


def unreadable(figure):
    """Texts of a drawn figure outside it, and pairs of titles of panels (or of the figure) that overlap."""
    renderer = figure.canvas.get_renderer()
    ticks = {tick for axis in figure.findobj(Axis) if axis.axes.axison for tick in axis._update_ticks()}
    beyond = {label for tick in figure.findobj(Tick) if tick not in ticks for label in (tick.label1, tick.label2)}
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text not in beyond]
    shown = [text for text in shown if text.get_visible()]
    outside = [text.get_text() for text in shown if not _inside(text.get_window_extent(renderer), figure.bbox)]
    titles = [axis.title for axis in figure.axes if axis.get_title() and axis.get_visible()] + list(figure.texts)
    boxes = [(title.get_text(), title.get_window_extent(renderer)) for title in titles]
    return outside + [f"{a} | {b}" for (a, one), (b, other) in combinations(boxes, 2) if _overlap(one, other)]


def _inside(box, frame):
    return (
        box.x0 >= frame.x0 - SLACK
        and box.y0 >= frame.y0 - SLACK
        and box.x1 <= frame.x1 + SLACK
        and box.y1 <= frame.y1 + SLACK
    )


def _overlap(one, other):
    return (
        min(one.x1, other.x1) - max(one.x0, other.x0) > SLACK and min(one.y1, other.y1) - max(one.y0, other.y0) > SLACK
    )
