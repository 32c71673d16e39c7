"""What captions and titles call results, how many of what they say numbers rest on, and at which layers."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from cache.shown.counts import number_of, numbers_in
from geometry.results.result import LayerResult

METHODS = MappingProxyType(
    {
        "pca": "principal components",
        "svd": "singular vectors",
        "nmf": "non-negative factors",
        "umap": "UMAP (a picture)",
    }
)
"""What results are called in titles."""

SHORT = MappingProxyType({"pca": "PC", "svd": "SV", "nmf": "NMF"})
"""What components are called on axes."""

_COUNTED = {"rows": "row", "members": "member", "templates": "template", "controls": "control family"}


def sentences(*said: str) -> str:
    """A paragraph of those that have something to say."""
    return " ".join(filter(None, said))


def counted(table: pd.DataFrame, **called: str) -> str:
    """What the lines of a table rest on; the least and the most where they differ.

    Args:
        table: with `n_rows`, `n_members`, `n_templates`, `n_controls`, or some of them.
        called: other words for one of the rows, members, templates, controls.

    Example:
        >>> import pandas as pd
        >>> counted(pd.DataFrame({"n_rows": [1076, 1076], "n_members": [5, 9]}), rows="prompt")
        '1,076 prompts, 5 to 9 members'
    """
    found = []
    for name, thing in (_COUNTED | called).items():
        if len(numbers := table.get(f"n_{name}", pd.Series(dtype=float)).dropna()):
            low, high = int(numbers.min()), int(numbers.max())
            words = number_of(high, thing, thing.replace("family", "families") if thing.endswith("family") else "")
            found.append(words if low == high else f"{low:,} to {words}")
    return ", ".join(found)


def at_layers(layers: Iterable[int]) -> str:
    """Layers in words.

    Example:
        >>> at_layers([-1, 0, 1, 2, 5])
        'the embedding and layers 0-2, 5'
    """
    layers, runs = {*layers}, list[list[int]]()
    for layer in sorted(layers - {-1}):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1][1:] = [layer]
        else:
            runs.append([layer])
    text = ", ".join("-".join(map(str, run)) for run in runs)
    words = f"layer{'s' if len(runs) > 1 or len(runs[0]) > 1 else ''} {text}" if runs else ""
    return " and ".join(filter(None, ["the embedding" if -1 in layers else "", words]))


def outside(values: Any, within: tuple[float, float]) -> str:
    """A sentence on values that are drawn at the ends of an axis; nothing where there are none.

    Example:
        >>> outside([0.5, -7.0], (-1, 1.5))
        'Triangles: values below -1, drawn there.'
    """
    whole, (low, high) = np.asarray(values, dtype=float), within
    beyond = [f"below {low:g}"] * bool((whole < low).any()) + [f"above {high:g}"] * bool((whole > high).any())
    return f"Triangles: values {' or '.join(beyond)}, drawn there." if beyond else ""


def row_counts_text(result: LayerResult) -> str:
    """Rows, members and templates, as titles count them."""
    return numbers_in(result.table.iloc[0], "row", "member", "template")
