"""Trials: the prompts that a direction is tried on, run once, to be restarted with every edit."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.models.restart import CleanRun, clean_run
from cache.models.tokens import TokenizedPrompts, continuations, tokenize
from probes.directions.contrasts import Contrast
from probes.directions.prompts import stored_prompts
from probes.edits.copies import Slots, edited_copies
from probes.edits.tokens import tokens_of


@dataclass(frozen=True)
class Batch:
    """Texts of equal length.

    Attributes:
        numbers: which of the texts.
        clean: their run.
        members: which token slots (BOS included) end a shown member.
    """

    numbers: tuple[int, ...]
    clean: CleanRun = field(repr=False)
    members: Bool[Tensor, "batch pos"] = field(repr=False)

    def slots(self, positions: str) -> Slots:
        """Which slots are edited.

        Args:
            positions: one of `POSITION_SETS`.
        """
        texts, tokens = tokens_of(positions, self.members, bos=self.clean.model.bos).nonzero(as_tuple=True)
        return texts, tokens


@dataclass(frozen=True)
class Trials:
    """Prompts of a contrast's source, and what an edit is meant to make of them.

    Attributes:
        pairs: the contrast; its line i is trial i.
        batches: the prompts by length.
        target_tokens: the answer that an edit should give.
        source_tokens: the answer without an edit.
        family_tokens: every token that is an answer of either group.
    """

    pairs: Contrast
    batches: tuple[Batch, ...] = field(repr=False)
    target_tokens: Int[Tensor, " trial"]
    source_tokens: Int[Tensor, " trial"]
    family_tokens: Int[Tensor, " token"]

    def __len__(self) -> int:
        return len(self.pairs)


def run_batches(model: LoadedModel, tokenized: TokenizedPrompts) -> tuple[Batch, ...]:
    """Run texts once, those of equal length together."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(tokenized.ids):
        by_length[len(ids)].append(number)
    head = [False] * int(model.bos)
    batches = []
    for numbers in by_length.values():
        tokens = torch.tensor([tokenized.seen(i).tolist() for i in numbers])
        members = torch.tensor([head + (tokenized.members[i] >= 0).tolist() for i in numbers])
        batches.append(Batch(tuple(numbers), clean_run(model, tokens), members))
    return tuple(batches)


def set_up_trials(store: ActivationStore, model: LoadedModel, pairs: Contrast) -> Trials:
    """Run the source prompts of a contrast; pairs whose answers are not one token there are left out.

    Raises:
        InputError: none is left, the target's prompts have no answers, or a prompt has several rows.
    """
    if pairs.table["source_prompt"].duplicated().any():
        raise InputError("a trial is a prompt, and the chosen rows have several of one; add 'and is_last' to the query")
    if not pairs.table["answer"].str.len().any():
        raise InputError(
            f"prompts of {pairs.target!r} have no answers to be steered to; give your file a column answer, or use "
            "geometry direction and steer"
        )
    prompts = stored_prompts(store, pairs.table["source_prompt"].to_numpy())
    tokenized = tokenize(prompts, model.tokenizer, bos=model.bos)
    targets, sources = (
        continuations(tokenized, pairs.table[column].tolist(), model.tokenizer)
        for column in ("answer", "source_answer")
    )
    keep = np.array([len(a) == 1 and len(b) == 1 for a, b in zip(targets, sources, strict=True)])
    if not keep.any():
        raise InputError(
            f"no answer of {pairs.target!r} is one token after a prompt of {pairs.source!r}; try frames without a "
            "space before the member (quote, list, lines)"
        )
    kept = np.flatnonzero(keep)
    target_tokens, source_tokens = (torch.tensor([one[i][0] for i in kept]) for one in (targets, sources))
    return Trials(
        pairs=pairs.subset(keep),
        batches=run_batches(model, tokenized.subset(kept.tolist())),
        target_tokens=target_tokens,
        source_tokens=source_tokens,
        family_tokens=torch.unique(torch.cat([target_tokens, source_tokens])),
    )


def edited_logits(
    batch: Batch, hook: Hook, steps: Float[Tensor, "copy batch d_model"], positions: str
) -> Iterator[Float[Tensor, "batch d_vocab"]]:
    """Logits at the last position after steps are added to the residual stream, copy by copy: all would fill memory.

    Args:
        batch: the texts.
        hook: resid_pre or resid_post.
        steps: what is added, for each copy and text; the same at every edited position.
        positions: one of `POSITION_SETS`.

    Raises:
        InputError: as for `edited_copies`.
    """
    slots = batch.slots(positions)
    leaving = edited_copies(batch.clean, hook, slots, steps[:, slots[0]])
    return (batch.clean.model.logits_of(one) for one in leaving)
