"""A result on disk: machine-readable files, and its pictures as PNG and SVG beside them."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from geometry.layerwise import LayerResult


def write_report(result: LayerResult, figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Save a result and its figures into a folder, which is made if need be; returns the files.

    The same result gives the same bytes: SVGs carry no date and no random ids.
    """
    folder = Path(folder)
    paths = result.save(folder)
    with matplotlib.rc_context({"svg.hashsalt": result.source, "svg.fonttype": "none"}):
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(path, dpi=110, metadata=metadata)
                paths.append(path)
    return paths
