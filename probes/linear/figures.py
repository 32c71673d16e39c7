"""Pictures of linear probes by layer."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import numbers_in
from geometry.figures.captions import counted, outside, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import BAND, PALETTE, Ax, band, curve, headline, layer_ticks, limits, panels
from geometry.results.result import LayerResult

_COLUMNS = 4
_SHOWN = (-1.0, 1.0)
_NULL = "permuted labels, mean to largest"
_SCORES = {"family": "accuracy", "member": "accuracy", "number": "R²", "angle": "mean cosine"}


def probes_by_layer(result: LayerResult, *, ax: Ax = None) -> Figure:
    """A panel a probe (what is read, what is left out): its score over layers.

    Colour: the score, with one standard error over members. Dotted: the control task, which a probe can only learn by
    heart. Grey: from the mean to the largest score under permuted labels. Dash-dotted: the highest score of control
    families. Dashed: chance. A score below -1 is drawn at -1, as a triangle.

    Args:
        result: of `probes_by_layer`, or several that are joined.
        ax: where it is drawn, in a figure of the caller's, as many as probes; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    probes = list(dict.fromkeys(zip(result.table["target"], result.table["leave_out"], strict=True)))
    caption, size = _caption(result), (max(3.3, 5.2 / len(probes)), 2.7)
    figure, axes = panels(len(probes), caption, most_columns=_COLUMNS, each=size, beside=(0.0, 1.0), ax=ax)
    targets = list(dict.fromkeys(target for target, _ in probes))
    for (target, leave_out), axis in zip(probes, axes, strict=False):
        mine = result.table[(result.table["target"] == target) & (result.table["leave_out"] == leave_out)]
        _panel(axis, mine, PALETTE[targets.index(target) % len(PALETTE)])
        axis.set_ylabel(_SCORES[target])
        axis.set_title(f"{target}, {leave_out}s left out", fontsize=10)
    legend_below(figure, axes[: len(probes)])
    headline(figure, _title(result), fontsize=11)
    return figure


def _panel(axis: Axes, mine: pd.DataFrame, colour: str) -> None:
    layers = mine["layer"].to_numpy()
    band(axis, layers, mine["null_mean"], mine["null_max"], within=_SHOWN, color=BAND, label=_NULL)
    curve(axis, layers, mine["chance"], within=_SHOWN, color="black", linestyle="--", linewidth=0.9, label="chance")
    style: dict[str, Any] = {"within": _SHOWN, "linewidth": 1.5, "color": "#555555", "linestyle": ":"}
    curve(axis, layers, mine["control_task"], label="control task", **style)
    if mine["control_max"].notna().any():
        style |= {"linewidth": 1.1, "color": "#8C510A", "linestyle": "-."}
        curve(axis, layers, mine["control_max"], label="highest of control families", **style)
    value, se = mine["value"], mine["se"]
    curve(axis, layers, value, color=colour, linewidth=1.5, marker="o", markersize=3, label="probe", within=_SHOWN)
    if np.isfinite(se).any():
        band(axis, layers, value - se, value + se, color=colour, alpha=0.25, within=_SHOWN)
    low, high = limits(_drawn(mine), mine[["null_mean", "chance"]], least=(0.0, 1.0), within=_SHOWN)
    axis.set_ylim(low - 0.05, high + 0.06)
    layer_ticks(axis, layers.tolist(), most=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _caption(result: LayerResult) -> str:
    """What `probes_by_layer` shows."""
    table, parameters = result.table, result.parameters
    drawn = [f"{name} ({_SCORES[name]})" for name in dict.fromkeys(table["target"])]
    parts = [
        f"Linear probes of {parameters['site']} for {', '.join(drawn)}, over layers, scored on members or templates "
        f"that they have not seen: {counted(table, controls='draw of controls')}.",
        "Coloured bands: one standard error on either side, over members, of held-out predictions."
        if np.isfinite(table["se"]).any()
        else "No errors.",
        f"Dotted: the mean of {parameters['n_control_tasks']} control tasks, whose labels can only be learned "
        "by heart.",
        f"Grey: from the mean to the largest score of {parameters['n_permutations']} permutations of members' labels.",
        "Dash-dotted: the highest score of the probe on control families alone."
        if table["control_max"].notna().any()
        else "",
        "Dashed: chance.",
        outside(_drawn(table), _SHOWN),
    ]
    return sentences(*parts)


def _drawn(table: pd.DataFrame) -> pd.DataFrame:
    """The scores that are curves."""
    return table[["value", "control_task", "control_max"]]


def _title(result: LayerResult) -> str:
    counts = result.table.iloc[0]
    probes = result.parameters.get("probes", [result.parameters])
    families = ", ".join(dict.fromkeys(name for probe in probes for name in probe["families"]))
    return f"{result.parameters['site']}: linear probes of {families}; {numbers_in(counts, 'member', 'template')}"
