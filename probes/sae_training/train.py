"""SAEs trained on a store: all sites and seeds in one reading of its rows, gone on with where it was broken off."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cache.errors import StoppedError
from cache.sealed.lock import writer_lock
from cache.shown.progress import progress_bar
from cache.store.store import ActivationStore
from cache.whole_files import check_folder, storage_error, write_whole
from probes.sae.load import load_sae
from probes.sae_training.batches import Batch, batches
from probes.sae_training.checkpoints import check_fields, load_checkpoint, remove_checkpoints, save_checkpoint
from probes.sae_training.left_out import left_out_quality
from probes.sae_training.plan import SAEPlan
from probes.sae_training.run import Run, begin, import_sae_lens
from probes.sae_training.split import PARTS
from probes.sae_training.stability import seed_stability

EVERY = 100
"""Steps between two checkpoints."""

NOTED = 10
"""Steps between two points of the curve."""

MEASURED = ("left_out.csv", "stability.csv")
"""What tells of trained SAEs: the first of each, the second of seeds of one site."""

FIRST = 16
"""Batches from which the scale of activations and their mean are taken."""


_TOLD = ("explained_variance", "l0", "dead")


def train_saes(
    store: ActivationStore,
    plan: SAEPlan,
    out: str | Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """Train SAEs at several sites and with several seeds, by sae-lens's trainer; gives their folders.

    Each folder, `<site>/seed-<seed>` in `out`, is opened by `load_sae` and by sae-lens's `SAE.load_from_disk`.
    Beside them: `training.json` (the plan, the store's fingerprint), `split.json` (what was left out), `curve.csv`
    (explained variance, L0 and the share of dead features over steps, of the batch that is trained on),
    `left_out.csv` (`left_out_quality` of each) and, with several seeds, `stability.csv` (`seed_stability`).

    Args:
        store: the store.
        plan: what is trained (`plan_training`).
        out: the folder. Training that was broken off there by the same plan goes on and ends in the same SAEs;
            finished SAEs are left as they are.
        on_step: called after every step, with how many are done and the means over SAEs of `explained_variance`, `l0`
            and `dead`; by default a bar is shown where somebody looks.
        should_stop: asked after every step; true ends the training there, with a checkpoint.

    Raises:
        FingerprintError: other SAEs were trained in the folder; the message names the fields.
        StoppedError: it was stopped; the same call goes on.
        LockedError: another process trains in it.
        NotAvailableError: sae-lens is not installed, or the folder cannot be written.
        NoSpaceError, CorruptFileError: there is no room, or what is in the folder is damaged.

    Example:
        >>> from probes.sae_training.plan import plan_training
        >>> plan = plan_training(store, [("resid_post", 1)], width=66, k=8, steps=4, batch_size=32)
        >>> [path.name for path in train_saes(store, plan, "saes/tour")]
        ['seed-0']
    """
    out = Path(out)
    import_sae_lens()
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    places = [out / hook.name / f"seed-{seed}" for hook in plan.hooks for seed in plan.seeds]
    with writer_lock(out / "training"):
        check_fields(out, plan.fields(store))
        if not all((place / "cfg.json").exists() for place in places):
            _train(store, plan, out, on_step, should_stop)
        remove_checkpoints(out)
        _measure(store, plan, places, out)
    return places


def _train(
    store: ActivationStore,
    plan: SAEPlan,
    out: Path,
    on_step: Callable[[int, dict[str, float]], None] | None,
    should_stop: Callable[[], bool],
) -> None:
    split = plan.split(store)
    write_whole(out / "split.json", json.dumps(split.described(), indent=2) + "\n")
    order = partial(batches, store, plan.hooks, plan.pools(split), seed=plan.seeds[0])
    runs = _begun(plan, store, list(islice(order(), FIRST)))
    start, curve = load_checkpoint(out, runs)
    with progress_bar("training", plan.steps, show=on_step is None) as bar, _side_by_side(len(runs)) as workers:
        for done, batch in zip(range(start + 1, plan.steps + 1), order(start=start), strict=False):
            steps = [workers.submit(run.step, batch[run.hook]) for run in runs]
            told = {run.name: step.result() for run, step in zip(runs, steps, strict=True)}
            if done % NOTED == 0 or done == plan.steps:
                curve += [{"sae": name, "step": done, **values} for name, values in told.items()]
            stop = should_stop()
            if (done % EVERY == 0 or stop) and done < plan.steps:
                save_checkpoint(out, done, runs, curve)
            bar(done)
            if on_step is not None:
                on_step(done, {name: float(np.mean([one[name] for one in told.values()])) for name in _TOLD})
            if stop and done < plan.steps:
                raise StoppedError(f"stopped after {done} of {plan.steps} steps")
    write_whole(out / "curve.csv", pd.DataFrame(curve).to_csv(index=False, float_format="%.6g"))
    _save(runs, out)


@contextmanager
def _side_by_side(n_runs: int) -> Iterator[ThreadPoolExecutor]:
    """As many workers as there are SAEs and threads, which share the threads: a step's products are small."""
    n_threads = torch.get_num_threads()
    n_workers = min(n_runs, n_threads)
    try:
        with ThreadPoolExecutor(n_workers, "sae", torch.set_num_threads, (n_threads // n_workers,)) as workers:
            yield workers
    finally:
        torch.set_num_threads(n_threads)


def _measure(store: ActivationStore, plan: SAEPlan, places: Sequence[Path], out: Path) -> None:
    """Put down how the SAEs do on what was left out, and whether seeds agree, unless it is there."""
    if (out / MEASURED[-1]).exists() or ((out / MEASURED[0]).exists() and len(plan.seeds) == 1):
        return
    split = plan.split(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those that explain little, which the table says
        saes = [load_sae(place, store=store) for place in places]
    some = next(part for part in (*PARTS[2:], *PARTS[:2]) if len(split.rows(part)))
    tables = [pd.DataFrame(columns=["sae", "part"])]
    if some in PARTS[2:]:
        tables = [left_out_quality(sae, store, split) for sae in saes]
        for place, table in zip(places, tables, strict=True):
            table.insert(0, "sae", "/".join(place.parts[-2:]))
    write_whole(out / MEASURED[0], pd.concat(tables).to_csv(index=False, float_format="%.6g"))
    if len(plan.seeds) > 1:
        rows = split.part == PARTS.index(some)
        of_sites = [[sae for sae in saes if sae.hook == hook] for hook in plan.hooks]
        stable = pd.concat([seed_stability(one, store, rows, seed=plan.seeds[0]) for one in of_sites])
        write_whole(out / MEASURED[1], stable.to_csv(index=False, float_format="%.6g"))


def _begun(plan: SAEPlan, store: ActivationStore, first: Sequence[Batch]) -> list[Run]:
    """The SAEs before their first step, at each site one of every seed."""
    rows = {hook: torch.cat([batch[hook] for batch in first]) for hook in plan.hooks}
    return [begin(plan, store, hook, seed, rows[hook]) for hook in plan.hooks for seed in plan.seeds]


def _save(runs: Sequence[Run], out: Path) -> None:
    """Each SAE in its folder, whole or not there."""
    for run in runs:
        new, place = out / f".{run.seed}.new", out / run.name
        try:
            shutil.rmtree(new, ignore_errors=True)
            run.save(new)
            place.parent.mkdir(exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            new.replace(place)
        except Exception as error:
            shutil.rmtree(new, ignore_errors=True)
            raise storage_error(error, place) from error
