"""Time recording against the bare forward pass of the same batches: one thread, CPU seconds, interleaved.

    python scripts/bench/cache.py [--model smollm2-135m] [--rounds 7] [--json out.json]

The bare forward is Hugging Face's base model without the unembedding, its own attention, nothing recorded. Wall clock
with several threads swings threefold on shared machines and proves nothing; ratios of CPU time within one round hold.
"""

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # else `cache` would be this file

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from transformers import AutoModelForCausalLM

from cache import load_dataset, load_model, plan_recording, record
from cache.model_sources import find_model
from cache.sink import batch_of

BAR = 1.15


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(model_name: str, rounds: int) -> dict[str, object]:
    """The median over rounds of recording's CPU time over the bare forward's, and tokens a second of both."""
    torch.set_num_threads(1)
    model = load_model(model_name, device="cpu")
    bare = AutoModelForCausalLM.from_pretrained(find_model(model_name).folder, dtype=torch.float32).base_model.eval()
    plan = plan_recording(model, load_dataset("digits,numwords,months"))
    batches = [batch_of(plan, block)[0] for block in range(len(plan.blocks))]

    def forward() -> None:
        with torch.inference_mode():
            for tokens in batches:
                bare(tokens, use_cache=False)

    with tempfile.TemporaryDirectory() as folder:

        def recording() -> None:
            record(model, plan, Path(folder) / "bench.h5", overwrite=True).close()

        forward()
        recording()
        times: dict[str, list[float]] = {"forward": [], "recording": []}
        for number in range(rounds):
            pair = [("forward", forward), ("recording", recording)]
            for name, work in pair if number % 2 else pair[::-1]:
                times[name].append(cpu_seconds(work))
    ratios = [b / a for a, b in zip(times["forward"], times["recording"], strict=True)]
    return {
        "model": model_name,
        "tokens": plan.n_tokens,
        "slots_per_token": round(plan.n_slots / plan.n_tokens, 4),
        "sites": len(plan.hooks),
        "rounds": rounds,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "forward_tokens_per_s": round(plan.n_tokens / statistics.median(times["forward"])),
        "recording_tokens_per_s": round(plan.n_tokens / statistics.median(times["recording"])),
        "bar": BAR,
        "versions": {name: version(name) for name in ("torch", "transformers", "transformer-lens", "h5py")},
    }


def main() -> None:
    """Measure, print, and fail where the bar is missed by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.model, arguments.rounds)
    for name, value in result.items():
        print(f"{name:24}{value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if float(str(result["ratio"])) > BAR * 1.1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
