"""One SAE on its way: sae-lens's trainer of it, what it has to be begun with, and how it is saved."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cache.errors import NotAvailableError
from cache.models.hooks import Hook
from cache.store.store import ActivationStore
from probes.sae_training.plan import SAEPlan


@dataclass(frozen=True)
class Run:
    """An SAE that is being trained.

    Attributes:
        hook: its site.
        seed: of its weights.
        trainer: sae-lens's.
    """

    hook: Hook
    seed: int
    trainer: Any

    @property
    def name(self) -> str:
        """Its folder: the site's, and the seed's in it."""
        return f"{self.hook.name}/seed-{self.seed}"

    def step(self, x: Float[Tensor, "row d"]) -> dict[str, float]:
        """One step of training on a batch; gives explained variance (centred) and L0 of it before the step."""
        output = self.trainer.step(x)
        self.trainer.n_training_steps += 1
        with torch.no_grad():
            left = (output.sae_out - output.sae_in).square().sum()
            total = (output.sae_in - output.sae_in.mean(dim=0)).square().sum()
            active = output.feature_acts.count_nonzero() / len(x)
        return {"explained_variance": float(1 - left / total), "l0": float(active), "dead": self.dead}

    @property
    def dead(self) -> float:
        """Share of features that fired in none of the last steps (`dead_feature_window`)."""
        return float(self.trainer.dead_neurons.float().mean())

    def save(self, folder: Path) -> None:
        """Write the trained SAE as `SAE.load_from_disk` opens it: raw activations in, batchtopk as JumpReLU."""
        sae = self.trainer.sae
        sae.fold_activation_norm_scaling_factor(self.trainer.activation_scaler.scaling_factor)
        self.trainer.activation_scaler.scaling_factor = None
        sae.save_inference_model(folder)


_THRESHOLD_LR = 0.01
"""How fast the threshold that batchtopk is saved with follows: sae-lens's own, too slow below 1,000 steps."""

_JUMPRELU = MappingProxyType(
    {
        "jumprelu_sparsity_loss_mode": "quadratic",
        "l0_coefficient": 0.1,
        "jumprelu_bandwidth": 1.0,
        "jumprelu_init_threshold": 0.5,
        "jumprelu_ste_to_input": True,
    }
)
"""Where activations are scaled as here, these draw L0 to k and find planted features; sae-lens's own do neither."""


def begin(plan: SAEPlan, store: ActivationStore, hook: Hook, seed: int, first: Float[Tensor, "row d"]) -> Run:
    """An SAE before its first step: its bias at the mean, activations scaled to lie sqrt(d) from it on average.

    Args:
        plan: how it is trained.
        store: on what.
        hook: the site.
        seed: of the weights.
        first: some rows that it is trained on, from which scale and mean are taken.
    """
    import_sae_lens()
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sae = _sae(plan, store, hook, first.shape[1])
    mean = first.mean(dim=0)
    scale = math.sqrt(first.shape[1]) / float((first - mean).norm(dim=1).mean())
    with torch.no_grad():
        sae.b_dec.copy_(scale * mean)
    config = SAETrainerConfig(
        total_training_samples=plan.steps * plan.batch_size,
        train_batch_size_samples=plan.batch_size,
        lr=plan.lr,
        lr_end=plan.lr,
        lr_warm_up_steps=min(20, plan.steps // 10),
        lr_decay_steps=plan.steps // 5,
        dead_feature_window=min(100, max(1, plan.steps // 10)),
        feature_sampling_window=2 * plan.steps,  # what it counts it would show to wandb
    )
    trainer = SAETrainer(config, sae, iter(()))
    trainer.activation_scaler.scaling_factor = scale
    return Run(hook, seed, trainer)


def import_sae_lens() -> None:
    """Import sae-lens, which warns of what it imports itself.

    Raises:
        NotAvailableError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import sae_lens  # noqa: F401
    except ImportError as error:
        raise NotAvailableError(
            "SAEs are trained by sae-lens, which is not installed: pip install 'representation-geometry[sae]'"
        ) from error


def _sae(plan: SAEPlan, store: ActivationStore, hook: Hook, d_in: int) -> Any:
    """An untrained SAE with the store's facts in its `cfg.json`."""
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    metadata = SAEMetadata(
        model_name=store.manifest["soft"].get("model", ""),
        hook_name=hook.name,
        hook_head_index=hook.head,
        prepend_bos=bool(store.manifest["hard"]["bos"]),
        store_fingerprint=store.fingerprint,
        model_weights=store.weights,
    )
    common: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": plan.width,
        "normalize_activations": "expected_average_only_in",
        "metadata": metadata,
    }
    if plan.architecture == "jumprelu":
        return JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**common, **_JUMPRELU, target_l0=float(plan.k)))
    if plan.architecture == "topk":
        return TopKTrainingSAE(TopKTrainingSAEConfig(**common, k=plan.k))
    common["topk_threshold_lr"] = max(_THRESHOLD_LR, min(1.0, 10 / plan.steps))  # a mean of the last tenth of the steps
    if plan.architecture == "matryoshka":
        widths = sorted({max(plan.k, plan.width // part) for part in (16, 4, 1)})
        config = MatryoshkaBatchTopKTrainingSAEConfig(**common, k=plan.k, matryoshka_widths=widths)
        return MatryoshkaBatchTopKTrainingSAE(config)
    return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common, k=plan.k))
