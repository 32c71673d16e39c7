"""Pictures of layer results; no figure computes, shows or saves anything."""

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from cache.families.controls import CONTROL_PREFIX
from geometry.bases.aligned import aligned
from geometry.figures.captions import at_layers, counted, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import MOST_SHOWN, Shown, layer_ticks, layer_title, panels, shown_layers
from geometry.figures.plain import PlainFigure
from geometry.results.result import LayerResult

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A6761D")
"""Okabe and Ito's colours, which the colour-blind can tell apart; families take them in order."""

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

_GREY = "#BBBBBB"
_MINUS = "\N{MINUS SIGN}"


def scatter_by_layer(result: LayerResult, *, layers: Shown = MOST_SHOWN) -> Figure:
    """One panel a layer: rows along the first two components, and members' means, joined where members have an order.

    Colour is the family, grey the controls; the label is the member, cut to three letters where it is longer.
    Axes carry the share of variance that their component explains. The two components keep sign and order from layer to
    layer as far as they can (`aligned`): of the picture only, the result's numbers stay as they are.

    Args:
        result: of `pca_by_layer`, `svd_by_layer`, `nmf_by_layer` or `umap_by_layer`.
        layers: which have a panel: how many, evenly spread, or which ones.

    Raises:
        InputError: there is no such layer.
    """
    shown = shown_layers([hook.table_layer for hook in result.hooks], layers)
    columns = _even_columns(len(shown))
    figure, axes = panels(
        len(shown), _scatter_caption(result, shown), most_columns=columns, each=(3.1, 2.9), beside=(0.4, 0.9)
    )
    scores = result.values("scores")[:, :, :2]
    order, signs = aligned(scores, turned=result.name != "nmf")
    families = list(dict.fromkeys(result.rows["family"]))
    for i, axis in zip(shown, axes, strict=False):
        _scatter(axis, scores[i][:, order[i]] * signs[i], result.rows, families)
        axis.set_title(layer_title(result.hooks[i]), fontsize=10)
        x_label, y_label = _axis_labels(result, i, order[i], signs[i])
        axis.set_xlabel(x_label, fontsize=8)
        axis.set_ylabel(y_label, fontsize=8)
    for handle in legend_below(figure, axes[:1], fontsize=11).legend_handles:
        if isinstance(handle, Line2D):
            handle.set_linewidth(3)
        elif isinstance(handle, PathCollection):
            handle.set_sizes([40])
    figure.suptitle(f"{result.parameters['site']}: {METHODS[result.name]} of {_what(result)}", fontsize=13)
    return figure


def explained_variance_by_layer(result: LayerResult) -> Figure:
    """Share of variance of each component over layers: one standard error (members), and the null's maximum."""
    figure = PlainFigure(_variance_caption(result), figsize=(8.2, 4.4), layout="constrained")
    axis = figure.subplots()
    layers = [hook.table_layer for hook in result.hooks]
    ratios, errors = result.values("explained_variance_ratio"), result.values("se")
    for component in range(ratios.shape[1]):
        colour = PALETTE[component % len(PALETTE)]
        share = ratios[:, component]
        axis.plot(layers, share, color=colour, marker="o", markersize=3, label=f"{SHORT[result.name]}{component + 1}")
        if np.isfinite(errors[:, component]).any():
            low, high = share - errors[:, component], share + errors[:, component]
            axis.fill_between(layers, low.clip(0), high.clip(max=1), color=colour, alpha=0.2, linewidth=0)
    ceiling = result.values("null").max(axis=(1, 2))
    axis.plot(layers, ceiling, color="black", linestyle="--", linewidth=1, label="largest of the null")
    layer_ticks(axis, layers)
    axis.set_ylabel("explained variance ratio")
    axis.set_ylim(0, None)
    axis.spines[["top", "right"]].set_visible(False)
    legend_below(figure, [axis])
    axis.set_title(f"{result.parameters['site']}: {_what(result)}", fontsize=10)
    return figure


def _even_columns(n: int) -> int:
    """Panels in a line: as many as leave least of the last line empty, up to six."""
    return n if n <= 4 else min((4, 5, 6), key=lambda columns: (-n % columns, -columns))


def _scatter_caption(result: LayerResult, shown: Sequence[int]) -> str:
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
        "Small points are rows; words (of more than three letters the first three) stand at the mean of a family's "
        f"rows of one member{f', and {joined}' if ordered else ''}.",
        f"Grey: the rows of {n_controls} control families." if n_controls else "",
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


def _variance_caption(result: LayerResult) -> str:
    """What `explained_variance_by_layer` shows."""
    n_draws, errors = result.values("null").shape[1], np.isfinite(result.values("se")).any()
    return (
        f"Share of variance of {result.parameters['site']} that each of the first "
        f"{result.values('explained_variance_ratio').shape[1]} {METHODS[result.name]} explains, over layers: "
        f"{counted(result.table)}. "
        + ("Bands: one standard error on either side (jackknife over members). " if errors else "No errors. ")
        + f"Dashed: the largest share of any component in {n_draws} draws in which every column "
        "is permuted by itself."
    )


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


def _what(result: LayerResult) -> str:
    counts = result.table.iloc[0]
    return f"{counts['n_rows']} rows, {counts['n_members']} members, {counts['n_templates']} templates"


def _scatter(axis: Axes, scores: np.ndarray, rows: pd.DataFrame, families: Sequence[str]) -> None:
    """Controls lie underneath as grey clouds; each other family has its colour, its path and its labels."""
    second = scores[:, 1] if scores.shape[1] > 1 else np.zeros(len(scores))
    control = rows["family"].str.startswith(CONTROL_PREFIX).to_numpy()
    if control.any():
        label = f"controls ({rows['family'][control].nunique()})"
        axis.scatter(scores[control, 0], second[control], s=3, color=_GREY, linewidths=0, label=label)
    for number, family in enumerate(f for f in families if not f.startswith(CONTROL_PREFIX)):
        mine = (rows["family"] == family).to_numpy()
        points = pd.DataFrame({"x": scores[mine, 0], "y": second[mine], "unit": rows["unit"][mine]})
        names = rows[mine].groupby("unit")["shown"].first()
        colour, joined = PALETTE[number % len(PALETTE)], _in_order(rows[mine])
        _family(axis, points, names, family or "prompts", colour, joined=joined)
    axis.margins(0.08)
    axis.tick_params(labelsize=6)
    axis.spines[["top", "right"]].set_visible(False)


def _in_order(rows: pd.DataFrame) -> bool:
    """Whether a family's members stand in an order: not where they are named as pairs, or count under their prompts."""
    named = "pair" in rows and (rows["pair"] != "").any()
    return bool(not named and (rows["unit"] >= 0).all())


def _family(
    axis: Axes, points: pd.DataFrame, names: "pd.Series[str]", family: str, colour: str, *, joined: bool
) -> None:
    axis.scatter(points["x"], points["y"], s=3, color=colour, alpha=0.25, linewidths=0)
    means = points.groupby("unit")[["x", "y"]].mean()
    style = {"linewidth": 0.7} if joined else {"linestyle": "none", "marker": ".", "markersize": 3}
    axis.plot(means["x"], means["y"], color=colour, alpha=0.8, label=family, **style)
    for unit, (x, y) in zip(means.index, means.to_numpy(), strict=True):
        label = axis.annotate(names[unit][:3], (x, y), color=colour, fontsize=7.5, ha="center", va="center")
        label.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
