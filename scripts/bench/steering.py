"""Time a sweep of edits by restarting against full forward passes with a hook: one thread, CPU seconds.

    python scripts/bench/steering.py [--quick] [--rounds 5] [--only smollm2,gpt2-small] [--json out.json]

A sweep edits the residual stream of 8 prompts in 12 ways at each of several layers and asks for the logits at the last
position. Ours is one clean run and a restart from every layer; theirs a forward pass, unembedding of the last position
only, for every layer and variant. `last` edits the last position, `all` every one but BOS. Both must give the same
logits. The GPT-2-small shape has random weights: time does not depend on them.
Every round runs both sides, in reversed order each other round; the ratio is the median over rounds.
"""

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])
sys.path.append(str(Path(__file__).resolve().parent))  # last, for the modules beside this one

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from machine import ran_on

from cache import Hook, LoadedModel, load_model
from cache.models.restart import clean_run, restart
from cache.whole_files import write_whole

BAR = 3.0  # of `last`; `all` has no bar: nothing but the blocks before the edit can be spared
LARGEST_DIFFERENCE = 1e-4  # of the largest logit
Result = dict[str, object]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> Result:
    """Median over rounds of their CPU time over ours; both have run before."""
    sides = {"ours": ours, "theirs": theirs}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            times[name].append(cpu_seconds(sides[name]))
    ratios = [b / a for a, b in zip(times["ours"], times["theirs"], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ours_s": round(statistics.median(times["ours"]), 4),
        "theirs_s": round(statistics.median(times["theirs"]), 4),
    }


def steps(model: LoadedModel, layers: list[int], variants: int) -> torch.Tensor:
    """What is added: `(layer, variant, d_model)`, large enough to be seen and not constant over dimensions."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(len(layers), variants, model.d_model, generator=generator)


def by_restart(
    model: LoadedModel, tokens: torch.Tensor, layers: list[int], added: torch.Tensor, *, everywhere: bool
) -> torch.Tensor:
    """Logits `(layer, variant, prompt, d_vocab)` from one clean run."""
    clean = clean_run(model, tokens)
    new = tokens.shape[1] - 1 if everywhere else 1
    logits = []
    for layer, variants in zip(layers, added, strict=True):
        stream = clean.streams[layer, :, -new:] + variants[:, None, None]
        logits.append(model.logits_of(restart(clean, stream, layer)[:, :, -1]))
    return torch.stack(logits)


def by_forward(
    model: LoadedModel, tokens: torch.Tensor, layers: list[int], added: torch.Tensor, *, everywhere: bool
) -> torch.Tensor:
    """The same by a full forward pass for every layer and variant, with a hook that adds the step."""
    first = 1 if everywhere else tokens.shape[1] - 1
    logits = []
    for layer, variants in zip(layers, added, strict=True):
        for step in variants:

            def add(_: object, __: object, output: torch.Tensor, step: torch.Tensor = step) -> torch.Tensor:
                return torch.cat([output[:, :first], output[:, first:] + step], dim=1)

            handle = model.points[Hook("resid_pre", layer).name].register_forward_hook(add)
            with torch.inference_mode():
                logits.append(model.last_logits(tokens))
            handle.remove()
    return torch.stack(logits).reshape(len(layers), added.shape[1], len(tokens), -1)


def gpt2_small(n_layers: int) -> LoadedModel:
    """A model of GPT-2 small's shape with random weights, and SmolLM2's tokenizer, which it is not asked to use."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    hf_model = GPT2LMHeadModel(GPT2Config(n_layer=n_layers, attn_implementation="eager")).eval()
    return load_model(hf_model, tokenizer=load_model("smollm2-135m", device="cpu").tokenizer)


def measure_model(name: str, rounds: int, quick: bool) -> dict[str, Result]:
    """Both sweeps of one model."""
    model = load_model("smollm2-135m", device="cpu") if name == "smollm2" else gpt2_small(2 if quick else 12)
    n_layers, size = model.n_layers, (2, 2, 8) if quick else (8, 12, 16)
    layers = sorted({n_layers // 4, n_layers // 2, 3 * n_layers // 4})
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(100, 40_000, (size[0], size[2]), generator=generator)
    added = steps(model, layers, size[1])
    results: dict[str, Result] = {}
    for places in ("last", "all"):
        restarted, whole = (
            partial(sweep, model, tokens, layers, added, everywhere=places == "all")
            for sweep in (by_restart, by_forward)
        )
        ours, theirs = restarted(), whole()
        results[f"{name}, {places}"] = {
            **compare(restarted, whole, rounds),
            "difference": float((ours - theirs).abs().max() / theirs.abs().max()),
            "same top-1": bool((ours.argmax(dim=-1) == theirs.argmax(dim=-1)).all()),
            "cells": ours.shape[0] * ours.shape[1] * ours.shape[2],
            "layers": layers,
            "positions": tokens.shape[1],
            "bar": BAR if places == "last" else None,
        }
        print(line(f"{name}, {places}", results[f"{name}, {places}"]), flush=True)
    return results


def line(name: str, result: Result) -> str:
    """One row of the printed table."""
    bar = f"(bar {result['bar']})" if result["bar"] else "(no bar)"
    return (
        f"{name:18}{result['ratio']:>7} times {bar:10}{result['ours_s']:>9} s against {result['theirs_s']:>9} s for "
        f"{result['cells']} cells; logits differ by {result['difference']:.1e}, top-1 "
        f"{'the same' if result['same top-1'] else 'NOT the same'}"
    )


def missed(results: dict[str, Result]) -> list[str]:
    """Ratios below their bar, and results that are not equal."""
    found = [
        f"{name}: {result['ratio']} is below {result['bar']}"
        for name, result in results.items()
        if result["bar"] and float(str(result["ratio"])) < BAR
    ]
    unequal = [
        name
        for name, result in results.items()
        if not result["same top-1"] or float(str(result["difference"])) > LARGEST_DIFFERENCE
    ]
    return found + [f"{name}: restart and forward pass differ" for name in unequal]


def main() -> None:
    """Measure, print, and fail where the bar is missed or the results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: a check that it runs; the bar does not count"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="smollm2,gpt2-small")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Result] = {}
    for name in arguments.only.split(","):
        results |= measure_model(name, arguments.rounds, arguments.quick)
    if arguments.json:
        described = {
            "quick": arguments.quick,
            "rounds": arguments.rounds,
            "results": results,
            **ran_on("torch", "transformers", "transformer-lens"),
        }
        write_whole(arguments.json, json.dumps(described, indent=2) + "\n")
    complaints = missed(results)
    complaints = [one for one in complaints if "differ" in one] if arguments.quick else complaints
    for complaint in complaints:
        print(complaint)
    if complaints:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
