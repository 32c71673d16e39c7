"""Pictures of linear probes by layer."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import numbers_in
from geometry.figures.captions import counted, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import layer_ticks
from geometry.figures.plain import PlainFigure
from geometry.figures.scatter import PALETTE
from geometry.results.result import LayerResult

_COLUMNS = 4
_BAND = "#DDDDDD"
_LOWEST = -1.0
_SCORES = {"family": "accuracy", "member": "accuracy", "number": "R²", "angle": "mean cosine"}


def probes_by_layer(result: LayerResult) -> Figure:
    """A panel a probe (what is read, what is left out): its score over layers.

    Colour: the score, with one standard error over members. Dotted: the control task, which a probe can only learn by
    heart. Grey: from the mean to the largest score under permuted labels. Dash-dotted: the highest score of control
    families. Dashed: chance. A score below -1 is drawn
    at -1, as a triangle.
    """
    panels = list(dict.fromkeys(zip(result.table["target"], result.table["leave_out"], strict=True)))
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = PlainFigure(_caption(result), figsize=(max(3.3 * columns, 5.2), 2.7 * lines + 1.0), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    targets = list(dict.fromkeys(target for target, _ in panels))
    for (target, leave_out), axis in zip(panels, axes, strict=False):
        mine = result.table[(result.table["target"] == target) & (result.table["leave_out"] == leave_out)]
        _panel(axis, mine, PALETTE[targets.index(target) % len(PALETTE)])
        axis.set_ylabel(_SCORES[target])
        axis.set_title(f"{target}, {leave_out}s left out", fontsize=10)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    legend_below(figure, axes)
    figure.suptitle(_title(result), fontsize=11)
    return figure


def _panel(axis: Axes, mine: pd.DataFrame, colour: str) -> None:
    layers = mine["layer"].to_numpy()
    marker = "o" if len(layers) == 1 else None
    low, high = mine["null_mean"].clip(lower=_LOWEST), mine["null_max"].clip(lower=_LOWEST)
    axis.fill_between(layers, low, high, color=_BAND, linewidth=0, label="permuted labels, mean to largest")
    axis.plot(layers, mine["chance"], color="black", linestyle="--", linewidth=0.9, label="chance")
    control = mine["control_task"].clip(lower=_LOWEST)
    axis.plot(layers, control, color="#555555", linestyle=":", linewidth=1.5, marker=marker, label="control task")
    if mine["control_max"].notna().any():
        most = mine["control_max"].clip(lower=_LOWEST)
        axis.plot(layers, most, color="#8C510A", linestyle="-.", linewidth=1.1, label="highest of control families")
    value, se = mine["value"], mine["se"]
    axis.plot(layers, value.clip(lower=_LOWEST), color=colour, linewidth=1.5, marker="o", markersize=3, label="probe")
    if np.isfinite(se).any():
        low, high = (value - se).clip(lower=_LOWEST), (value + se).clip(lower=_LOWEST, upper=1)
        axis.fill_between(layers, low, high, color=colour, alpha=0.25, linewidth=0)
    for name, shade in (("value", colour), ("control_task", "#555555"), ("control_max", "#8C510A")):
        below = mine.loc[mine[name] < _LOWEST, "layer"]
        if len(below):
            axis.plot(below, [_LOWEST] * len(below), color=shade, marker="v", markersize=6, linestyle="none")
    drawn = mine[["value", "control_task", "null_mean", "chance"]].clip(lower=_LOWEST)
    axis.set_ylim(min(0.0, float(drawn.min().min())) - 0.05, 1.06)
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
        f"Triangles: scores below {_LOWEST:g}, drawn there." if (_drawn(table) < _LOWEST).any(axis=None) else "",
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
