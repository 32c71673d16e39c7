"""Pictures of layer results; no figure computes, shows or saves anything."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.shown.counts import number_of
from geometry.bases.aligned import aligned
from geometry.figures.captions import METHODS, SHORT, at_layers, counted, row_counts_text, sentences
from geometry.figures.legend import enlarge, legend_below
from geometry.figures.panels import (
    EVERYTHING,
    MOST_SHOWN,
    PALETTE,
    Ax,
    Shown,
    Within,
    colour_bar,
    colours,
    headline,
    layer_title,
    panels,
    shown_layers,
)
from geometry.results.result import LayerResult

_GREY = "#BBBBBB"
_FAR = 3
_FEWEST, _MOST = 3, 12  # letters of a member's name
_MINUS = "\N{MINUS SIGN}"


def scatter_by_layer(
    result: LayerResult, *, layers: Shown = MOST_SHOWN, color: str = "family", ax: Ax = None
) -> Figure:
    """One panel a layer: rows along the first two components, and members' means, joined where members have an order.

    Colour is the family, grey the controls; the label is the member, cut to three letters where it is longer and no
    other member of the family begins with them.
    Axes carry the share of variance that their component explains. The two components keep sign and order from layer
    to layer as far as they can (`aligned`): of the picture only, the result's numbers stay as they are. Rows that are
    few and so far from all others that nothing else could be seen are triangles at the edge.

    Args:
        result: of `pca_by_layer`, `svd_by_layer`, `nmf_by_layer` or `umap_by_layer`.
        layers: which have a panel: how many, evenly spread, or which ones.
        color: the label of the rows that colours them: `family`, `frame`, `kind`, one of the user's own; numbers that
            are many are shades. Of other labels than the family no means are drawn.
        ax: where it is drawn, in a figure of the caller's, as many as layers shown; None for one of its own.

    Raises:
        InputError: there is no such layer or label, or another number of axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> drawn = scatter_by_layer(pca_by_layer(view, k=2), layers="2", color="frame", ax=figure.subplots())
        >>> drawn is figure, figure.axes[0].get_title()
        (True, 'layer 2')
    """
    check_label(color, result.rows.columns)
    shown = shown_layers([hook.table_layer for hook in result.hooks], layers)
    caption = _scatter_caption(result, shown, color)
    figure, axes = panels(len(shown), caption, most_columns=6, each=(3.1, 2.9), beside=(0.4, 0.9), ax=ax)
    scores = result.values("scores")[:, :, :2]
    order, signs = aligned(scores, turned=result.name != "nmf")
    families, shades = list(dict.fromkeys(result.rows["family"])), None
    for i, axis in zip(shown, axes, strict=False):
        drawn = scores[i][:, order[i]] * signs[i]
        whole = pd.DataFrame({"x": drawn[:, 0], "y": drawn[:, 1] if drawn.shape[1] > 1 else 0.0})
        edge = whole.apply(lambda one: one.clip(*bulk(one.to_numpy())))
        points = whole.where((edge == whole).all(axis=1))
        if color == "family":
            _by_family(axis, points, result.rows, families)
        else:
            shades = _by_label(axis, points, result.rows[color])
        _mark_far(axis, whole, edge)
        axis.margins(0.08)
        axis.tick_params(labelsize=6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(layer_title(result.hooks[i]), fontsize=10)
        x_label, y_label = _axis_labels(result, i, order[i], signs[i])
        axis.set_xlabel(x_label, fontsize=8)
        axis.set_ylabel(y_label, fontsize=8)
    if shades is not None:
        colour_bar(figure, shades, axes[: len(shown)], color)
    else:
        enlarge(legend_below(figure, axes[: len(shown)], fontsize=11))
    headline(figure, f"{result.parameters['site']}: {METHODS[result.name]} of {row_counts_text(result)}", fontsize=13)
    return figure


def check_label(name: str, labels: Collection[str]) -> None:
    """Refuse to colour rows by what they do not have.

    Raises:
        InputError: there is no such label; the message names those there are.
    """
    if name not in labels:
        raise InputError(f"rows have no label {name!r}; they have {', '.join(map(str, labels))}")


def bulk(values: Float[np.ndarray, "_"]) -> Within:
    """The lowest and the highest of some values, leaving out those few beside which the others could not be seen.

    Left out are values of the lowest and the highest twentieth that lie further from all between them than three times
    as far as these do from each other.

    Example:
        >>> import numpy as np
        >>> bulk(np.append(np.linspace(0, 1, 500), 100.0))
        (0.0, 1.0)
    """
    low, high = np.nanquantile(values, [0.05, 0.95])
    away = _FAR * (high - low)
    inside = values[(values >= low - away) & (values <= high + away)]
    return (float(inside.min()), float(inside.max())) if len(inside) else EVERYTHING


def _mark_far(axis: Axes, whole: pd.DataFrame, edge: pd.DataFrame) -> None:
    """Triangles that point to where rows lie that are drawn at the edge."""
    for name, sign, mark in (("x", -1, "<"), ("x", 1, ">"), ("y", -1, "v"), ("y", 1, "^")):
        beyond = sign * (whole[name] - edge[name]) > 0
        if beyond.any():
            at = edge[beyond]
            axis.scatter(at["x"], at["y"], s=18, color="#555555", marker=mark, linewidths=0, zorder=3)


def _scatter_caption(result: LayerResult, shown: Sequence[int], color: str) -> str:
    """What `scatter_by_layer` shows."""
    families = result.rows["family"]
    ours = [name for name in dict.fromkeys(families) if not name.startswith(CONTROL_PREFIX)]
    ordered = [name for name in ours if _in_order(result.rows[families == name])]
    joined = "lines join them in the members' order" + (f" ({', '.join(ordered)})" if ordered != ours else "")
    chosen = f" ({len(shown)} of {len(result.hooks)} shown)" if len(shown) < len(result.hooks) else ""
    n_controls = families[families.str.startswith(CONTROL_PREFIX)].nunique()
    parts = [
        f"{METHODS[result.name][0].upper()}{METHODS[result.name][1:]} of {result.parameters['site']} at "
        f"{at_layers(result.hooks[i].table_layer for i in shown)}{chosen}, fitted at each by itself: "
        f"{counted(result.table)}.",
        "Small points are rows; words (of long ones as many letters as tell them apart) stand at the mean of a "
        f"family's rows of one member{f', and {joined}' if ordered else ''}."
        if color == "family"
        else f"Points are rows, in the colour of their {color}.",
        f"Grey: the rows of {number_of(n_controls, 'control family', 'control families')}."
        if n_controls and color == "family"
        else "",
        "Triangles: rows far from all others, drawn at the edge and left out of means."
        if _has_far(result, shown)
        else "",
        "Distances between clusters and their sizes mean nothing; trustworthiness (0 to 1) is of each row's nearest "
        f"{result.parameters.get('n_neighbors')} neighbours."
        if result.name == "umap"
        else "In brackets: the component's share of variance.",
        f"Which of the two axes lies across{'' if result.name == 'nmf' else ', and which way it points,'} follows the "
        "layer before, by the largest correlation of the same rows' scores"
        f"{f' ({_MINUS}: turned round)' if result.name in ('pca', 'svd') else ''}; saved numbers keep their own order."
        if len(result.hooks) > 1
        else "",
    ]
    return sentences(*parts)


def _has_far(result: LayerResult, shown: Sequence[int]) -> bool:
    """Whether a row of a layer that is shown lies beyond its panel."""
    columns = (one for i in shown for one in result.values("scores")[i, :, :2].T)
    return any(bool((one.clip(*bulk(one)) != one).any()) for one in columns)


def _axis_labels(result: LayerResult, i: int, order: np.ndarray, signs: np.ndarray) -> tuple[str, str]:
    """What a panel's axes carry: components with their shares, or how far a UMAP can be trusted."""
    if "trustworthiness" in result.dataset:
        trust = float(result.values("trustworthiness")[i])
        return (f"trustworthiness {trust:.2f}" if np.isfinite(trust) else "no variance"), ""
    ratios = result.values("explained_variance_ratio")[i]
    x, *rest = (
        _component(SHORT[result.name], int(number), float(ratios[number]), turned=bool(sign < 0))
        for number, sign in zip(order, signs, strict=True)
    )
    return x, rest[0] if rest else ""


