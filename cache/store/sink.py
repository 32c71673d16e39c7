"""Where hooks write to: the rows of the block at hand, checked and cast, straight into the store."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import NotAvailableError, NumbersError
from cache.models.hooks import Hook
from cache.models.model import LoadedModel
from cache.sealed.writer import SealedWriter
from cache.store.plan import RecordingPlan


class Sink:
    """Receives what the hooks of one forward pass see and writes it at once; nothing is kept in memory."""

    def __init__(self, model: LoadedModel, plan: RecordingPlan, writer: SealedWriter) -> None:
        self._model, self._plan, self._writer = model, plan, writer
        self._block = -1
        self._texts = (0, 0)
        self._rows: Tensor | None = None
        self._checksums: dict[str, int] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attach to every hook once for the whole run: attaching per batch costs more than recording."""
        with ExitStack() as stack:
            for hook in self._plan.hooks:
                point = self._model.points[hook.name]
                stack.enter_context(point.register_forward_hook(self._receiver(hook)))
            yield

    def run(self, block: int) -> dict[str, int]:
        """One forward pass, up to the last hooked block; returns the checksum of what was written for each site."""
        tokens, flat = batch_of(self._plan, block)
        everything = len(flat) == tokens.numel()
        self._block, self._texts, self._checksums = block, (tokens.shape[0], tokens.shape[1]), {}
        self._rows = None if everything else torch.from_numpy(flat).to(self._model.device)
        self._model.run(tokens, 1 + max(hook.layer for hook in self._plan.hooks))
        silent = [hook.name for hook in self._plan.hooks if f"activations/{hook.name}" not in self._checksums]
        if silent:
            raise NotAvailableError(f"{silent[0]} does not fire in {self._model.name}; leave it out of --sites")
        return self._checksums

    def _receiver(self, hook: Hook) -> Callable[[Any, Any, Tensor], None]:
        def receive(module: Any, args: Any, output: Tensor) -> None:
            rows = self._model.rows_at(hook, output.detach(), *self._texts).flatten(0, 1)
            rows = rows if self._rows is None else rows.index_select(0, self._rows)
            site = f"activations/{hook.name}"
            self._checksums[site] = self._writer.write(self._block, site, self._stored(hook, rows))

        return receive

    def _stored(self, hook: Hook, rows: Float[Tensor, "row ..."]) -> Float[np.ndarray, "row ..."]:
        """The rows as they go to disk, checked before the cast: half precision overflows silently."""
        wanted = getattr(torch, self._plan.dtype)
        lowest, highest = (float(bound) for bound in torch.aminmax(rows))
        if not -torch.finfo(wanted).max <= lowest <= highest <= torch.finfo(wanted).max:  # false for nan, too
            raise NumbersError(self._complaint(hook, rows.float()))
        return rows.to("cpu", wanted).contiguous().numpy()

    def _complaint(self, hook: Hook, rows: Float[Tensor, "row ..."]) -> str:
        size = rows.reshape(len(rows), -1)
        bad = ~(size.abs() <= torch.finfo(getattr(torch, self._plan.dtype)).max)
        row = int(bad.any(dim=1).nonzero()[0, 0])
        value = float(size[row][bad[row]][0])
        places = [(p, i) for p in self._plan.blocks[self._block] for i in np.flatnonzero(self._plan.kept(p))]
        prompt, index = places[row]
        text = self._plan.tokenized.prompts[prompt].text
        where = f"at prompt {prompt} ({text!r:.40}), position {index - self._plan.bos}"
        if np.isfinite(value):
            return f"{hook.name} is {value:.0f} {where}: more than float16 can hold (65504); store float32"
        return f"{hook.name} is {value} {where}; the model's numbers are not finite"


def batch_of(plan: RecordingPlan, block: int) -> tuple[Int[Tensor, "batch pos"], Int[np.ndarray, "row"]]:
    """A block's right-padded tokens, and which of its token slots are kept, in the order of the store's rows."""
    prompts = plan.blocks[block]
    width = int(plan.tokenized.lengths[list(prompts)].max())
    tokens = np.zeros((len(prompts), width), dtype=np.int64)
    kept = []
    for row, prompt in enumerate(prompts):
        ids = plan.tokenized.seen(prompt)
        tokens[row, : len(ids)] = ids
        kept.append(row * width + np.flatnonzero(plan.kept(prompt)))
    return torch.from_numpy(tokens), np.concatenate(kept)
