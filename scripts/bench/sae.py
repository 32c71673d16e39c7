"""Time reading and writing by SAEs against the bare products, and beside sae-lens: one thread, CPU seconds.

    python scripts/bench/sae.py [--quick] [--rounds 5] [--json out.json]

P13 of the table of bars: `encode` against `x @ W_enc`, and writing of what is active against the product with every
feature. Written from numbers and values (`decode_active`) that is the bar; `decode` finds what is active by itself.
Every round runs all ways, in reversed order each other round; a ratio is the median over rounds.
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
import warnings
from collections.abc import Callable, Mapping

import torch
from machine import ran_on

from cache.whole_files import write_whole
from probes.sae.load import load_sae

BARS = {"encode": 1.0, "decode_active": 0.12}
K = 32
KINDS = {"standard": {}, "jumprelu": {}, "gated": {}, "topk": {"k": K}}
CLASSES = {"standard": "StandardSAE", "jumprelu": "JumpReLUSAE", "gated": "GatedSAE", "topk": "TopKSAE"}
Ways = Mapping[str, Callable[[], object]]


def ratios(ways: Ways, floor: str, rounds: int) -> dict[str, float]:
    """Each way's CPU time over the floor's: the median over rounds, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for way in ways.values():
            way()
        for number in range(rounds):
            for name in list(ways) if number % 2 else list(ways)[::-1]:
                started = time.process_time()
                ways[name]()
                times[name].append(time.process_time() - started)
    return {
        name: round(statistics.median(a / b for a, b in zip(spent, times[floor], strict=True)), 3)
        for name, spent in times.items()
    }


def saes(kind: str, d: int, width: int) -> object:
    """One of sae-lens's with random weights, so that some tens of features are active in a row."""
    import sae_lens

    name = CLASSES[kind]
    sae = getattr(sae_lens, name)(getattr(sae_lens, f"{name}Config")(d_in=d, d_sae=width, **KINDS[kind]))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for label, parameter in sae.named_parameters():
            scale = d**-0.5 if label == "W_enc" else width**-0.5 if label == "W_dec" else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=draw))
            if label in ("b_enc", "b_gate") and kind != "topk":
                parameter.sub_(3.0)  # about one feature of 750 exceeds it
    return sae


def measured(kind: str, rounds: int, n_rows: int, d: int, width: int) -> dict[str, object]:
    """Reading and writing of one kind, ours and sae-lens's, over the bare products."""
    theirs = saes(kind, d, width)
    ours, x = load_sae(theirs), torch.randn(n_rows, d, generator=torch.Generator().manual_seed(1))
    features = ours.encode(x)
    n_slots = int(torch.count_nonzero(features, dim=1).max())
    values, numbers = features.topk(n_slots, dim=1)
    numbers = numbers.masked_fill(values == 0, -1)
    encode = {"floor": lambda: x @ ours.encoder, "encode": lambda: ours.encode(x)}
    decode = {
        "dense": lambda: torch.addmm(ours.offset, features, ours.directions),
        "decode": lambda: ours.decode(features),
        "decode_active": lambda: ours.decode_active(numbers, values),
    }
    found: dict[str, object] = {"active": round(float(torch.count_nonzero(features)) / n_rows, 1)}
    found |= ratios({**encode, "sae-lens encode": lambda: theirs.encode(x)}, "floor", rounds)
    found |= ratios({**decode, "sae-lens decode": lambda: theirs.decode(features)}, "dense", rounds)
    with torch.no_grad():
        error = (ours.decode(ours.encode(x)) - theirs(x)).abs().max()
    return {**found, "largest difference": float(error)}


def main() -> None:
    """Print a line a kind, with the bars that it does not reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller, in seconds: no figures to report")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of what sae-lens imports
    size = (256, 128, 2048) if options.quick else (1024, 768, 24576)
    results = {kind: measured(kind, options.rounds, *size) for kind in KINDS}
    for kind, found in results.items():
        print(kind, json.dumps(found))
        for name, bar in BARS.items():
            if float(str(found[name])) > bar:
                print(f"  {name}: {found[name]}, more than {bar}")
    if options.json:
        write_whole(options.json, json.dumps({"machine": ran_on(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