def _component(short: str, number: int, ratio: float, *, turned: bool) -> str:
    name = f"{_MINUS * turned}{short}{number + 1}"
    return f"{name} ({ratio:.0%})" if np.isfinite(ratio) else f"{name} (no variance)"


def _by_family(axis: Axes, points: pd.DataFrame, rows: pd.DataFrame, families: Sequence[str]) -> None:
    """Controls lie underneath as grey clouds; each other family has its colour, its path and its labels."""
    control = rows["family"].str.startswith(CONTROL_PREFIX).to_numpy()
    if control.any():
        label = f"controls ({rows['family'][control].nunique()})"
        axis.scatter(points["x"][control], points["y"][control], s=3, color=_GREY, linewidths=0, label=label)
    ours = [family for family in families if not family.startswith(CONTROL_PREFIX)]
    for family, colour in zip(ours, colours(len(ours)), strict=True):
        mine = (rows["family"] == family).to_numpy()
        names = rows[mine].groupby("unit")["shown"].first()
        joined = _in_order(rows[mine])
        units = points[mine].assign(unit=rows["unit"][mine].to_numpy())
        _family(axis, units, names, family or "prompts", colour, joined=joined)


def _by_label(axis: Axes, points: pd.DataFrame, labels: "pd.Series[Any]") -> PathCollection | None:
    """Points in the colour of their label; numbers that are many as shades, which are given back."""
    style: dict[str, Any] = {"s": 5, "alpha": 0.6, "linewidths": 0}
    values = list(dict.fromkeys(labels))
    if labels.dtype.kind in "if" and len(values) > len(PALETTE):
        return axis.scatter(points["x"], points["y"], c=labels, cmap="viridis", **style)
    for value, colour in zip(values, colours(len(values)), strict=True):
        mine = (labels == value).to_numpy()
        axis.scatter(points["x"][mine], points["y"][mine], color=colour, label=str(value) or "none", **style)
    return None


