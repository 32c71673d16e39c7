"""Pictures of comparisons: families by layer inside their control bands, and layers against layers."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import numbers_in
from geometry.between.summary import loudest
from geometry.figures.captions import at_layers, counted, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import Ax, headline, layer_ticks, panels
from geometry.figures.plain import PlainFigure
from geometry.figures.scatter import PALETTE
from geometry.results.result import LayerResult
from geometry.similarity.of_families import MAX_LAG
from geometry.stats.uncertainty import LEAST_CONTROLS

_BAND = "#DDDDDD"
_READOUT = "readout removed"


def shared_index_by_layer(
    result: LayerResult, *, measure: str = "matched_cosine", private: str = "letters", ax: Ax = None
) -> Figure:
    """One panel a pair of families: similarity of their index codes over layers, inside its control band.

    Colour: the value, with its 95 % interval; filled points are called `shared`; layers whose codes are not reliable
    are left out. Grey: from the lowest to the highest control family. Dashed: the members' readout directions removed.
    Dotted: both families' mean similarity, where reliable, to one whose order is its own (`private`), if it is there.
    Inset: the lag profile at the layer that the summary shows.

    Args:
        result: of `between_pairs`.
        measure: one that decides.
        private: the family that is drawn beside the others and not by itself.
        ax: where it is drawn, in a figure of the caller's, as many as pairs; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    table = _plain(result.table[result.table["measure"] == measure])
    pairs = [(a, b) for a, b in _pairs(table) if private not in (a, b)] or _pairs(table)
    caption = _shared_caption(result, table, measure, private)
    figure, axes = panels(len(pairs), caption, most_columns=3, each=(4.2, 2.9), beside=(0.3, 1.0), sharey=True, ax=ax)
    axes[0].set_ylim(min(-0.45, float(table["value"].fillna(0).min()) - 0.1), 1.1)  # of all panels, which share it
    for number, ((a, b), axis) in enumerate(zip(pairs, axes, strict=False)):
        mine = _of(table, a, b)
        colour = PALETTE[number % len(PALETTE)]
        _band(axis, mine)
        reference = [_of(table, one, private) for one in (a, b) if private not in (a, b)]
        _reference(axis, [one for one in reference if len(one)], private)
        _curve(axis, mine, colour, "all directions")
        removed = _of(result.table[(result.table["measure"] == measure) & (result.table["variant"] == _READOUT)], a, b)
        if len(removed):
            axis.plot(removed["layer"], removed["value"], color=colour, linestyle="--", linewidth=1, label=_READOUT)
        _lag_inset(axis, result, measure, f"{a} - {b}", mine, colour)
        first = mine.iloc[0]
        few = " (too few)" if first["n_controls"] < LEAST_CONTROLS else ""
        axis.set_title(f"{a} - {b}: {numbers_in(first, 'member', 'control')}{few}", fontsize=10)
        layer_ticks(axis, mine["layer"].tolist())
    legend_below(figure, axes[: len(pairs)])
    headline(figure, f"{result.parameters['site']}: {measure} of matched members, across templates", fontsize=12)
    return figure


def described_by_layer(result: LayerResult, measures: Sequence[str]) -> Figure:
    """A row of panels a measure, a column a pair: measures that describe, inside bands of the same control windows.

    Dashed: the mean under permuted members. Where the curve stays inside the grey band, overlapping windows alone
    make the measure as high.
    """
    table = _plain(result.table)
    pairs = _pairs(table)
    size = (2.9 * len(pairs) + 0.6, 2.3 * len(measures) + 0.9)
    caption = _described_caption(result, table, measures)
    figure = PlainFigure(caption, figsize=size, layout="constrained")
    grid = figure.subplots(len(measures), len(pairs), squeeze=False, sharey="row")
    for line, measure in zip(grid, measures, strict=True):
        for number, ((a, b), axis) in enumerate(zip(pairs, line, strict=True)):
            mine = _of(table[table["measure"] == measure], a, b)
            _band(axis, mine)
            axis.plot(
                mine["layer"], mine["permuted_mean"], color="black", linestyle="--", linewidth=0.8, label="permuted"
            )
            _curve(axis, mine, PALETTE[number % len(PALETTE)], "value")
            axis.set_title(f"{a} - {b}", fontsize=9)
            axis.set_ylabel(measure if number == 0 else "", fontsize=9)
            layer_ticks(axis, mine["layer"].tolist(), most=8)
    legend_below(figure, [grid[0, 0]])
    figure.suptitle(f"{result.parameters['site']}: measures that describe and do not decide", fontsize=12)
    return figure


