"""A result on disk: machine-readable files, and its pictures as PNG, SVG or PDF beside them."""

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backend_bases import get_registered_canvas_class
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cache.errors import InputError
from cache.whole_files import write_whole
from geometry.printable import printable
from geometry.results.described import provenance
from geometry.results.result import LayerResult

DEFAULT_FORMATS = ("png", "svg")

_UNDATED: Mapping[str, Mapping[str, None]] = MappingProxyType(
    {
        "png": {"Software": None},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
)
"""Formats of figures, and what of each is left out so that the same figure gives the same bytes."""

_DPI = 110
_DPI_IN_VECTORS = 220  # of point layers that are too large for vectors


def write_report(
    result: LayerResult,
    figures: Mapping[str, Figure],
    folder: str | Path,
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({}),
    *,
    formats: Collection[str] = DEFAULT_FORMATS,
    command: str = "",
) -> list[Path]:
    """Save a result, its figures and further tables (CSV) into a folder, which is made if need be; returns the files.

    Beside each figure lies its caption (`scatter.txt`): what is drawn, how many of what it rests on, what errors and
    nulls are; then the parameters, seed, store and command.

    Each file is whole or not there. The same result gives the same bytes: no picture carries a date or random ids. The
    texts of an SVG are texts, those of a PDF are in embedded TrueType fonts.

    Args:
        result: the result.
        figures: by name.
        folder: where to.
        tables: by name.
        formats: of the figures: `png`, `svg`, `pdf`.
        command: what made the result, for the captions.

    Raises:
        InputError: a format is none of these.
        NotAvailableError: the folder cannot be made, or takes no file.
        NoSpaceError: there is no room.

    Example:
        >>> from geometry.figures.scatter import scatter_by_layer
        >>> result = pca_by_layer(view, k=2)
        >>> files = write_report(result, {"scatter": scatter_by_layer(result)}, "figures/pca")
        >>> [path.name for path in files]
        ['result.nc', 'result.json', 'table.csv', 'rows.csv', 'scatter.png', 'scatter.svg', 'scatter.txt']
    """
    chosen, folder = known_formats(formats), Path(folder)
    paths, made_from = result.save(folder), provenance(result.parameters, result.source, command)
    for name, table in tables.items():
        paths.append(write_whole(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g")))
    return paths + write_figures(figures, folder, made_from, formats=chosen, salt=result.source)


def write_figures(
    figures: Mapping[str, Figure],
    folder: Path,
    made_from: str,
    *,
    formats: Collection[str] = DEFAULT_FORMATS,
    salt: str = "",
) -> list[Path]:
    """Save figures, each with its caption beside it, as `write_report` does; returns the files.

    Args:
        figures: by name.
        folder: where to.
        made_from: what the captions end with (`provenance`).
        formats: of the figures: `png`, `svg`, `pdf`.
        salt: what ids within an SVG are made from: of the same, the same.

    Raises:
        InputError, NotAvailableError, NoSpaceError: as for `write_report`.
    """
    chosen, paths = known_formats(formats), list[Path]()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "pdf.fonttype": 42}):
        for name, figure in figures.items():
            pictures = _pictures(figure, chosen)
            paths += [write_whole(folder / f"{name}.{one}", pictures[one]) for one in chosen]
            paths.append(write_whole(folder / f"{name}.txt", f"{_caption(figure)}{made_from}\n"))
    return paths


def known_formats(formats: Collection[str]) -> list[str]:
    """The formats of figures that are asked for, each once.

    Raises:
        InputError: there is none, or one that is not known.
    """
    asked = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    if not asked or not set(asked) <= set(_UNDATED):
        raise InputError(f"figures are written as {', '.join(_UNDATED)}; got {', '.join(asked) or 'none'}")
    return asked


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with matplotlib's own settings for a while, whatever a matplotlibrc or a style in use says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def _caption(figure: Figure) -> str:
    """What a figure of ours says of itself, with a line between that and what follows; of others nothing."""
    said = str(getattr(figure, "caption", ""))
    return f"{printable(said)}\n\n" if said else ""


def _pictures(figure: Figure, formats: Collection[str]) -> dict[str, bytes]:
    """A figure in each format with the same layout: found once; drawn once each, where `savefig` draws twice."""
    canvas, layout, dpi = figure.canvas, figure.get_layout_engine(), figure.dpi
    figure.set_dpi(_DPI)
    FigureCanvasAgg(figure)
    pictures: dict[str, bytes] = {}
    if "png" in formats:
        pictures["png"] = _drawn(figure, "png")
    else:
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    figure.set_dpi(_DPI_IN_VECTORS)
    pictures |= {one: _drawn(figure, one) for one in formats if one != "png"}
    figure.set_layout_engine(layout)
    figure.set_dpi(dpi)
    figure.set_canvas(canvas)
    return pictures


def _drawn(figure: Figure, name: str) -> bytes:
    written = io.BytesIO()
    canvas: Any = get_registered_canvas_class(name)
    getattr(canvas(figure), f"print_{name}")(written, metadata=dict(_UNDATED[name]))
    return written.getvalue()