def _in_order(rows: pd.DataFrame) -> bool:
    """Whether a family's members stand in an order: not where they are named as pairs, or count under their prompts."""
    named = "pair" in rows and (rows["pair"] != "").any()
    return bool(not named and (rows["unit"] >= 0).all())


def _family(
    axis: Axes, points: pd.DataFrame, names: "pd.Series[str]", family: str, colour: str, *, joined: bool
) -> None:
    axis.scatter(points["x"], points["y"], s=3, color=colour, alpha=0.25, linewidths=0)
    means = points.groupby("unit")[["x", "y"]].mean().dropna()
    style = {"linewidth": 0.7} if joined else {"linestyle": "none", "marker": ".", "markersize": 3}
    axis.plot(means["x"], means["y"], color=colour, alpha=0.8, label=family, **style)
    for unit, (x, y) in zip(means.index, means.to_numpy(), strict=True):
        label = axis.text(x, y, _cut(names[unit], names), color=colour, fontsize=7.5, ha="center", va="center")
        label.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
        label.set_in_layout(False)  # among its points: hundreds need not be measured to find room for panels


def _cut(name: str, names: Iterable[str]) -> str:
    """As many letters of a name as no other begins with: three at least, and a dozen at most."""
    others = {*names} - {name}
    lengths = range(_FEWEST, _MOST)
    return next((name[:n] for n in lengths if not any(one.startswith(name[:n]) for one in others)), name[:_MOST])