def layer_heatmap(result: LayerResult, *, ax: Axes | None = None) -> Figure:
    """Similarity of every layer (row) to every other (column), dark to light from 0 to 1.

    Args:
        result: of `between_layers` or `between_stores`.
        ax: where it is drawn, in a figure of the caller's; None for a figure of its own.
    """
    values = result.values("value")
    table = result.table
    rows, columns = table["layer"].drop_duplicates().tolist(), table["layer_b"].drop_duplicates().tolist()
    figure, (axis,) = panels(1, _grid_caption(result), most_columns=1, each=(6.4, 5.6), beside=(0, 0), ax=ax)
    image = axis.imshow(values, vmin=min(0.0, float(np.nanmin(values))), vmax=1, cmap="viridis", origin="lower")
    for labels, place in ((rows, axis.set_yticks), (columns, axis.set_xticks)):
        step = max(1, math.ceil(len(labels) / 16))
        shown = range(0, len(labels), step)
        place(list(shown), ["embed" if labels[i] < 0 else str(labels[i]) for i in shown], fontsize=8)
    axis.set_xlabel("layer")
    axis.set_ylabel("layer")
    figure.colorbar(image, ax=axis, shrink=0.85, label=str(result.parameters["measure"]))
    first = table.iloc[0]
    axis.set_title(
        f"{result.parameters['site']}: {result.parameters['measure']}, {numbers_in(first, 'row', 'member')}",
        fontsize=10,
    )
    return figure


def _shared_caption(result: LayerResult, table: pd.DataFrame, measure: str, private: str) -> str:
    """What `shared_index_by_layer` shows."""
    parts = [
        f"Similarity ({measure}) of the index codes of pairs of families in {result.parameters['site']}, over layers: "
        f"{counted(table)}.",
        "Members are matched by their ordinals, or by what the prompts name as pairs, and compared across different "
        "templates; layers at which the codes are not reliable are left out.",
    ]
    if table["ci_low"].notna().any():
        parts.append("Coloured bands: 95 % intervals, by turning the null of unrelated codes around.")
    if (table["verdict"] == "shared").any():
        parts.append("Filled points: the verdict is shared.")
    if table["control_max"].notna().any():
        parts.append("Grey: from the lowest to the highest control family in place of one of the two.")
    if _READOUT in result.parameters["variants"]:
        parts.append("Dashed: with the members' readout directions removed.")
    if private in {*table["a"], *table["b"]}:
        parts.append(f"Dotted: the mean similarity of the two families to {private}, whose order is its own.")
    parts.append("Insets: the similarity of members that are so many places apart, at the layer with the smallest p.")
    return sentences(*parts)


def _described_caption(result: LayerResult, table: pd.DataFrame, measures: Sequence[str]) -> str:
    """What `described_by_layer` shows."""
    grey = (
        "Grey: from the lowest to the highest control family of the same windows; within it, overlapping windows alone "
    )
    return (
        f"Measures that describe and do not decide ({', '.join(measures)}), of pairs of families in "
        f"{result.parameters['site']}, over layers: {counted(table)}. "
        + (f"{grey}make the measure as high. " if table["control_max"].notna().any() else "")
        + "Dashed: the mean under permuted members. Without p and interval."
    )


