"""How SAEs are trained: everything that what comes out depends on, besides the store."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from cache.errors import InputError
from cache.models.hooks import Hook, HookLike
from cache.repeatable import check_seed
from cache.store.store import ActivationStore
from probes.sae_training.split import Split, split_rows

ARCHITECTURES = ("batchtopk", "topk", "jumprelu", "matryoshka")


@dataclass(frozen=True)
class SAEPlan:
    """What is trained on a store, and how.

    Attributes:
        hooks: the sites; one SAE of each seed at every one.
        architecture: `batchtopk`, `topk`, `jumprelu` (its L0 drawn to k by a quadratic penalty) or `matryoshka`
            (batchtopk at a 16th, a 4th and all of the width).
        width: features (`d_sae`).
        k: active features a row, on average (`topk`: of every row).
        steps: batches.
        batch_size: rows a batch.
        lr: of Adam, where activations are scaled to lie sqrt(d) from their mean on average; it goes down to 0 in the
            last fifth of the steps.
        sequences: share of each batch that is sequences, where the store has text too.
        seeds: of the weights, one SAE each; the order of the rows is that of the first.
        documents, templates, frames: what is left out (`split_rows`).
        tokens: most rows of text that train, in whole documents; None for all.
    """

    hooks: tuple[Hook, ...]
    architecture: str = "batchtopk"
    width: int = 2048
    k: int = 32
    steps: int = 2000
    batch_size: int = 1024
    lr: float = 3e-3
    sequences: float = 0.2
    seeds: tuple[int, ...] = (0,)
    documents: float = 1 / 8
    templates: int = 1
    frames: tuple[str, ...] = ()
    tokens: int | None = None

    def split(self, store: ActivationStore) -> Split:
        """What each row of the store is for."""
        return split_rows(
            store.rows,
            documents=self.documents,
            templates=self.templates,
            frames=self.frames,
            tokens=self.tokens,
            seed=self.seeds[0],
        )

    def pools(self, split: Split) -> Mapping[str, tuple[Any, int]]:
        """The rows that train, and how many of them are in a batch: text and sequences in their shares."""
        rows = {part: split.rows(part) for part in ("text", "sequences")}
        there = [part for part, numbers in rows.items() if len(numbers)]
        of_sequences = round(self.sequences * self.batch_size) if len(there) == 2 else self.batch_size
        sizes = {
            "sequences": of_sequences,
            "text": self.batch_size - of_sequences if len(there) == 2 else self.batch_size,
        }
        return {part: (rows[part], sizes[part]) for part in there if sizes[part]}

    def fields(self, store: ActivationStore) -> dict[str, Any]:
        """All that the SAEs depend on, as JSON; a run is gone on with only where they are the same."""
        return {
            **asdict(self),
            "hooks": [hook.name for hook in self.hooks],
            "seeds": list(self.seeds),
            "frames": list(self.frames),
            "store": store.fingerprint,
        }


def plan_training(store: ActivationStore, hooks: Sequence[HookLike], **choices: Any) -> SAEPlan:
    """A plan that can be carried out on a store.

    Args:
        store: the store.
        hooks: sites that it has.
        choices: what else a plan says (`SAEPlan`).

    Raises:
        InputError: the store has no such site, or is not complete; or a choice is none. The message says what is.

    Example:
        >>> plan_training(store, [("resid_post", 1)], width=66, k=8, steps=4).hooks[0].name
        'blocks.1.hook_resid_post'
    """
    if not store.complete:
        raise InputError(f"{store.paths[0].name} is not complete; finish its recording first")
    plan = SAEPlan(tuple(dict.fromkeys(store.site(hook) for hook in hooks)), **choices)
    check_plan(plan, store)
    return plan


def check_plan(plan: SAEPlan, store: ActivationStore) -> None:
    """Refuse a plan that cannot be carried out on a store.

    Raises:
        InputError: it cannot; the message says why.
    """
    if not plan.hooks:
        raise InputError("name a site to train at, such as blocks.15.hook_resid_post")
    if plan.architecture not in ARCHITECTURES:
        raise InputError(f"architecture must be one of {', '.join(ARCHITECTURES)}; got {plan.architecture!r}")
    for name, least in _LEAST.items():
        if getattr(plan, name) < least:
            raise InputError(f"{name} must be {least} or more; got {getattr(plan, name)}")
    if plan.k > plan.width:
        raise InputError(f"k is at most the width, {plan.width}; got {plan.k}")
    if not 0 <= plan.sequences <= 1:
        raise InputError(f"sequences is a share of a batch, 0 to 1; got {plan.sequences}")
    if not plan.lr > 0:
        raise InputError(f"lr must be above 0; got {plan.lr}")
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise InputError(f"seeds must be one or more, all different; got {', '.join(map(str, plan.seeds)) or 'none'}")
    for seed in plan.seeds:
        check_seed(seed)
    plan.pools(plan.split(store))


_LEAST = MappingProxyType({"width": 2, "k": 1, "steps": 1, "batch_size": 2, "templates": 0})
