"""Pictures of steering: how often one family's prompts are turned into another's answers, layer by layer."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.shown.counts import numbers_in
from geometry.figures.captions import counted, sentences
from geometry.figures.legend import legend_below
from geometry.figures.panels import PALETTE, Ax, colour_bar, curve, headline, layer_ticks, panels
from geometry.results.result import LayerResult
from probes.directions.contrasts import unit_name

_CONTROLS = {
    "unembedding_difference": ("#D55E00", "unembedding difference"),
    "feature_difference": ("#56B4E9", "difference of features"),
    "random_features": ("#E69F00", "other features in their place"),
    "sign_flipped": ("#777777", "half the signs flipped"),
    "wrong_target": ("#009E73", "another target"),
    "control_difference": ("#CC79A7", "two unrelated families"),
    "random": ("#000000", "drawn from the covariance"),
}


def steering_by_layer(
    result: LayerResult, by_answer: Mapping[str, Mapping[str, pd.DataFrame]], *, ax: Ax = None
) -> Figure:
    """F7. A panel a position set: success by layer, one dot a left-out answer, controls at the same strengths.

    Dotted: the unembedding difference at its own best alpha, chosen in hindsight.

    Args:
        result: of a sweep.
        by_answer: for each position set and method a frame with columns `layer, unit, success`, alpha chosen for the
            mean difference and without the answer (`success_by_layer`).
        ax: where it is drawn, in a figure of the caller's, as many as position sets; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    n, caption = len(by_answer), _caption(result, by_answer)
    each, beside = (max(9.2 / n, 6.2), 4.3), (0.3, 0.0)
    figure, axes = panels(n, caption, most_columns=n, each=each, beside=beside, sharey=True, ax=ax)
    unit = unit_name(result.rows)
    for axis, (positions, frames) in zip(axes, by_answer.items(), strict=True):
        frame = frames["mean_difference"]
        _controls(axis, frames, result.table[result.table["positions"] == positions])
        _answers(axis, frame, unit)
        layer_ticks(axis, sorted(frame["layer"].unique().tolist()))
        axis.set_title(f"positions: {positions}", fontsize=10)
        axis.set_ylim(-0.04, 1.06)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("top-1 is the target's answer")
    legend_below(figure, axes)
    headline(figure, f"{_title(result)}; {unit} and template left out", fontsize=11)
    return figure


def steering_grid(result: LayerResult, *, method: str = "mean_difference", ax: Ax = None) -> Figure:
    """Success over layers (columns) and strengths (rows), a panel a position set, dark to light from 0 to 1.

    Args:
        result: of a sweep.
        method: which of its methods.
        ax: where it is drawn, in a figure of the caller's, as many as position sets; None for a figure of its own.

    Raises:
        InputError: there are not so many axes.
    """
    table = result.table[result.table["method"] == method]
    sets = list(dict.fromkeys(table["positions"]))
    caption = (
        f"Share of prompts of {result.parameters['source']} whose likeliest next token is the answer of "
        f"{result.parameters['target']} after adding {method} at {result.parameters['site']}, by layer and strength "
        f"(alpha, in units of the step between the families): {counted(table, rows='prompt')}."
    )
    figure, axes = panels(len(sets), caption, most_columns=1, each=(9.5, 2.2), beside=(0.0, 0.6), ax=ax)
    for axis, positions in zip(axes, sets, strict=True):
        grid = table[table["positions"] == positions].pivot_table(index="alpha", columns="layer", values="success")
        image = axis.imshow(grid.to_numpy(), vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower")
        axis.set_yticks(range(len(grid)), [f"{alpha:g}" for alpha in grid.index], fontsize=8)
        step = max(1, len(grid.columns) // 16)
        shown = range(0, len(grid.columns), step)
        labels = ["embed" if grid.columns[i] < 0 else str(grid.columns[i]) for i in shown]
        axis.set_xticks(list(shown), labels, fontsize=8)
        axis.set_ylabel("alpha")
        axis.set_title(f"{method}, positions: {positions}", fontsize=10)
    axes[-1].set_xlabel("layer")
    colour_bar(figure, image, axes, "success")
    headline(figure, _title(result), fontsize=11)
    return figure


def _title(result: LayerResult) -> str:
    """From where to where, and of how many."""
    parameters, unit = result.parameters, unit_name(result.rows)
    counts = numbers_in(result.table.iloc[0], "row", "member", "template", row="prompt", member=unit)
    return f"{parameters['source']} -> {parameters['target']} at {parameters['site']}: {counts}"


def _caption(result: LayerResult, by_answer: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    """What `steering_by_layer` shows."""
    parameters, unit = result.parameters, unit_name(result.rows)
    controls = [
        label for name, (_, label) in _CONTROLS.items() if any(len(one.get(name, ())) for one in by_answer.values())
    ]
    parts = [
        f"Share of prompts of {parameters['source']} whose likeliest next token is the answer of "
        f"{parameters['target']} after adding the mean difference at {parameters['site']}, over layers: "
        f"{counted(result.table, rows='prompt', members=unit)}.",
        f"Each direction has seen neither the {unit} nor the template that it is tried on; alpha is chosen, of "
        f"{', '.join(f'{alpha:g}' for alpha in parameters['alphas'])}, on the other {unit}s.",
        f"Dots: each left-out {unit}, beside each other where several are equal; line: their mean.",
        f"Dashed: controls at the same strengths ({', '.join(controls)})." if controls else "",
        f"Features: {parameters['basis']}, {parameters['n_features'] or 'all'} of them that differ most."
        if parameters.get("basis")
        else "",
        "Dotted: the unembedding difference at its own best alpha, chosen in hindsight."
        if (result.table["method"] == "unembedding_difference").any()
        else "",
    ]
    return sentences(*parts)


def _answers(axis: Axes, frame: pd.DataFrame, unit: str) -> None:
    """Dots beside each other where several answers (or pairs) succeed equally often, and their mean."""
    means = frame.groupby("layer")["success"].mean()
    curve(axis, means.index, means, color=PALETTE[0], linewidth=1.6, label=f"mean difference, mean over {unit}s")
    answers: Sequence[str] = list(dict.fromkeys(frame["unit"]))
    shift = (frame["unit"].map(answers.index) - (len(answers) - 1) / 2) * 0.6 / max(len(answers), 1)
    axis.plot(
        frame["layer"] + shift,
        frame["success"],
        color=PALETTE[0],
        marker="o",
        markersize=2.6,
        linestyle="none",
        alpha=0.55,
        label=f"each left-out {unit}",
    )


def _controls(axis: Axes, frames: Mapping[str, pd.DataFrame], table: pd.DataFrame) -> None:
    for method, (colour, label) in _CONTROLS.items():
        if method in frames and len(frames[method]):
            mine = frames[method].groupby("layer")["success"].mean()
            marker = "o" if len(mine) > 1 and np.diff(mine.index).min() > 1 else None
            curve(axis, mine.index, mine, color=colour, linestyle="--", linewidth=1.1, label=label, marker=marker, ms=3)
    best = table[table["method"] == "unembedding_difference"].groupby("layer")["success"].max()
    if len(best):
        colour, label = _CONTROLS["unembedding_difference"]
        label = f"{label}, best alpha in hindsight"
        curve(axis, best.index, best, color=colour, linestyle=":", linewidth=1.1, label=label)
