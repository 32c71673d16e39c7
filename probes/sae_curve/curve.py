"""How an SAE does on what was left out, over tokens, width and the share of sequences that train it."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd

from cache.errors import InputError
from cache.store.store import ActivationStore
from cache.whole_files import write_whole
from probes.sae_training.plan import SAEPlan, check_plan
from probes.sae_training.train import MEASURED, train_saes

SECONDS = "seconds.json"
"""Processor seconds that a step took, beside the SAEs of each point of a curve."""


@dataclass(frozen=True)
class Curve:
    """What is varied; every combination is trained.

    Attributes:
        tokens: rows of text that train; None for all.
        widths: features.
        sequences: shares of a batch.
    """

    tokens: tuple[int | None, ...] = (None,)
    widths: tuple[int, ...] = (2048,)
    sequences: tuple[float, ...] = (0.2,)

    def plans(self, plan: SAEPlan) -> Iterator[tuple[str, SAEPlan]]:
        """Each combination's folder and plan, smallest first: those that cost least."""
        tokens = sorted(set(self.tokens), key=lambda one: (one is None, one or 0))
        for width, share, text in product(sorted(set(self.widths)), sorted(set(self.sequences)), tokens):
            name = f"width-{width}_sequences-{share:g}_tokens-{'all' if text is None else text}"
            yield name, replace(plan, width=width, sequences=share, tokens=text)


def training_curve(
    store: ActivationStore,
    plan: SAEPlan,
    curve: Curve,
    out: str | Path,
    *,
    on_step: Callable[[int, int, dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:
    """Train SAEs at every combination of a curve, and tell how each does on what was left out.

    Documents, templates and frames that are left out are the same at every point. Points that were trained before are
    not trained again, and one that was broken off goes on.

    Args:
        store: the store.
        plan: what is not varied.
        curve: what is.
        out: the folder; each point's SAEs are in a folder of it, as `train_saes` makes it.
        on_step: called after every step, with how many points were done, the step of this one, and what it told.
        should_stop: asked after every step.

    Returns:
        A row an SAE and part: `width`, `sequences`, `tokens` (rows of text that trained), `steps`, `seconds` (of the
        processor, for all SAEs of the point; nan if not known), then what `left_out.csv` has. Written to `curve.csv`.

    Raises:
        InputError: nothing is varied, a combination cannot be trained, or nothing was left out.
        StoppedError, FingerprintError, LockedError: as for `train_saes`.

    Example:
        >>> from probes.sae_curve.curve import Curve
        >>> from probes.sae_training.plan import plan_training
        >>> plan = plan_training(store, [("resid_post", 1)], k=4, steps=2, batch_size=32, frames=("list",))
        >>> table = training_curve(store, plan, Curve(widths=(40, 66)), "saes/curve")
        >>> table[["width", "part"]].drop_duplicates().values.tolist()
        [[40, 'templates'], [40, 'frames'], [66, 'templates'], [66, 'frames']]
    """
    points = list(curve.plans(plan))
    if not points:
        raise InputError("a curve is over tokens, widths and shares of sequences; one of them names none")
    for _, point in points:
        check_plan(point, store)
    tables = []
    for number, (name, point) in enumerate(points):
        folder = Path(out) / name
        _train(store, point, folder, number, on_step, should_stop)
        tables.append(_told(store, point, folder))
    table = pd.concat(tables, ignore_index=True)
    if table["part"].isna().all():
        raise InputError("nothing is left out to measure SAEs on; leave out documents, templates or frames")
    write_whole(Path(out) / "curve.csv", table.to_csv(index=False, float_format="%.6g"))
    return table


def _train(
    store: ActivationStore,
    plan: SAEPlan,
    folder: Path,
    number: int,
    on_step: Callable[[int, int, dict[str, float]], None] | None,
    should_stop: Callable[[], bool],
) -> None:
    """One point; notes what a step costs, from the steps that were taken in this call."""
    taken: list[float] = []

    def told(done: int, values: dict[str, float]) -> None:
        taken.append(time.process_time())
        if on_step is not None:
            on_step(number, done, values)

    train_saes(store, plan, folder, on_step=told, should_stop=should_stop)
    if len(taken) > 1:
        each = (taken[-1] - taken[0]) / (len(taken) - 1)
        write_whole(folder / SECONDS, json.dumps({"a step": each}) + "\n")


def _told(store: ActivationStore, plan: SAEPlan, folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / MEASURED[0])
    noted = folder / SECONDS
    each = json.loads(noted.read_text(encoding="utf-8"))["a step"] if noted.exists() else float("nan")
    point = {
        "width": plan.width,
        "sequences": plan.sequences,
        "tokens": len(plan.split(store).rows("text")),
        "steps": plan.steps,
        "seconds": each * plan.steps,
    }
    return pd.DataFrame({name: [value] * len(table) for name, value in point.items()}).join(table)
