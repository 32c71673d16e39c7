"""The picture of a curve: what is explained of each part left out, over what was varied."""

from types import MappingProxyType
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import number_of
from geometry.figures.captions import outside, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import PALETTE, Ax, curve, headline, limits, panels

_VARIED = MappingProxyType({"tokens": "tokens of text", "width": "features", "sequences": "share of sequences"})
_PARTS = MappingProxyType(
    {
        "documents": ("documents", "explained_variance"),
        "templates": ("templates", "explained_variance"),
        "frames": ("frames", "explained_variance"),
        "index": ("templates", "index_variance"),
    }
)
_TITLES = MappingProxyType({"index": "index at members, templates"})
_STYLES = ("-", "--", ":", "-.")
_SHOWN = (0.0, 1.0)


def explained_by_cost(table: pd.DataFrame, *, ax: Ax = None) -> Figure:
    """A panel a site and part left out: explained variance (of the index: what is kept) over what was varied.

    What has most values, tokens first, is along the axis; what has more than one besides gives colours, then dashes.
    Points are means over seeds, with a bar from the lowest to the highest.

    Args:
        table: of `training_curve`.
        ax: where it is drawn, in a figure of the caller's, as many as panels; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    table = table.assign(site=table["sae"].str.rsplit("/", n=1).str[0])
    along, *others = _order(table)
    shown = [name for name, (part, value) in _PARTS.items() if table.loc[table["part"] == part, value].notna().any()]
    sites = list(dict.fromkeys(table["site"]))
    figure, axes = panels(
        len(sites) * len(shown),
        _caption(table, along),
        most_columns=len(shown),
        each=(2.7, 2.5),
        beside=(0.0, 1.0),
        ax=ax,
    )
    places = [(site, name) for site in sites for name in shown]
    for (site, name), axis in zip(places, axes, strict=True):
        part, value = _PARTS[name]
        mine = table[(table["site"] == site) & (table["part"] == part)]
        _panel(axis, mine, value, along, others)
        axis.set_title(_TITLES.get(name, name) + (f"\n{site}" if len(sites) > 1 else ""), fontsize=9)
        axis.set_ylabel("variance kept" if name == "index" else "explained variance", fontsize=8)
    legend_below(figure, axes[: len(places)])
    headline(figure, f"SAEs on what was left out of training{'' if len(sites) > 1 else f', {sites[0]}'}", fontsize=11)
    return figure


def _order(table: pd.DataFrame) -> list[str]:
    """What is varied: what has most values first."""
    return sorted(_VARIED, key=lambda name: -table[name].nunique())


def _panel(axis: Axes, mine: pd.DataFrame, value: str, along: str, others: list[str]) -> None:
    colours, dashes = (list(dict.fromkeys(mine[name].sort_values())) for name in others)
    for (first, second), line in mine.groupby(others):
        found = line.groupby(along)[value].agg(["mean", "min", "max"])
        style: dict[str, Any] = {
            "color": PALETTE[colours.index(first) % len(PALETTE)],
            "linestyle": _STYLES[dashes.index(second) % len(_STYLES)],
        }
        label = ", ".join(
            f"{_said(name, of)}"
            for name, of, values in zip(others, (first, second), (colours, dashes), strict=True)
            if len(values) > 1
        )
        curve(axis, found.index, found["mean"], within=_SHOWN, marker="o", markersize=3, label=label or "SAEs", **style)
        ends = found[["min", "max"]].clip(*_SHOWN)
        axis.vlines(found.index, ends["min"], ends["max"], color=style["color"], linewidth=1)
    low, high = limits(mine[value], least=(0.5, 1.0), within=_SHOWN)
    axis.set_ylim(low - 0.03, high + 0.03)
    if along != "sequences" and mine[along].min() > 0:
        axis.set_xscale("log")
    ticks = sorted(set(mine[along]))
    axis.set_xticks(ticks, [_number(tick) for tick in ticks], rotation=30, ha="right")
    axis.minorticks_off()
    axis.set_xlabel(_VARIED[along], fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)


def _said(name: str, value: Any) -> str:
    return f"{_number(value)} {_VARIED[name]}" if name != "sequences" else f"sequences {value:g} of a batch"


def _number(value: Any) -> str:
    """As a person writes it, millions too."""
    return f"{value:,.9g}"


def _caption(table: pd.DataFrame, along: str) -> str:
    """What `explained_by_cost` shows."""
    steps, seeds = table["steps"].iloc[0], table["sae"].str.rsplit("/", n=1).str[-1].nunique()
    rows = table.groupby("part", sort=False)["n_rows"].first()
    counted = ", ".join(f"{name} {number:,.0f} rows" for name, number in rows.items())
    return sentences(
        f"Explained variance of SAEs on rows that did not train them, over {_VARIED[along]}: centred about each part's "
        f"own mean ({counted}).",
        "Index: the share kept of the variance between members' codes at the tokens that show them, in templates left "
        "out.",
        f"{number_of(int(steps), 'step')} of training at every point; mean of {number_of(seeds, 'seed')}"
        + (", with a bar from the lowest to the highest." if seeds > 1 else "."),
        outside(table["explained_variance"], _SHOWN),
    )
