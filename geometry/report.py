"""A result on disk: machine-readable files, and its pictures as PNG and SVG beside them."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from geometry.layerwise import LayerResult


def write_report(
    result: LayerResult,
    figures: Mapping[str, Figure],
    folder: str | Path,
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> list[Path]:
    """Save a result, its figures and further tables (CSV) into a folder, which is made if need be; returns the files.

    The same result gives the same bytes: SVGs carry no date and no random ids.
    """
    folder = Path(folder)
    paths = result.save(folder)
    for name, table in tables.items():
        paths.append(folder / f"{name}.csv")
        table.to_csv(paths[-1], index=False, float_format="%.6g")
    with matplotlib.rc_context({"svg.hashsalt": result.source, "svg.fonttype": "none"}):
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(path, dpi=110, metadata=metadata)
                paths.append(path)
    return paths
