"""Row P2b: recording one site against sae-lens's own runner, which keeps one site; skipped without sae-lens."""

import logging
import shutil
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from cache_models import texts
from cache_recording import record_once
from cache_timing import Measurement, interleaved, median_ratio

from cache import ActivationStore, Hook, load_model, plan_recording
from cache.store.sink import batch_of

LENGTH, BATCH, N_BATCHES = 32, 8, 8
WHAT = "recording one site / sae-lens's CacheActivationsRunner, same texts"


def one_site(name: str, folder: Path, rounds: int, scratch: Path) -> Measurement:
    """P2b: the last block's output of prompts of equal length, so that both compute the same tokens."""
    if not find_spec("sae_lens") or not find_spec("datasets"):
        return Measurement("P2b", name, WHAT, None, details={"skipped": "sae-lens is not installed"})
    model = load_model(str(folder), device="cpu")
    hook = Hook("resid_post", model.n_layers - 1)
    plan = plan_recording(model, texts([LENGTH] * BATCH * N_BATCHES), sites=[hook.name])
    tokens = torch.cat([batch_of(plan, block)[0] for block in range(len(plan.blocks))])
    sides = {
        "recording": partial(record_once, model, plan, scratch / "site.h5"),
        "sae_lens": partial(sae_lens_runner, model.bridge, tokens, hook.name, scratch / "site"),
    }
    ratio, details = median_ratio(interleaved(sides, rounds), "recording", "sae_lens")
    with ActivationStore.open(scratch / "site.h5") as store:
        ours = store.load(hook).numpy()
    difference = float(np.abs(ours - theirs(scratch / "site", hook.name)).max() / np.abs(ours).max())
    if difference > 1e-5:
        raise ValueError(f"sae-lens's runner kept other numbers: they differ by {difference:.1e} of the largest")
    work = {"tokens": plan.n_tokens, "site": hook.name, "difference": difference}
    return Measurement("P2b", name, WHAT, round(ratio, 4), details={**details, **work})


def sae_lens_runner(bridge: Any, tokens: torch.Tensor, site: str, folder: Path) -> None:
    """The runner on our bridge and our tokens, in one shard; it would load the model from the Hub by itself."""
    import datasets
    import sae_lens.cache_activations_runner as runner

    shutil.rmtree(folder, ignore_errors=True)
    datasets.disable_progress_bars()
    with warnings.catch_warnings(), patch.object(runner, "load_model", return_value=bridge):
        warnings.simplefilter("ignore")  # it warns of more tokens than samples
        logging.disable(logging.WARNING)
        prompts = datasets.Dataset.from_dict({"tokens": tokens.tolist()})
        with patch.object(runner, "tqdm", lambda batches, **_: batches):
            runner.CacheActivationsRunner(config(bridge, tokens, site, folder), prompts).run()
        logging.disable(logging.NOTSET)


def config(bridge: Any, tokens: torch.Tensor, site: str, folder: Path) -> Any:
    """The runner's configuration: batches like ours, unshuffled, on the CPU."""
    from sae_lens import CacheActivationsRunnerConfig

    width = int(bridge.cfg.d_model)
    return CacheActivationsRunnerConfig(
        dataset_path="",
        model_name="",
        model_batch_size=BATCH,
        hook_name=site,
        d_in=width,
        training_tokens=tokens.numel(),
        context_size=tokens.shape[1],
        new_cached_activations_path=str(folder),
        shuffle=False,
        device="cpu",
        buffer_size_gb=tokens.numel() * width * 4 / 1e9 + 1e-8,
        prepend_bos=False,  # the tokens have it
    )


def theirs(folder: Path, site: str) -> np.ndarray:
    """What the runner kept, a row a token."""
    import datasets

    kept = datasets.Dataset.load_from_disk(str(folder)).with_format("numpy")[:][site]
    return np.asarray(kept, dtype=np.float32).reshape(-1, kept.shape[-1])
