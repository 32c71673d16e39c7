"""Row P5: reading one matrix of a store against numpy's reading of the same bytes, and opening the store."""

import statistics
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from cache_models import gpt2_shape, mixed_lengths, texts
from cache_recording import record_once
from cache_timing import Measurement, interleaved, median_ratio

from cache import ActivationStore, load_model, plan_recording

SITE = "blocks.0.hook_resid_post"
N_PROMPTS = 1000
ROUNDS_HERE = 5  # a tenth of a second each, and as noisy as that is short


def reading_rows(rounds: int, scratch: Path) -> list[Measurement]:
    """P5, warm: a site of 768 dimensions of prompts of mixed lengths; checksums are part of our reading."""
    path = scratch / "reading.h5"
    model = load_model(str(gpt2_shape(scratch / "one-layer", n_layer=1, n_inner=64)), device="cpu")
    record_once(model, plan_recording(model, texts(mixed_lengths(N_PROMPTS)), sites=[SITE]), path)
    with h5py.File(path) as file:
        stored = file[f"activations/{SITE}"]
        count, offset, shape = stored.size, int(stored.id.get_offset()), stored.shape
    floor = partial(np.fromfile, path, dtype=np.float32, count=count, offset=offset)
    stores = [ActivationStore.open(path) for _ in range(ROUNDS_HERE * rounds + 1)]  # each checks what it reads first
    if not np.array_equal(stores[0].load(SITE).numpy().reshape(-1), floor()):
        raise ValueError("the store gives other numbers than the file has")
    fresh = iter([*stores[1:], stores[0]])
    sides = {
        "load": lambda: next(fresh).load(SITE),
        "load again": lambda: stores[0].load(SITE),
        "fromfile": floor,
    }
    times = interleaved(sides, ROUNDS_HERE * rounds)
    for store in stores:
        store.close()
    ratio, details = median_ratio(times, "load", "fromfile")
    again, _ = median_ratio(times, "load again", "fromfile")
    opening = interleaved({"open": lambda: ActivationStore.open(path).close()}, rounds)["open"]
    size = {"rows": shape[0], "width": shape[1], "MB": round(count * 4 / 1e6, 1), "prompts": N_PROMPTS}
    what = f"load one matrix of {size['MB']} MB / np.fromfile of its bytes, warm"
    seconds = round(statistics.median(opening), 4)
    return [
        Measurement("P5", "one layer, d 768", what, round(ratio, 4), bar=2.5, details={**details, **size}),
        Measurement("P5 again", "one layer, d 768", "the same once it is checked", round(again, 4), details=size),
        Measurement("P5 open", "one layer, d 768", f"opening that store, {shape[0]} rows", seconds, "s", details=size),
    ]
