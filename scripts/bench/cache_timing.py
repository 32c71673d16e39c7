"""What every row shares: CPU seconds, interleaved rounds, and one measured figure beside its bar."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Measurement:
    """One figure of the table.

    Attributes:
        row: the row of the table of bars, such as `P1`.
        model: what was recorded or read.
        what: what the figure is of.
        value: the figure, or None where the row was skipped.
        unit: its unit; `x` for a ratio.
        bar: what it may be at most, or None.
        details: what it was computed from, or why it was skipped.
    """

    row: str
    model: str
    what: str
    value: float | None
    unit: str = "x"
    bar: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        """It is more than a tenth beyond its bar."""
        return self.bar is not None and self.value is not None and self.value > self.bar * 1.1

    def __str__(self) -> str:
        value = "skipped" if self.value is None else f"{self.value:.4g} {self.unit}"
        bar = f"bar {self.bar:g}" if self.bar is not None else "no bar"
        reason = f": {self.details['skipped']}" if self.value is None else ""
        return f"{self.row:10}{self.model:18}{value:>11}  ({bar})".ljust(53) + self.what + reason


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """CPU seconds of every side in every round, the order reversed each other round, after one warm-up of each."""
    for work in sides.values():
        work()
    times: Times = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            times[name].append(cpu_seconds(sides[name]))
    return times


def median_ratio(times: Times, over: str, under: str) -> tuple[float, dict[str, object]]:
    """The median over rounds of one side's CPU time over another's, and what it was computed from."""
    ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
    details: dict[str, object] = {f"{name}_s": round(statistics.median(times[name]), 4) for name in (over, under)}
    return statistics.median(ratios), {**details, "ratios": [round(ratio, 4) for ratio in ratios]}