def _grid_caption(result: LayerResult) -> str:
    """What `layer_heatmap` shows."""
    layers, others = (at_layers(result.table[name]) for name in ("layer", "layer_b"))
    return (
        f"Similarity ({result.parameters['measure']}) of {result.parameters['site']} at {layers} (rows) to "
        f"{'each other' if layers == others else others} (columns), on the same prompts: {counted(result.table)}."
    )


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["variant"] == "plain"]


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(table["a"], table["b"], strict=True)))


def _of(table: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """The lines of two families, whichever is named first."""
    return table[((table["a"] == a) & (table["b"] == b)) | ((table["a"] == b) & (table["b"] == a))]


def _band(axis: Axes, mine: pd.DataFrame) -> None:
    if mine["control_max"].notna().any():
        low, high = mine["control_min"], mine["control_max"]
        axis.fill_between(mine["layer"], low, high, color=_BAND, linewidth=0, label="controls")


def _curve(axis: Axes, mine: pd.DataFrame, colour: str, label: str) -> None:
    axis.axhline(0, color="black", linewidth=0.5)
    axis.plot(mine["layer"], mine["value"], color=colour, linewidth=1.4, label=label)
    if mine["ci_low"].notna().any():
        axis.fill_between(mine["layer"], mine["ci_low"], mine["ci_high"], color=colour, alpha=0.25, linewidth=0)
    called = mine[mine["verdict"] == "shared"]
    axis.plot(called["layer"], called["value"], color=colour, marker="o", markersize=3.5, linestyle="none")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _reference(axis: Axes, tables: Sequence[pd.DataFrame], name: str) -> None:
    if tables:
        mean = pd.concat(tables).groupby("layer")["value"].mean()
        axis.plot(mean.index, mean, color="black", linestyle=":", linewidth=1.1, label=f"with {name}")


def _freest(axis: Axes, size: float) -> tuple[float, float]:
    """Of some places for a square inset the one under which the curves have least of their length."""
    places = [(x, y) for y in (0.66, 0.09) for x in (0.08, 0.38, 0.68)]
    axis.autoscale_view()
    under = np.zeros(len(places))
    for line in axis.lines:
        if line.get_transform() == axis.transData and len(np.asarray(line.get_xdata())):  # not one across the panel
            ends = axis.transAxes.inverted().transform(axis.transData.transform(line.get_xydata()))
            between = np.linspace(0, len(ends) - 1, 20 * len(ends))
            way = np.stack([np.interp(between, range(len(ends)), ends[:, i]) for i in (0, 1)], axis=1)
            under += [
                (np.abs(way - place - size / 2) < size / 2 + 0.03).all(axis=1).sum() for place in np.array(places)
            ]
    return places[int(np.argmin(under))]


def _lag_inset(axis: Axes, result: LayerResult, measure: str, pair: str, mine: pd.DataFrame, colour: str) -> None:
    if mine["value"].isna().all():
        return
    best = mine.index.get_loc(loudest(mine).name)
    index = (best, result.parameters["pairs"].index(pair), 0, result.parameters["measures"].index(measure))
    profile = result.values("lag_profile")[index]
    inset = axis.inset_axes((*_freest(axis, 0.28), 0.28, 0.28))
    inset.bar(range(-MAX_LAG, MAX_LAG + 1), np.nan_to_num(profile), color=colour, width=0.7)
    inset.axhline(0, color="black", linewidth=0.4)
    inset.set_xticks([-MAX_LAG, 0, MAX_LAG], [f"-{MAX_LAG}", "lag 0", f"+{MAX_LAG}"], fontsize=6)
    inset.set_yticks([])
    inset.spines[["top", "right", "left"]].set_visible(False)
    inset.patch.set_alpha(0.6)
    inset.set_title(f"layer {mine['layer'].iloc[best]}", fontsize=6, pad=1)
