"""A table of what components stand for, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geometry.figures.captions import at_layers, sentences
from geometry.figures.panels import Shown, shown_layers
from geometry.figures.plain import PlainFigure

_TITLES = {
    "layer": "layer",
    "component": "component",
    "explained_variance_ratio": "share",
    "highest": "highest members",
    "lowest": "lowest members",
    "promotes": "promotes",
    "suppresses": "suppresses",
}
_WIDEST = 50
_MOST_LAYERS = 6


def loading_table(table: pd.DataFrame, *, title: str, layers: Shown = _MOST_LAYERS) -> Figure:
    """Components of a few layers: share, members at both ends, tokens promoted and suppressed.

    Args:
        table: of `loadings`.
        title: what stands above it.
        layers: which are shown: how many, evenly spread, or which ones.

    Raises:
        InputError: there is no such layer.
    """
    there = table["layer"].drop_duplicates().tolist()
    shown = table[table["layer"].isin([there[i] for i in shown_layers(there, layers)])]
    columns = [name for name in _TITLES if name in shown]
    cells = [
        [_cell(name, value) for name, value in zip(columns, line, strict=True)] for line in shown[columns].to_numpy()
    ]
    widths = [max(len(_TITLES[name]), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    figure = PlainFigure(
        _caption(shown, columns),
        figsize=(0.075 * sum(widths) + 0.25 * len(widths), 0.22 * (len(cells) + 2) + 0.4),
        layout="constrained",
    )
    axis = figure.subplots()
    axis.set_axis_off()
    drawn = axis.table(
        cells,
        colLabels=[_TITLES[name] for name in columns],
        colWidths=[w / sum(widths) for w in widths],
        loc="upper center",
        cellLoc="left",
    )
    block, _ = pd.factorize(shown["layer"])
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    for (line, _), cell in drawn.get_celld().items():
        cell.set_linewidth(0)
        cell.get_text().set_horizontalalignment("left")
        cell.set_facecolor("#EEEEEE" if line == 0 else "white" if block[line - 1] % 2 == 0 else "#F7F7F7")
    axis.set_title(title, fontsize=10)
    return figure


def _caption(shown: pd.DataFrame, columns: list[str]) -> str:
    """What the table says."""
    parts = [
        f"What the first {shown['component'].nunique()} components stand for at {at_layers(shown['layer'])}: their "
        "share of variance, and the members whose rows have the highest and the lowest mean scores."
    ]
    if "promotes" in columns:
        parts.append(
            "Promoted and suppressed: the tokens with the highest and lowest products of the component's direction, "
            "scaled by the final norm's gain, with the unembedding, the vocabulary's mean taken off."
        )
    return sentences(*parts)


def _cell(name: str, value: object) -> str:
    if name == "explained_variance_ratio":
        share = float(str(value))
        return f"{share:.0%}" if np.isfinite(share) else "-"
    if name == "layer":
        return "embed" if int(str(value)) < 0 else str(value)
    text = str(int(str(value)) + 1) if name == "component" else str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
