"""Pictures of interventions over layers: success, accuracy left, last member or answer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import number_of, numbers_in
from geometry.figures.legend import legend_below
from geometry.figures.panels import (
    BAND,
    PALETTE,
    Ax,
    band,
    colours,
    curve,
    headline,
    layer_ticks,
    panels,
)
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_MEMBERS
from probes.transfer import captions

_COLUMNS = 3


def transfer_by_layer(result: LayerResult, positions: str | None = None, *, ax: Ax = None) -> Figure:
    """One panel a receiver: success of its own steps and of other families' over layers, above the controls' band.

    Around the own curve its 95 % interval over members. Dashed: null donors in the own one's place, on average.

    Args:
        result: of `transfer_matrix`.
        positions: which position set; None for the first.
        ax: where it is drawn, in a figure of the caller's, as many as receivers; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    table = captions.at_positions(result, positions)
    figure = _by_layer(table, ("success", "success", "null donors"), captions.of_transfer(result, table), ax)
    headline(figure, captions.title(result, table, "steps between indices, by donor"), fontsize=12)
    return figure


def erasure_by_layer(result: LayerResult, positions: str | None = None, *, ax: Ax = None) -> Figure:
    """One panel a receiver: accuracy left without each donor's index subspace over layers.

    Around the own curve its 95 % interval over members. Dashed: the mean over unrelated donors' subspaces of the rank
    of the receiver's own. Dotted: the accuracy without an edit.

    Args:
        result: of `erasure_matrix`.
        positions: which position set; None for the first.
        ax: where it is drawn, in a figure of the caller's, as many as receivers; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    table = captions.at_positions(result, positions)
    figure = _by_layer(table, ("left", "accuracy left", "unrelated donors"), captions.of_erasure(result, table), ax)
    headline(figure, captions.title(result, table, "index subspaces removed, by donor"), fontsize=12)
    return figure


def last_or_answer_by_layer(result: LayerResult, *, ax: Ax = None) -> Figure:
    """One panel a family and kind of donor: over layers, how often its code is read as the last member or the answer.

    Bands are 95 % intervals over members. Dotted: the share whose likeliest token stays.

    Args:
        result: of `last_or_answer`.
        ax: where it is drawn, in a figure of the caller's, as many as families and kinds; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    table = result.table
    pairs = list(dict.fromkeys(zip(table["family"], table["kind"], strict=True)))
    figure, axes = _panels(len(pairs), captions.of_last_or_answer(result, table), height=3.0, ax=ax)
    for axis, (family, kind) in zip(axes, pairs, strict=False):
        mine = table[(table["family"] == family) & (table["kind"] == kind)]
        for name, label, colour in (("as_last", "last member", PALETTE[0]), ("as_answer", "answer", PALETTE[1])):
            _curve(axis, mine, name, f"{name}_ci_", colour, f"read as {label}", 1.6)
        curve(axis, mine["layer"], mine["unchanged"], color="black", linestyle=":", linewidth=1, label="unchanged")
        first = mine.iloc[0]
        mark = "" if first["n_members"] >= LEAST_MEMBERS else "°"
        accuracy = f"model right on these {first['donor_accuracy']:.0%}"
        axis.set_title(f"{family}, {kind}: {numbers_in(first, 'member')}{mark}\n{accuracy}", fontsize=9)
        axis.set_ylabel("share of edits", fontsize=9)
        _frame(axis, mine)
    legend_below(figure, axes[:1])
    headline(figure, f"{result.parameters['site']}, last token: what its code is read as", fontsize=12)
    return figure


def _by_layer(table: pd.DataFrame, names: tuple[str, str, str], caption: str, ax: Ax) -> Figure:
    """One panel a receiver: a value's curves over layers, and what stands beside the own one."""
    value, label, null = names
    figure, axes = _panels(table["receiver"].nunique(), caption, height=2.9, ax=ax)
    for axis, (_, mine) in zip(axes, table.groupby("receiver", sort=False), strict=False):
        _curves(axis, mine, value)
        own = mine[mine["donor_kind"] == "own"]
        base = own if len(own) else mine.drop_duplicates("layer")
        if base["null_mean"].notna().any():
            curve(axis, base["layer"], base["null_mean"], color="black", linestyle="--", linewidth=1, label=null)
        if "unedited" in base:
            curve(axis, base["layer"], base["unedited"], color="black", linestyle=":", linewidth=1, label="unedited")
        axis.set_ylabel(label, fontsize=9)
    legend_below(figure, axes[:1])
    return figure


def _panels(n: int, caption: str, *, height: float, ax: Ax) -> tuple[Figure, np.ndarray]:
    return panels(n, caption, most_columns=_COLUMNS, each=(4.2, height), beside=(0.3, 1.0), sharey=True, ax=ax)


def _curves(axis: Axes, mine: pd.DataFrame, value: str) -> None:
    """The receiver's own curve in bold, other families' in their colours, controls as a band."""
    receiver = mine["receiver"].iloc[0]
    controls = mine[mine["donor_kind"] == "control"].groupby("layer")[value]
    if controls.ngroups:
        low, high = controls.min(), controls.max()
        n = int(mine.loc[mine["donor_kind"] == "control", "donor"].nunique())
        band(axis, low.index, low, high, color=BAND, label=f"controls ({n})")
    families = list(dict.fromkeys(mine.loc[mine["donor_kind"].isin(["own", "family"]), "donor"]))
    for donor, colour in zip(families, colours(len(families)), strict=True):
        one = mine[mine["donor"] == donor]
        ends, width = ("ci_", 2.4) if donor == receiver else ("", 1.1)
        _curve(axis, one, value, ends, colour, donor, width)
    own = mine[mine["donor_kind"] == "own"]
    n_members = int(own["n_members"].iloc[0]) if len(own) else int(mine["n_members"].max())
    mark = "" if n_members >= LEAST_MEMBERS else "°"
    axis.set_title(f"in {receiver}: {number_of(n_members, 'member')}{mark}", fontsize=10)
    _frame(axis, mine)


def _curve(axis: Axes, one: pd.DataFrame, value: str, ends: str, colour: str, label: str, width: float) -> None:
    """A curve, and the interval in the columns that begin with `ends`, if any."""
    curve(axis, one["layer"], one[value], color=colour, linewidth=width, marker="o", markersize=2.5, label=label)
    if ends and one[f"{ends}low"].notna().any():
        low, high = one[f"{ends}low"], one[f"{ends}high"]
        band(axis, one["layer"], low, high, color=colour, alpha=0.13)


def _frame(axis: Axes, mine: pd.DataFrame) -> None:
    layer_ticks(axis, list(dict.fromkeys(mine["layer"])))
    axis.set_ylim(-0.03, 1.04)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
