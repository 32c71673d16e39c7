"""Pictures of how variance is spread: over components, their spectra, and the demixed parts, layer by layer."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cache.shown.counts import numbers_in
from geometry.bases.demixing import PARTS
from geometry.figures.captions import METHODS, SHORT, at_layers, counted, outside, row_counts_text, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import PALETTE, band, colours, curve, layer_ticks, limits, panels, spans_decades
from geometry.figures.plain import PlainFigure
from geometry.results.result import LayerResult

_LEAST_SHARE = 1e-6  # that is shown on a logarithmic axis
_SHARES = (-1.0, 1.5)  # that are shown


def explained_variance_by_layer(result: LayerResult, *, ax: Axes | None = None) -> Figure:
    """Share of variance of each component over layers: one standard error (members), and the null's maximum.

    The axis is logarithmic where shares span decades; what is below a millionth is a triangle at its lower end. Of a
    single layer components stand beside each other.

    Args:
        result: of `pca_by_layer` or `svd_by_layer`.
        ax: where it is drawn, in a figure of the caller's; None for a figure of its own.
    """
    figure, (axis,) = panels(1, _variance_caption(result), most_columns=1, each=(8.2, 4.4), beside=(0, 0), ax=ax)
    layers = [hook.table_layer for hook in result.hooks]
    ratios, errors = result.values("explained_variance_ratio"), result.values("se")
    logarithmic = spans_decades(ratios)
    within = (_LEAST_SHARE if logarithmic else 0.0, 1.0)
    for component, colour in enumerate(colours(ratios.shape[1])):
        share, error = ratios[:, component], errors[:, component]
        name, n = f"{SHORT[result.name]}{component + 1}", ratios.shape[1]
        x = np.array(layers) + ((component + 0.5) / n - 0.5) * 1.8 * (len(layers) == 1)
        curve(axis, x, share, within=within, color=colour, marker="o", markersize=3, label=name)
        if np.isfinite(error).any():
            band(axis, x, share - error, share + error, within=within, color=colour, alpha=0.2)
    ceiling = result.values("null").max(axis=(1, 2))
    curve(axis, layers, ceiling, within=within, color="black", linestyle="--", linewidth=1, label="largest of the null")
    layer_ticks(axis, layers)
    axis.set_ylabel("explained variance ratio")
    if logarithmic:
        axis.set_yscale("log")
        axis.set_ylim(limits(ratios, least=(1.0, 1.0), within=within)[0] / 1.5, 1.5)
    else:
        axis.set_ylim(0, None)
    axis.spines[["top", "right"]].set_visible(False)
    legend_below(figure, [axis])
    axis.set_title(f"{result.parameters['site']}: {row_counts_text(result)}", fontsize=10)
    return figure


def spectra_by_layer(result: LayerResult) -> Figure:
    """Left: share of variance of every component, a line a layer, on logarithmic axes. Right: participation ratio.

    The participation ratio is the number of equal components that would be as concentrated; dashed are the shares of
    the largest row and of the largest dimension: near 1, one massive token or dimension makes the whole picture. It is
    a figure of its own.
    """
    spectra = result.values("spectrum")
    layers = [hook.table_layer for hook in result.hooks]
    caption = (
        f"Spectra of {result.name} of {result.parameters['site']} at {at_layers(layers)}: {counted(result.table)}. "
        "Left: share of variance of every component, a line a layer, both axes logarithmic; shares below 1e-9 are left "
        "out. Right: the participation ratio, the number of equal components that would be as concentrated (solid), "
        "and the shares of the variance that are the largest row's and the largest dimension's (dashed)."
    )
    figure = PlainFigure(caption, figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    norm = Normalize(min(layers), max(layers) if len(layers) > 1 else min(layers) + 1)
    scale = colormaps["viridis"]
    for layer, spectrum in zip(layers, spectra, strict=True):
        shares = spectrum / spectrum.sum() if spectrum.sum() > 0 else spectrum
        kept = shares > 1e-9
        if kept.any():
            left.loglog(1 + np.flatnonzero(kept), shares[kept], color=scale(norm(layer)), linewidth=1)
    left.set_xlabel("component")
    left.set_ylabel("share of variance")
    if len(layers) > 1:
        ticks = MaxNLocator(nbins=8, integer=True)
        figure.colorbar(ScalarMappable(norm, scale), ax=left, label="layer (-1: embedding)", ticks=ticks)
    participation = result.values("participation_ratio")
    curve(right, layers, participation, color=PALETTE[0], marker="o", markersize=3)
    right.set_ylabel("participation ratio", color=PALETTE[0])
    if spans_decades(participation):
        right.set_yscale("log")
    else:
        right.set_ylim(0, 1.05 * limits(participation, least=(0.0, 1.0))[1])
    layer_ticks(right, layers, most=8)
    shares_axis = right.twinx()
    for name, colour in (("largest_row_share", PALETTE[1]), ("largest_dimension_share", PALETTE[3])):
        label = name.replace("_", " ")
        curve(shares_axis, layers, result.values(name), color=colour, linestyle="--", linewidth=1, label=label)
    shares_axis.set_ylim(0, 1)
    shares_axis.set_ylabel("share")
    figure.legend(
        *shares_axis.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8, frameon=False
    )
    for axis in (left, right):
        axis.spines[["top"]].set_visible(False)
    figure.suptitle(f"{result.parameters['site']}: {result.name} spectra", fontsize=11)
    return figure


def demixed_by_layer(result: LayerResult, *, ax: Axes | None = None) -> Figure:
    """Share of variance of each part over layers; dashed: the largest share that unrelated codes give.

    Shares of little variance can be anything; those outside -1 to 1.5 are triangles there.

    Args:
        result: of `demix_by_layer`.
        ax: where it is drawn, in a figure of the caller's; None for a figure of its own.
    """
    layers = [hook.table_layer for hook in result.hooks]
    share = result.values("share")
    figure, (axis,) = panels(1, _demixed_caption(result), most_columns=1, each=(8.6, 4.6), beside=(0, 0), ax=ax)
    for i, part in enumerate(PARTS):
        style: dict[str, Any] = {"color": PALETTE[i], "marker": "o", "markersize": 3, "linewidth": 1.3}
        curve(axis, layers, share[:, i], within=_SHARES, label=part, **style)
    null = result.values("null")
    if null.shape[1]:
        label = "largest shared index of unrelated codes"
        style = {"color": PALETTE[0], "linestyle": "--", "linewidth": 1}
        curve(axis, layers, null.max(axis=1), within=_SHARES, label=label, **style)
    axis.axhline(0, color="black", linewidth=0.5)
    layer_ticks(axis, layers)
    axis.set_ylabel("share of variance")
    axis.spines[["top", "right"]].set_visible(False)
    legend_below(figure, [axis])
    counts = result.table.iloc[0]
    families = ", ".join(result.parameters["families"])
    axis.set_title(f"{result.parameters['site']}: {families}; {numbers_in(counts, 'member', 'template')}", fontsize=10)
    return figure


def _demixed_caption(result: LayerResult) -> str:
    """What `demixed_by_layer` shows."""
    n_draws = result.values("null").shape[1]
    return sentences(
        f"Cross-validated shares of the variance of {result.parameters['site']} between cells of "
        f"{', '.join(result.parameters['families'])}, over layers: {', '.join(PARTS)}. {counted(result.table)}.",
        "Shares of noise alone vary around 0 and may be negative.",
        outside(result.values("share"), _SHARES),
        f"Dashed: the largest share that the shared index has in {n_draws} draws of unrelated codes."
        if n_draws
        else "No null: too few control families.",
    )


def _variance_caption(result: LayerResult) -> str:
    """What `explained_variance_by_layer` shows."""
    ratios, n_draws = result.values("explained_variance_ratio"), result.values("null").shape[1]
    logarithmic = spans_decades(ratios)
    return sentences(
        f"Share of variance of {result.parameters['site']} that each of the first {ratios.shape[1]} "
        f"{METHODS[result.name]} explains, over layers: {counted(result.table)}.",
        "Bands: one standard error on either side (jackknife over members)."
        if np.isfinite(result.values("se")).any()
        else "No errors.",
        f"Dashed: the largest share of any component in {n_draws} draws in which every column is permuted by itself.",
        "The axis is logarithmic." if logarithmic else "",
        outside(ratios, (_LEAST_SHARE, 1.0)) if logarithmic else "",
    )
