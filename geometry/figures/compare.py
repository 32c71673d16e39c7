"""Pictures of comparisons: families by layer inside their control bands, and layers against layers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import numbers_in
from geometry.between.summary import loudest
from geometry.figures.captions import counted, outside, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import (
    BAND,
    PALETTE,
    Ax,
    Within,
    band,
    curve,
    headline,
    layer_ticks,
    limits,
    nothing_there,
    panels,
)
from geometry.figures.plain import PlainFigure
from geometry.results.result import LayerResult
from geometry.similarity.of_families import MAX_LAG
from geometry.stats.uncertainty import LEAST_CONTROLS

_READOUT = "readout removed"
_COLOUR = PALETTE[0]
_COLUMNS = 3
_SHOWN = (-1.0, 1.5)  # what similarities are shown between: shares of little variance may be anything
_FREE = 0.25  # of a panel's height is above its values, and holds the inset


def shared_index_by_layer(
    result: LayerResult, *, measure: str = "matched_cosine", private: str = "letters", ax: Ax = None
) -> Figure:
    """One panel a pair of families: similarity of their index codes over layers, inside its control band.

    Colour: the value, with its 95 % interval; filled points are called `shared`; layers whose codes are not reliable
    are left out. Grey: from the lowest to the highest control family. Dashed: the members' readout directions removed.
    Dotted: both families' mean similarity, where reliable, to one whose order is its own (`private`), if it is there.
    Above the values, where nothing else is drawn: the lag profile at the layer that the summary shows.

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
    figure, axes = panels(
        len(pairs), caption, most_columns=_COLUMNS, each=(4.2, 3.2), beside=(0.3, 1.0), sharey=True, ax=ax
    )
    shown = table[[pair in pairs for pair in zip(table["a"], table["b"], strict=True)]]
    drawn = shown[["ci_low", "ci_high", "control_min", "control_max"]]
    values = result.table.loc[result.table["measure"] == measure, "value"]
    between = limits(drawn, values, least=(-0.2, 1.0), within=_SHOWN)  # of all panels, which share it
    for (a, b), axis in zip(pairs, axes, strict=False):
        mine = _of(table, a, b)
        _band(axis, mine, between)
        reference = [_of(table, one, private) for one in (a, b) if private not in (a, b)]
        _reference(axis, [one for one in reference if len(one)], private)
        _curve(axis, mine, "all directions", between)
        removed = _of(result.table[(result.table["measure"] == measure) & (result.table["variant"] == _READOUT)], a, b)
        if len(removed):
            style = {"color": _COLOUR, "linestyle": "--", "linewidth": 1, "label": _READOUT}
            curve(axis, removed["layer"], removed["value"], within=between, **style)
        _leave_free(axis, between)
        if mine["value"].isna().all():
            nothing_there(axis, "reliable at no layer")
        if (place := axis.get_subplotspec()) is None or place.is_first_col():
            axis.set_ylabel(measure, fontsize=9)
        _lag_inset(axis, result, measure, f"{a} - {b}", mine)
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
    make the measure as high. It is a figure of its own.
    """
    table = _plain(result.table)
    pairs = _pairs(table)
    size = (2.9 * len(pairs) + 0.6, 2.3 * len(measures) + 0.9)
    caption = _described_caption(result, table, measures)
    figure = PlainFigure(caption, figsize=size, layout="constrained")
    grid = figure.subplots(len(measures), len(pairs), squeeze=False, sharey="row")
    for line, measure in zip(grid, measures, strict=True):
        drawn = table.loc[table["measure"] == measure, ["value", "permuted_mean", "control_min", "control_max"]]
        between = limits(drawn, least=(0.0, 1.0), within=_SHOWN)
        for number, ((a, b), axis) in enumerate(zip(pairs, line, strict=True)):
            mine = _of(table[table["measure"] == measure], a, b)
            _band(axis, mine, between)
            style = {"color": "black", "linestyle": "--", "linewidth": 0.8, "label": "permuted"}
            curve(axis, mine["layer"], mine["permuted_mean"], within=between, **style)
            _curve(axis, mine, "value", between)
            axis.set_ylim(between[0] - 0.05, between[1] + 0.05)
            axis.set_title(f"{a} - {b}", fontsize=9)
            axis.set_ylabel(measure if number == 0 else "", fontsize=9)
            layer_ticks(axis, mine["layer"].tolist(), most=8)
    legend_below(figure, [grid[0, 0]])
    figure.suptitle(f"{result.parameters['site']}: measures that describe and do not decide", fontsize=12)
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
    parts.append(outside(table["value"], _SHOWN))
    parts.append("Insets: the similarity of members that are so many places apart, at the layer with the smallest p.")
    return sentences(*parts)


def _described_caption(result: LayerResult, table: pd.DataFrame, measures: Sequence[str]) -> str:
    """What `described_by_layer` shows."""
    return sentences(
        f"Measures that describe and do not decide ({', '.join(measures)}), of pairs of families in "
        f"{result.parameters['site']}, over layers: {counted(table)}.",
        "Grey: from the lowest to the highest control family of the same windows; within it, overlapping windows alone "
        "make the measure as high."
        if table["control_max"].notna().any()
        else "",
        "Dashed: the mean under permuted members. Without p and interval.",
        outside(table.loc[table["measure"].isin(list(measures)), "value"], _SHOWN),
    )


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["variant"] == "plain"]


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(table["a"], table["b"], strict=True)))


def _of(table: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """The lines of two families, whichever is named first."""
    return table[((table["a"] == a) & (table["b"] == b)) | ((table["a"] == b) & (table["b"] == a))]


def _band(axis: Axes, mine: pd.DataFrame, between: Within) -> None:
    if mine["control_max"].notna().any():
        low, high = mine["control_min"], mine["control_max"]
        band(axis, mine["layer"], low, high, within=between, color=BAND, label="controls")


def _curve(axis: Axes, mine: pd.DataFrame, label: str, between: Within) -> None:
    axis.axhline(0, color="black", linewidth=0.5)
    curve(axis, mine["layer"], mine["value"], within=between, color=_COLOUR, linewidth=1.4, label=label)
    if mine["ci_low"].notna().any():
        band(axis, mine["layer"], mine["ci_low"], mine["ci_high"], within=between, color=_COLOUR, alpha=0.25)
    called = mine[mine["verdict"] == "shared"]
    axis.plot(called["layer"], called["value"], color=_COLOUR, marker="o", markersize=3.5, linestyle="none")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _leave_free(axis: Axes, between: Within) -> None:
    """Room above the values, without ticks."""
    low, high = between[0] - 0.05, between[1] + 0.05
    axis.set_yticks([tick for tick in np.linspace(-1, 1.4, 13).round(1) if low <= tick <= high])
    axis.set_ylim(low, high + (high - low) * _FREE / (1 - _FREE))
    axis.spines["left"].set_bounds(low, high)


def _reference(axis: Axes, tables: Sequence[pd.DataFrame], name: str) -> None:
    if tables:
        mean = pd.concat(tables).groupby("layer")["value"].mean()
        curve(axis, mean.index, mean, color="black", linestyle=":", linewidth=1.1, label=f"with {name}")


def _lag_inset(axis: Axes, result: LayerResult, measure: str, pair: str, mine: pd.DataFrame) -> None:
    if mine["value"].isna().all():
        return
    best = mine.index.get_loc(loudest(mine).name)
    index = (best, result.parameters["pairs"].index(pair), 0, result.parameters["measures"].index(measure))
    profile = result.values("lag_profile")[index]
    inset = axis.inset_axes((0.04, 1.1 - _FREE, 0.28, _FREE - 0.12))
    inset.bar(range(-MAX_LAG, MAX_LAG + 1), np.nan_to_num(profile), color=_COLOUR, width=0.7)
    inset.axhline(0, color="black", linewidth=0.4)
    inset.set_xticks([-MAX_LAG, 0, MAX_LAG], [f"-{MAX_LAG}", "lag 0", f"+{MAX_LAG}"], fontsize=6)
    inset.set_yticks([])
    inset.spines[["top", "right", "left"]].set_visible(False)
    layer = mine["layer"].iloc[best]
    where = "embedding" if layer < 0 else f"layer {layer}"
    inset.annotate(where, (1.03, 0.5), xycoords="axes fraction", fontsize=7, va="center")
