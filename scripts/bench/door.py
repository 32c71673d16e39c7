"""CPU seconds of whole commands, from the shell to the last file, beside what importing their libraries takes.

    python scripts/bench/door.py [STORE] [--only info,pca] [--rounds 3] [--json out.json]

One thread. STORE is a recording of smollm2-135m with the site resid_post; without one, five families and twenty
controls are recorded first, which takes minutes. Every command is a process of its own. Its seconds are the median
over rounds, and so is their ratio to those of `import torch, transformer_lens` in the same round, which tells more on a
machine that others use. A first round that is not counted fills the caches of numba and of Python.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import ran_on

ROOT = Path(__file__).resolve().parents[2]
MODEL = ["--model", "smollm2-135m"]
RECORDED = [*MODEL, "--dataset", "digits,numwords,months,days,letters,control:0-19", "--frame", "quote"]
RECORDED += ["--templates", "2", "--length", "3", "--sites", "resid"]
SMALL = [*MODEL, "--dataset", "digits,numwords", "--frame", "quote", "--templates", "1", "--layers", "1"]
GOALS = {"info": 1, "cache, finished": 3, "steer": 8, "pca": 15, "umap": 20}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def seconds(words: list[str], folder: Path) -> float:
    """CPU seconds of a process and its children, single-threaded."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(store: Path) -> dict[str, list[str]]:
    """What is timed; the first is what the others are set beside."""
    two = "digits,numwords"
    words = {
        "info": ["info", str(store)],
        "cache, finished": ["cache", *SMALL, "--out", "small.h5"],
        "steer": ["steer", *MODEL, "--prompt", "3, 4, 5,", "--direction", "to-words.safetensors"],
        "pca": ["pca", str(store), "--out", "pca"],
        "pca, no model": ["pca", str(store), "--out", "pca-alone", "--model", "none"],
        "umap": ["umap", str(store), "--out", "umap"],
        "nmf, one layer": ["nmf", str(store), "--out", "nmf", "--layers", "15"],
        "compare, one layer": ["compare", str(store), "--out", "compare", "--families", two, "--layers", "15"],
    }
    libraries = {"import": ["-c", "import torch, transformer_lens"]}
    return libraries | {name: ["-m", "geometry", *line] for name, line in words.items()}


def prepared(store: Path | None, folder: Path) -> Path:
    """The store that is read, and beside it in the folder a small one and a direction."""
    whole = folder / "whole.h5" if store is None else store.resolve()
    if store is None:
        seconds(["-m", "geometry", "cache", *RECORDED, "--out", str(whole)], folder)
    seconds(["-m", "geometry", "cache", *SMALL, "--out", "small.h5"], folder)
    ends = ["--from", "digits", "--to", "numwords", "--layer", "12", "--out", "to-words.safetensors"]
    seconds(["-m", "geometry", "direction", str(whole), *ends], folder)
    return whole


def main() -> None:
    """Time the commands that are asked for, and print and save their medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", nargs="?", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = commands(prepared(options.store, folder))
        wanted = options.only.split(",") if options.only else list(timed)
        chosen = {one: words for one, words in timed.items() if one == "import" or one.split(",")[0] in wanted}
        taken: dict[str, list[float]] = {one: [] for one in chosen}
        for number in range(options.rounds + 1):
            for one, words in chosen.items():
                spent = seconds(words, folder)
                taken[one] += [spent] if number else []
    results = {}
    for one, spent in taken.items():
        middle, goal = statistics.median(spent), GOALS.get(one)
        ratio = statistics.median(a / b for a, b in zip(spent, taken["import"], strict=True))
        results[one] = {"cpu_s": round(middle, 2), "imports": round(ratio, 2), "goal_s": goal}
        print(f"{one:20} {middle:7.2f} s  {ratio:5.2f} x import  {f'goal {goal} s' if goal else ''}")
    if options.json:
        made_by = ran_on("torch", "transformer-lens", "umap-learn", "matplotlib")
        options.json.write_text(json.dumps(made_by | {"results": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
