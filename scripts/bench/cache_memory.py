"""Row P4: peak memory above the loaded model while recording, each figure from a fresh process."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from cache_models import mixed_lengths, texts
from cache_timing import Measurement

from cache import load_model, record

N_PROMPTS = 100
MOST_ROUNDS = 3  # a process takes a quarter of a minute
MEGABYTE = 1e6
THRIFTY = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}


def memory_rows(name: str, folder: Path, script: Path, rounds: int) -> list[Measurement]:
    """P4: megabytes above the model, and how much more twice the prompts take. Linux only.

    What the allocator keeps differs between processes by a fifth. The bar counts for the largest process; growth is
    that of the least of each size, with an allocator that gives back at once what is freed.
    """
    if not Path("/proc/self/clear_refs").exists():
        reason = {"skipped": "there is no /proc/self/clear_refs here"}
        return [Measurement("P4", name, "memory above the model", None, details=reason)]
    counts = (N_PROMPTS, 2 * N_PROMPTS)
    above: dict[int, list[float]] = {count: [] for count in counts}
    largest = 0.0
    for _ in range(min(rounds, MOST_ROUNDS)):
        largest = max(largest, in_child(script, folder, counts[1], {})["above_mb"])
        for count in counts:
            above[count].append(in_child(script, folder, count, THRIFTY)["above_mb"])
    growth = 100 * (min(above[counts[1]]) / min(above[counts[0]]) - 1)
    details = {f"{count} prompts, thrifty": [round(value, 1) for value in values] for count, values in above.items()}
    return [
        Measurement("P4", name, "peak memory above the model", round(largest, 1), "MB", 150.0, details),
        Measurement("P4", name, "its growth for twice the prompts", round(growth, 2), "%", 5.0, details),
    ]


def in_child(script: Path, folder: Path, count: int, changes: dict[str, str]) -> dict[str, float]:
    """What a fresh process finds."""
    command = [sys.executable, str(script), "--memory-of", str(folder), "--prompts", str(count)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | changes).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def measure_here(folder: Path, count: int, path: Path) -> dict[str, float]:
    """Megabytes of this process: with the model loaded and run once, and at most while recording."""
    model = load_model(str(folder), device="cpu")
    with torch.inference_mode():
        model.run(torch.zeros((1, 2), dtype=torch.int64))  # brings weights that are mapped from disk into memory
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what loading has freed would hide what recording takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here on
    loaded = resident("VmRSS")
    record(model, texts(mixed_lengths(count)), path)
    return {"loaded_mb": loaded, "peak_mb": resident("VmHWM"), "above_mb": resident("VmHWM") - loaded}


def resident(what: str) -> float:
    """Megabytes that are resident now (`VmRSS`), or were at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith(f"{what}:"))
