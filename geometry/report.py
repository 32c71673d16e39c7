"""A result on disk: machine-readable files, and its pictures as PNG and SVG beside them."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cache.whole_files import write_whole
from geometry.results.result import LayerResult


def write_report(
    result: LayerResult,
    figures: Mapping[str, Figure],
    folder: str | Path,
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> list[Path]:
    """Save a result, its figures and further tables (CSV) into a folder, which is made if need be; returns the files.

    Each file is whole or not there. The same result gives the same bytes: SVGs carry no date and no random ids.

    Raises:
        NotAvailableError: the folder cannot be made, or takes no file.
        NoSpaceError: there is no room.

    Example:
        >>> from geometry.figures.scatter import scatter_by_layer
        >>> result = pca_by_layer(view, k=2)
        >>> files = write_report(result, {"scatter": scatter_by_layer(result)}, "figures/pca")
        >>> [path.name for path in files]
        ['result.nc', 'result.json', 'table.csv', 'rows.csv', 'scatter.png', 'scatter.svg']
    """
    folder = Path(folder)
    paths = result.save(folder)
    for name, table in tables.items():
        paths.append(write_whole(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g")))
    with matplotlib.rc_context({"svg.hashsalt": result.source, "svg.fonttype": "none"}):
        for name, figure in figures.items():
            png, svg = _pictures(figure)
            paths += [write_whole(folder / f"{name}.png", png), write_whole(folder / f"{name}.svg", svg)]
    return paths


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with matplotlib's own settings for a while, whatever a matplotlibrc or a style in use says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def _pictures(figure: Figure) -> tuple[bytes, bytes]:
    """A figure as PNG, and as SVG with the same layout: found once; drawn once each, where `savefig` draws twice."""
    png, svg = io.BytesIO(), io.BytesIO()
    canvas, layout, dpi = figure.canvas, figure.get_layout_engine(), figure.dpi
    figure.set_dpi(110)
    drawing: Any = FigureCanvasAgg(figure)
    drawing.print_png(png, metadata={"Software": None})
    figure.set_layout_engine("none")
    drawing = FigureCanvasSVG(figure)
    drawing.print_svg(svg, metadata={"Date": None})
    figure.set_layout_engine(layout)
    figure.set_dpi(dpi)
    figure.set_canvas(canvas)
    return png.getvalue(), svg.getvalue()
