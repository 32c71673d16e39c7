"""Rows P1 to P3 and P6: recording against bare passes and TransformerLens, padding, and a pass that ends early."""

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import torch
from cache_models import bare_model, hooked_transformer, mixed_lengths, texts
from cache_timing import Measurement, interleaved, median_ratio

from cache import LoadedModel, load_dataset, load_model, plan_recording, record
from cache.store.plan import RecordingPlan
from cache.store.sink import batch_of

BARS = {"P1": 1.15, "P2": 0.60, "P2 bridge": None}
WHAT = {
    "P1": "recording / bare Hugging Face forward of the same batches",
    "P2": "recording / HookedTransformer.run_with_cache(names_filter) and h5py",
    "P2 bridge": "recording / TransformerBridge.run_with_cache(names_filter) and h5py",
}


def recording_rows(name: str, folder: Path, rounds: int, rows: list[str], scratch: Path) -> list[Measurement]:
    """P1 and P2: the default sites of every layer, in batches of 256 tokens.

    Each rival has rounds of its own: three sides in a round would share the processor's cache and the disk's.
    """
    model = load_model(str(folder), device="cpu")
    plan = plan_recording(model, load_dataset("digits,numwords,months"))
    batches = [batch_of(plan, block)[0] for block in range(len(plan.blocks))]
    names = [hook.name for hook in plan.hooks]
    slots = sum(batch.numel() for batch in batches)
    work: dict[str, object] = {"tokens": plan.n_tokens, "slots": slots, "sites": len(plan.hooks)}
    ours = partial(record_once, model, plan, scratch / "ours.h5")
    found = []
    for row, rival in rivals(rows, model, folder).items():
        theirs = partial(forward, rival, batches)
        if row != "P1":
            theirs = partial(run_with_cache, rival, batches, names, scratch / "theirs.h5")
        ratio, details = median_ratio(interleaved({"recording": ours, "rival": theirs}, rounds), "recording", "rival")
        found.append(Measurement(row, name, WHAT[row], round(ratio, 4), bar=BARS[row], details={**details, **work}))
    return found


def rivals(rows: list[str], model: LoadedModel, folder: Path) -> dict[str, Any]:
    """The other models of these rows."""
    found = {"P1": bare_model(folder)} if "P1" in rows else {}
    return found | ({"P2": hooked_transformer(model), "P2 bridge": model.bridge} if "P2" in rows else {})


def record_once(model: LoadedModel, plan: RecordingPlan, path: Path) -> None:
    """A whole recording, from creating the file to its mark of completeness."""
    record(model, plan, path, overwrite=True)


def forward(model: Any, batches: list[torch.Tensor]) -> None:
    """The bare forward passes; nothing is kept."""
    with torch.inference_mode():
        for tokens in batches:
            model(tokens, use_cache=False)


def run_with_cache(model: Any, batches: list[torch.Tensor], names: list[str], path: Path) -> None:
    """TransformerLens's way: every batch cached in memory, then each site written as a dataset."""
    with h5py.File(path, "w") as file, torch.inference_mode():
        for number, tokens in enumerate(batches):
            _, cached = model.run_with_cache(tokens, names_filter=names)
            for name in names:
                file.create_dataset(f"{number}/{name}", data=cached[name].numpy())


def padding(name: str, folder: Path) -> Measurement:
    """P3: token slots computed for each token of prompts of mixed lengths, and what dataset order would compute."""
    model = load_model(str(folder), device="cpu")
    lengths = mixed_lengths(1000)
    plan = plan_recording(model, texts(lengths))
    if plan.tokenized.lengths.tolist() != lengths:
        raise ValueError("a word of the texts is not one token; the lengths are not those that were drawn")
    ordered = in_dataset_order(lengths, plan.batch_tokens)
    slots = sum(batch_of(plan, block)[0].numel() for block in range(len(plan.blocks)))
    details = {"tokens": plan.n_tokens, "slots": slots, "dataset_order": round(ordered / plan.n_tokens, 4)}
    what = f"slots / tokens, lengths 8-64 mixed (dataset order: {details['dataset_order']})"
    return Measurement("P3", name, what, round(slots / plan.n_tokens, 4), bar=1.10, details=details)


def ended_pass(name: str, folder: Path, rounds: int, scratch: Path) -> Measurement:
    """P6: one site two thirds up against one of the last block: a pass ends after the last block that is read."""
    model = load_model(str(folder), device="cpu")
    middle, last = 2 * model.n_layers // 3, model.n_layers - 1
    plans = {
        side: plan_recording(model, texts(mixed_lengths(100)), sites="resid_post", layers=layer)
        for side, layer in {"ended": middle, "whole": last}.items()
    }
    sides = {side: partial(record_once, model, plan, scratch / f"{side}.h5") for side, plan in plans.items()}
    ratio, details = median_ratio(interleaved(sides, rounds), "ended", "whole")
    n_tokens = plans["ended"].n_tokens
    per_second = {f"{side}_tokens_per_s": round(n_tokens / float(str(details[f"{side}_s"]))) for side in sides}
    what = f"recording block {middle} of 0-{last} / recording the last block"
    return Measurement("P6", name, what, round(ratio, 4), bar=0.80, details={**details, **per_second})


def in_dataset_order(lengths: list[int], batch_tokens: int) -> int:
    """Token slots when prompts are batched as they come, as many as stay within `batch_tokens` slots."""
    batches: list[list[int]] = [[]]
    for length in lengths:
        if (len(batches[-1]) + 1) * max([*batches[-1], length]) > batch_tokens:
            batches.append([])
        batches[-1].append(length)
    return sum(len(batch) * max(batch) for batch in batches)
