"""How recording's CPU time grows with prompts and with layers: a table, the fitted exponents, and a picture."""

import io
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from cache_models import gpt2_shape, mixed_lengths, texts
from cache_recording import record_once
from cache_timing import Measurement, interleaved

from cache import load_model, plan_recording
from cache.whole_files import write_whole

N_PROMPTS, N_LAYERS, WIDTH = 64, 12, 256
FACTORS, DEPTHS = (1, 2, 4), (6, 12, 24)
Points = dict[int, float]
Table = dict[str, Points]


def growth(rounds: int, scratch: Path) -> Table:
    """Median CPU seconds by prompts (of a model of 12 layers) and by layers; d is 256, with heads of 64."""
    sides: dict[str, Callable[[], object]] = {}
    cases = [("prompts", N_PROMPTS * factor, N_LAYERS) for factor in FACTORS]
    cases += [("layers", N_PROMPTS, depth) for depth in DEPTHS]
    for axis, n_prompts, depth in cases:
        folder = gpt2_shape(scratch / f"{depth}-layers", n_layer=depth, n_embd=WIDTH, n_head=WIDTH // 64)
        model = load_model(str(folder), device="cpu")
        plan = plan_recording(model, texts(mixed_lengths(n_prompts)))
        sides[f"{axis} {n_prompts if axis == 'prompts' else depth}"] = partial(
            record_once, model, plan, scratch / "growth.h5"
        )
    table: Table = {"prompts": {}, "layers": {}}
    for case, times in interleaved(sides, rounds).items():
        axis, number = case.split()
        table[axis][int(number)] = round(statistics.median(times), 4)
    return table


def slope(points: Points) -> float:
    """The exponent of growth: the slope of a line through the logarithms."""
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def growth_rows(table: Table) -> list[Measurement]:
    """The two exponents; 1 is growth in proportion."""
    shape = f"{N_LAYERS} layers, d {WIDTH}"
    return [
        Measurement("growth", shape, f"exponent of CPU time by {axis}", round(slope(points), 3), "")
        for axis, points in table.items()
    ]


def print_growth(table: Table) -> None:
    """The table, a line a point."""
    print(f"\n{'':>10}{'number':>8}{'CPU seconds':>13}{'to the first':>14}")
    for axis, points in table.items():
        first = next(iter(points.values()))
        for number, seconds in points.items():
            print(f"{axis:>10}{number:>8}{seconds:>13.3f}{seconds / first:>14.2f}")


def draw_growth(table: Table, stem: Path) -> None:
    """One panel an axis, both logarithmic, with the line of growth in proportion; saved as PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.2), sharey=True, layout="constrained")
    labels = {"prompts": f"prompts ({N_LAYERS} layers)", "layers": f"layers ({N_PROMPTS} prompts)"}
    for panel, (axis, points) in zip(panels, table.items(), strict=True):
        numbers, seconds = np.array(list(points)), np.array(list(points.values()))
        panel.loglog(numbers, seconds[0] * numbers / numbers[0], "--", color="0.6", label="in proportion (slope 1)")
        panel.loglog(numbers, seconds, "o-", color="C0", label=f"recording (slope {slope(points):.2f})")
        panel.set_xticks(numbers, [str(number) for number in numbers])
        panel.yaxis.set_major_locator(LogLocator(base=2))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.set_xlabel(labels[axis])
        panel.legend(frameon=False, loc="upper left")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("CPU seconds, one thread")
    for suffix in ("png", "svg"):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, dpi=150)
        write_whole(stem.with_suffix(f".{suffix}"), drawn.getvalue())
    plt.close(figure)
