"""Time recording and reading against what they cannot do without: one thread, CPU seconds, interleaved.

    python scripts/bench/cache.py [--model all] [--rounds 5] [--rows P1,P5,growth] [--json out.json]

Rows are those of the table of bars: P1 recording against the bare Hugging Face forward pass of the same batches, P2
against TransformerLens's run_with_cache, P2b one site against sae-lens's runner (if it is installed), P3 padding, P4
memory above the model in a process of its own, P5 reading one matrix against np.fromfile of its bytes, P6 recording a
block two thirds up against the last one; `growth` is CPU time by prompts and layers, drawn beside the JSON.
`gpt2-small-shape` has random weights: time does not depend on them.
Every round runs all sides, in reversed order each other round; a ratio is the median over rounds. Wall clock with
several threads swings threefold on shared machines and proves nothing.
"""

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # else `cache` would be this file
sys.path.append(str(Path(__file__).resolve().parent))  # last, for the modules beside this one

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict

import torch
from cache_growth import Table, draw_growth, growth, growth_rows, print_growth
from cache_memory import measure_here, memory_rows
from cache_models import MODELS, model_folder
from cache_reading import reading_rows
from cache_recording import ended_pass, padding, recording_rows
from cache_saelens import one_site
from cache_timing import Measurement
from machine import ran_on

from cache.whole_files import write_whole

ROWS = ("P1", "P2", "P2b", "P3", "P4", "P5", "P6", "growth")
PACKAGES = ("torch", "transformers", "transformer-lens", "h5py", "numpy", "xxhash")


def model_rows(name: str, rows: list[str], rounds: int, scratch: Path) -> Iterator[Measurement]:
    """The rows that are of one model."""
    folder = model_folder(name, scratch)
    if {"P1", "P2"} & set(rows):
        yield from recording_rows(name, folder, rounds, rows, scratch)
    if "P2b" in rows:
        yield one_site(name, folder, rounds, scratch)
    if "P3" in rows:
        yield padding(name, folder)
    if "P6" in rows:
        yield ended_pass(name, folder, rounds, scratch)
    if "P4" in rows:
        yield from memory_rows(name, folder, Path(__file__).resolve(), rounds)


def measure(arguments: argparse.Namespace, rows: list[str], scratch: Path) -> tuple[list[Measurement], Table]:
    """All that was asked for, printed as it comes; growth also as a table."""
    found: list[Measurement] = []
    for name in MODELS if "all" in arguments.model else arguments.model:
        for one in model_rows(name, rows, arguments.rounds, scratch):
            found.append(show(one))
    if "P5" in rows:
        found += [show(one) for one in reading_rows(arguments.rounds, scratch)]
    table = growth(arguments.rounds, scratch) if "growth" in rows else {}
    if table:
        found += [show(one) for one in growth_rows(table)]
        print_growth(table)
    return found, table


def save(path: Path, rounds: int, found: list[Measurement], table: Table) -> None:
    """The JSON, with what it ran on, and beside it the picture of growth."""
    if table:
        draw_growth(table, path)
    described = {
        "rounds": rounds,
        "results": [asdict(one) | {"missed": one.missed} for one in found],
        "growth": table,
        **ran_on(*PACKAGES),
    }
    write_whole(path, json.dumps(described, indent=2) + "\n")


def show(one: Measurement) -> Measurement:
    """Print a figure as soon as it is known."""
    print(one, flush=True)
    return one


def parse_arguments() -> argparse.Namespace:
    """The command line; `--memory-of` and `--prompts` are for the processes that row P4 starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help=f"{', '.join(MODELS)} or all (the default); repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default=",".join(ROWS), help="some of %(default)s")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prompts", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["all"]
    unknown = sorted(set(arguments.rows.split(",")) - set(ROWS))
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    return arguments


def main() -> None:
    """Measure, print, and fail where a bar is missed by more than a tenth."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory_of:
            print(json.dumps(measure_here(arguments.memory_of, arguments.prompts, Path(folder) / "memory.h5")))
            return
        found, table = measure(arguments, arguments.rows.split(","), Path(folder))
    if arguments.json:
        save(arguments.json, arguments.rounds, found, table)
    complaints = [one for one in found if one.missed]
    for one in complaints:
        print(f"{one.row}, {one.model}: {one.value} is more than a tenth above {one.bar}")
    if complaints:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
