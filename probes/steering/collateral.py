"""What steering does to texts that it should leave alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.models.tokens import tokenize
from cache.prompts.prompt import Prompts
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.results.result import LayerResult
from probes.directions.contrasts import contrast, load_pairs
from probes.directions.estimators import mean_difference, random_steps
from probes.directions.prompts import stored_prompts
from probes.steering.cells import modal_cell, nested_cells
from probes.steering.sentences import PLAIN_SENTENCES
from probes.steering.trials import edited_logits, run_batches

_MOST = 50
"""Prompts of another family that are tried at most."""

N_RANDOM = 20


def collateral(
    view: View, model: LoadedModel, result: LayerResult, *, method: str = "mean_difference", seed: int = 0
) -> pd.DataFrame:
    """How far steering at a sweep's best cell moves the next token of other texts.

    The direction is the mean difference over all pairs; beside it, directions drawn from the activations' covariance
    at the same length.

    Args:
        view: what was swept.
        model: its model.
        result: of `sweep`.
        method: whose best cell (the one chosen most often among answers).
        seed: seeds the drawn directions and the choice of prompts.

    Returns:
        One line a set of texts (`plain sentences`, and each other family, controls together): `texts, kl` (mean
        Kullback-Leibler divergence of the steered from the clean next-token distribution, in nats), `kl_se` (over
        texts), `kl_random` (mean over drawn directions), `top1_changed` (share), `layer, alpha, positions, n_texts`.
    """
    seed = check_seed(seed)
    if view.noted() != result.parameters["where"]:
        raise InputError(
            f"the sweep was of other rows ({result.parameters['where']}) than {view.noted()}; give its view"
        )
    layer, alpha, positions = modal_cell(nested_cells(result, method))
    hook = next(hook for hook in result.hooks if hook.table_layer == layer)
    source, target = (result.parameters[name] for name in ("source", "target"))
    x, y = load_pairs(view.store, hook, contrast(view, source, target))
    steps = alpha * _steps(x, y, seed)
    lines = []
    for name, prompts in _texts(view.store, (source, target), seed).items():
        usable = positions if positions in ("last", "all") or all(prompt.members for prompt in prompts) else "last"
        divergence, changed = _divergences(model, prompts, hook, steps, usable)
        lines.append(
            {
                "texts": name,
                "kl": float(divergence[0].mean()),
                "kl_se": float(divergence[0].std(ddof=1) / len(prompts) ** 0.5) if len(prompts) > 1 else np.nan,
                "kl_random": float(divergence[1:].mean()),
                "top1_changed": float(changed[0].mean()),
                "layer": layer,
                "alpha": alpha,
                "positions": usable,
                "n_texts": len(prompts),
            }
        )
    return pd.DataFrame(lines)


def divergence(
    clean: Float[Tensor, "text d_vocab"], steered: Float[Tensor, "text d_vocab"]
) -> Float[np.ndarray, " text"]:
    """Kullback-Leibler divergence `sum p_clean (log p_clean - log p_steered)` of next tokens from logits, in nats."""
    p, q = (one.double().cpu().log_softmax(dim=1) for one in (clean, steered))
    return (p.exp() * (p - q)).sum(dim=1).clamp_min(0).numpy()


def _divergences(
    model: LoadedModel, prompts: Prompts, hook: Hook, steps: Float[Tensor, "copy d"], positions: str
) -> tuple[Float[np.ndarray, "copy text"], Float[np.ndarray, "copy text"]]:
    moved, changed = np.empty((len(steps), len(prompts))), np.empty((len(steps), len(prompts)))
    for batch in run_batches(model, tokenize(prompts, model.tokenizer, bos=model.bos)):
        numbers, clean = list(batch.numbers), batch.clean.logits
        added = steps[:, None].expand(-1, len(numbers), -1).to(clean.device)
        for copy, logits in enumerate(edited_logits(batch, hook, added, positions)):
            moved[copy, numbers] = divergence(clean, logits)
            changed[copy, numbers] = (logits.argmax(dim=1) != clean.argmax(dim=1)).cpu().numpy()
    return moved, changed


def _texts(store: ActivationStore, used: Sequence[str], seed: int) -> dict[str, Prompts]:
    """Plain sentences, and a seeded choice of the prompts of every other family; control families count as one."""
    found = {"plain sentences": Prompts.from_texts(PLAIN_SENTENCES)}
    labels = store.prompts["family"].str.replace(r"^control:.*", "controls", regex=True).to_numpy()
    for family in dict.fromkeys(labels):
        if family and family not in used:
            numbers = np.flatnonzero(labels == family)
            chosen = np.sort(np.random.default_rng(seed).permutation(numbers)[:_MOST])
            found[family] = stored_prompts(store, chosen)
    return found


def _steps(x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"], seed: int) -> Float[Tensor, "step d"]:
    """The mean difference, and directions with the activations' covariance within groups that are as long."""
    step = mean_difference(x, y)
    if not float(step.norm()):
        raise InputError("the two groups have the same mean, so there is nothing to steer with")
    drawn = random_steps(x, y, N_RANDOM, np.random.default_rng(seed))
    lengths = step.double().norm() / drawn.norm(dim=1, keepdim=True)
    return torch.cat([step[None], (drawn * lengths).float()])
