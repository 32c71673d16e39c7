"""What components stand for, as pictures: a table of members and tokens, and the heads in which they lie."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geometry.figures.captions import SHORT, at_layers, counted, sentences
from geometry.figures.panels import Ax, Shown, colour_bar, headline, panels, shown_layers
from geometry.results.result import LayerResult

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
_MOST_COMPONENTS = 3


def loading_table(table: pd.DataFrame, *, title: str, layers: Shown = _MOST_LAYERS, ax: Axes | None = None) -> Figure:
    """Components of a few layers: share, members at both ends, tokens promoted and suppressed.

    Args:
        table: of `loadings`.
        title: what stands above it.
        layers: which are shown: how many, evenly spread, or which ones.
        ax: where it is drawn, in a figure of the caller's; None for a figure of its own.

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
    size = (0.075 * sum(widths) + 0.25 * len(widths), 0.21 * (len(cells) + 1) + 0.5)
    figure, (axis,) = panels(1, _caption(shown, columns), most_columns=1, each=size, beside=(0, 0), ax=ax)
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


def heads_by_layer(result: LayerResult, *, most: int = _MOST_COMPONENTS, ax: Ax = None) -> Figure:
    """One panel a component: how much of its direction lies in each head (columns), at every layer (rows).

    Args:
        result: of `pca_by_layer`, `svd_by_layer` or `nmf_by_layer`, of a site at which heads stand side by side.
        most: components at most.
        ax: where it is drawn, in a figure of the caller's, as many as components; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    n_heads = int(result.parameters["n_heads"])
    directions = result.values("directions")[:, :most]
    squares = directions.reshape(*directions.shape[:2], n_heads, -1) ** 2
    shares = squares.sum(axis=3) / np.maximum(squares.sum(axis=(2, 3)), 1e-30)[:, :, None]
    n, layers = directions.shape[1], [hook.table_layer for hook in result.hooks]
    names = [f"{SHORT[result.name]}{number + 1}" for number in range(n)]
    caption = sentences(
        f"Where the directions of {', '.join(names)} of {result.parameters['site']} at {at_layers(layers)} lie: share "
        f"of their squared length in each of {n_heads} heads. {counted(result.table)}.",
        f"A direction that has to do with no head more than with another has the same share in all, {1 / n_heads:.2g}.",
    )
    each, beside = (max(2.4, 0.22 * n_heads + 0.9), max(2.2, 0.16 * len(layers) + 1.2)), (0.9, 0.0)
    figure, axes = panels(n, caption, most_columns=n, each=each, beside=beside, sharey=True, ax=ax)
    for axis, name, share in zip(axes, names, shares.swapaxes(0, 1), strict=True):
        image = axis.imshow(share, vmin=0, vmax=float(np.nanmax(shares)), cmap="viridis", aspect="auto", origin="lower")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("head", fontsize=9)
        axis.set_xticks(range(0, n_heads, max(1, n_heads // 8)))
        axis.tick_params(labelsize=8)
    step = max(1, len(layers) // 16)
    axes[0].set_yticks(range(0, len(layers), step), ["embed" if one < 0 else str(one) for one in layers[::step]])
    axes[0].set_ylabel("layer", fontsize=9)
    colour_bar(figure, image, axes, "share of the direction")
    headline(figure, f"{result.parameters['site']}: the heads in which components lie", fontsize=11)
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
