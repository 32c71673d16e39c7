"""Pictures of interventions: transfer and erasure matrices, success by layer, last member or answer."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cache.families.controls import CONTROL_PREFIX
from cache.shown.counts import number_of, numbers_in
from geometry.figures.legend import legend_below
from geometry.figures.panels import (
    BAND,
    PALETTE,
    Ax,
    Shown,
    band,
    colour_bar,
    colours,
    curve,
    headline,
    layer_ticks,
    panels,
    shown_layers,
)
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_MEMBERS
from probes.transfer import captions

FEW_LAYERS = 4
"""Layers that have a matrix each unless more are asked for."""

_COLUMNS = 3


def transfer_matrices(
    result: LayerResult, positions: str | None = None, *, layers: Shown = FEW_LAYERS, ax: Ax = None
) -> Figure:
    """Receivers (rows) by donors (columns): share of edits after which the likeliest token is the answer moved to.

    Panels are the layers where the families' own edits succeed most often, in their order. Small: the members behind a
    value; a ring marks fewer than 5.

    Args:
        result: of `transfer_matrix`.
        positions: which position set; None for the first.
        layers: which have a panel: how many, the best ones, or which ones.
        ax: where it is drawn, in a figure of the caller's, as many as layers shown; None for a figure of its own.

    Raises:
        InputError: there is no such layer, or another number of axes.
    """
    table = _at(result, positions)
    shown = _best_layers(table, -table["success"], layers)
    figure, axes = _matrices(table, shown, captions.of_transfer_matrices(result, table), [], ax)
    _heatmaps(figure, axes, table, shown, ("success", "success", {}))
    headline(figure, _title(result, table, "a donor's step in a receiver's prompt"), fontsize=11)
    return figure


def erasure_matrices(
    result: LayerResult, positions: str | None = None, *, layers: Shown = FEW_LAYERS, ax: Ax = None
) -> Figure:
    """Receivers (rows) by donors (columns): accuracy left once the donor's index subspace is removed.

    Panels are the layers where removing the families' own subspaces leaves least, in their order. A star: the
    donor's subspace is necessary (q at most .05, less left than by subspaces of unrelated donors, within members and of
    controls). To the right the mean over unrelated donors and over subspaces within members, and the unedited accuracy.

    Args:
        result: of `erasure_matrix`.
        positions: which position set; None for the first.
        layers: which have a panel: how many, the best ones, or which ones.
        ax: where it is drawn, in a figure of the caller's, as many as layers shown; None for a figure of its own.

    Raises:
        InputError: there is no such layer, or another number of axes.
    """
    table = _at(result, positions)
    shown = _best_layers(table, table["left"], layers)
    beside = {"unrelated": "null_mean", "within": "within_mean", "unedited": "unedited"}
    figure, axes = _matrices(table, shown, captions.of_erasure_matrices(result, table), beside, ax)
    _heatmaps(figure, axes, table, shown, ("accuracy left", "left", beside))
    what = f"a donor's index subspace (rank {result.parameters['rank']}) removed; * necessary"
    headline(figure, _title(result, table, what), fontsize=11)
    return figure


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
    table = _at(result, positions)
    figure = _by_layer(table, ("success", "success", "null donors"), captions.of_transfer(result, table), ax)
    headline(figure, _title(result, table, "steps between indices, by donor"), fontsize=12)
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
    table = _at(result, positions)
    figure = _by_layer(table, ("left", "accuracy left", "unrelated donors"), captions.of_erasure(result, table), ax)
    headline(figure, _title(result, table, "index subspaces removed, by donor"), fontsize=12)
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


def _at(result: LayerResult, positions: str | None) -> pd.DataFrame:
    wanted = positions or result.parameters["positions"][0]
    return result.table[result.table["positions"] == wanted]


def _title(result: LayerResult, table: pd.DataFrame, what: str) -> str:
    first = table.iloc[0]
    few = f"\n{captions.UNDECIDED}" if (table["n_members"] < LEAST_MEMBERS).any() else ""
    contexts = numbers_in(first, "template", template="context")
    return f"{result.parameters['site']}, {first['positions']}: {what} ({contexts}){few}"


def _best_layers(table: pd.DataFrame, losses: "pd.Series[float]", layers: Shown) -> list[int]:
    """So many layers at which families' own edits lose least on average, in their order; or those that are named."""
    if not isinstance(layers, int):
        there = list(dict.fromkeys(table["layer"]))
        return [there[i] for i in shown_layers(there, layers)]
    own = losses[table["donor_kind"] == "own"].groupby(table["layer"]).mean()
    return sorted(own.sort_values(kind="stable").index[:layers])


def _matrices(
    table: pd.DataFrame, layers: Sequence[int], caption: str, beside: Collection[str], ax: Ax
) -> tuple[Figure, np.ndarray]:
    """A panel a layer, as large as its matrix asks for."""
    n_donors, n_receivers, columns = table["donor"].nunique() + len(beside), table["receiver"].nunique(), 2
    width = 0.56 * n_donors + 1.5
    each = (max(width, 8.6 / min(columns, len(layers))), 0.52 * n_receivers + 1.3)
    return panels(len(layers), caption, most_columns=columns, each=each, beside=(0.9, 0.9), ax=ax)


def _heatmaps(
    figure: Figure,
    axes: np.ndarray,
    table: pd.DataFrame,
    layers: Sequence[int],
    drawn: tuple[str, str, dict[str, str]],
) -> None:
    label, value, beside = drawn
    receivers, donors = list(dict.fromkeys(table["receiver"])), [*dict.fromkeys(table["donor"]), *beside]
    for axis, layer in zip(axes, layers, strict=False):
        image = _heatmap(axis, table[table["layer"] == layer], receivers, donors, value, beside)
        axis.set_title("embed" if layer < 0 else f"layer {layer}", fontsize=10)
        axis.set_ylabel("receiver", fontsize=9)
    colour_bar(figure, image, axes, label)


def _heatmap(
    axis: Axes, table: pd.DataFrame, receivers: list[str], donors: list[str], value: str, beside: dict[str, str]
) -> AxesImage:
    """One layer's matrix, with its values and their number of members written in."""
    lines = {(line["receiver"], line["donor"]): line for _, line in table.iterrows()}
    values = np.full((len(receivers), len(donors)), np.nan)
    for r, receiver in enumerate(receivers):
        for d, donor in enumerate(donors):
            line = lines.get((receiver, donor), lines.get((receiver, receiver)) if donor in beside else None)
            if line is None:
                continue
            values[r, d] = line[beside.get(donor, value)]
            mark = "*" if donor not in beside and line.get("necessary") == "yes" else ""
            mark += "°" if line["n_members"] < LEAST_MEMBERS else ""
            colour = "black" if values[r, d] > 0.6 else "white"
            text = f"{values[r, d]:.2f}{mark}".removeprefix("0") if values[r, d] < 1 else f"1.0{mark}"
            axis.text(d, r - 0.1, text, ha="center", va="center", fontsize=8.5, color=colour)
            if donor not in beside:
                members = f"n {line['n_members']}"
                axis.text(d, r + 0.3, members, ha="center", va="center", fontsize=6, color=colour)
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    names = [name.replace(CONTROL_PREFIX, "control ") for name in donors]
    axis.set_xticks(range(len(donors)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(receivers)), receivers, fontsize=9)
    axis.tick_params(length=0)
    return image


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
