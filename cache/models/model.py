"""A loaded model: running it without the unembedding, reading its logits, and knowing exactly which one ran."""

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import FingerprintError, InputError, NotAvailableError
from cache.models.findings import Finding
from cache.models.hooks import Hook
from cache.models.sharing import SharedWeights
from cache.models.wrapping import longest_text, type_of
from cache.shown.cards import card


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be recorded, with what a store must know of it.

    Attributes:
        bridge: the `TransformerBridge`, which nothing outside `cache.models` reads.
        tokenizer: the tokenizer, as its files give it.
        points: the bridge's hook points by classic name, resolved once: asking the bridge takes 15 ms a time.
        name: the name that it was asked for by; of a folder or file its absolute path.
        revision: the Hub's commit, the GGUF file's SHA-256, or empty.
        processing: what was done to the weights after loading: `none` or `compatibility`.
        bos: whether BOS is put before every text.
        dtype: what it computes in.
        weights: content hash of the loaded tensors.
        tokenizer_rules: content hash of the tokenizer.
        findings: what checks found when it was loaded, by what was checked: `logits`, `causal`, `readout`,
            `generation`, `restart` and each hook's name.
        shared: the weights that it has in common with a model of the user's own; while they are as they were, it runs.

    Example:
        >>> isinstance(model, LoadedModel), model.model_type, model.n_layers, model.d_model
        (True, 'gpt2', 3, 33)
        >>> model.shows(Hook("resid_post", 0))
        True
    """

    bridge: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    points: Mapping[str, torch.nn.Module] = field(repr=False)
    name: str
    revision: str
    processing: str
    bos: bool
    dtype: str
    weights: str
    tokenizer_rules: str
    findings: Mapping[str, Finding] = field(repr=False)
    shared: SharedWeights | None = field(default=None, repr=False)

    @classmethod
    def around(cls, bridge: Any, **known: Any) -> "LoadedModel":
        """The model in a bridge, unchecked; `known` are the attributes that a bridge does not tell."""
        points = MappingProxyType(dict(bridge.hook_dict))
        dtype = str(next(bridge.parameters()).dtype).removeprefix("torch.")
        return cls(bridge=bridge, points=points, dtype=dtype, findings=MappingProxyType({}), **known)

    def _repr_html_(self) -> str:
        facts = {
            "architecture": self.model_type,
            "computes in": f"{self.dtype} on {self.device}",
            "weights": f"{self.weights[:8]}, processing {self.processing}",
        }
        title = f"{self.name}: {self.n_layers} layers, {self.d_model} wide"
        return card(title, facts, then=('record(model, ["a text", "another"])', 'record(model, "digits,numwords")'))

    @property
    def intact(self) -> Any:
        """The bridge, to run it or to read its weights.

        Raises:
            FingerprintError: they have changed since the model was loaded.
        """
        if self.shared is not None:
            self.shared.check(self.name)
        return self.bridge

    @property
    def model_type(self) -> str:
        """The architecture, as its configuration names it: `gpt2`, `llama`."""
        return type_of(self.bridge.original_model)

    @property
    def device(self) -> str:
        """Where it runs."""
        return str(self.bridge.cfg.device)

    @property
    def identity(self) -> dict[str, str | bool]:
        """All that what it computes depends on, as a store's manifest names it."""
        return {
            "model weights": self.weights,
            "model processing": self.processing,
            "compute dtype": self.dtype,
            "attention": self.attention,
            "tokenizer": self.tokenizer_rules,
            "bos": self.bos,
            "device": self.device,
        }

    @property
    def n_layers(self) -> int:
        """Blocks of the model."""
        return int(self.bridge.cfg.n_layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.bridge.cfg.d_model)

    @property
    def d_vocab(self) -> int:
        """Tokens that the model has an embedding for; a tokenizer may know more, or fewer."""
        return int(self.bridge.original_model.get_input_embeddings().weight.shape[0])

    @property
    def n_ctx(self) -> int:
        """Tokens that a text may have, BOS included; 0 where the configuration sets no limit."""
        return longest_text(self.bridge.original_model.config)

    @property
    def attention(self) -> str:
        """The implementation of attention, as Hugging Face names it: values depend on it in their last digits."""
        return str(getattr(self.bridge.original_model.config, "_attn_implementation", None) or "")

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """The blocks, for hooks around a whole one; `points` are the sites inside."""
        return tuple(self.bridge.blocks)

    @property
    def unembedding(self) -> Float[Tensor, "d_model d_vocab"]:
        """What logits are read off with after the final norm (W_U), float32 on the CPU."""
        return self.intact.W_U.detach().float().cpu()

    def output_projection(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """What takes each head's z to the residual stream (W_O), float32 on the CPU."""
        return self.intact.blocks[layer].attn.W_O.detach().float().cpu()

    def shows(self, hook: Hook) -> bool:
        """Whether the model has a site and was found to show there what its name says."""
        return hook.name in self.findings and not self.findings[hook.name].fault

    def row_shape(self, hook: Hook) -> tuple[int, ...]:
        """The shape of one row at a hook: `(d_model,)`, `(head, d_head)` or `(d_mlp,)`, as it was seen.

        Raises:
            InputError: the model's architecture has no such site.
            NotAvailableError: the site was found not to be what its name says.
        """
        finding = self.findings.get(hook.name)
        if finding is None:
            raise InputError(f"{self.name} has no {hook.name}: its blocks have no {hook.kind} (or not that many)")
        if finding.fault:
            raise NotAvailableError(f"{self.name} (type {self.model_type}) shows no {hook.name}: {finding.fault}")
        return finding.shape

    def rows_at(self, hook: Hook, output: Tensor, batch: int, pos: int) -> Float[Tensor, "batch pos *row"]:
        """What a hook gave, one row a token.

        Some models give heads side by side, or all tokens of a batch as one long text; anything else is refused.

        Raises:
            NotAvailableError: it is not one row a token.
        """
        shape = self.row_shape(hook)
        for given in ((*lead, *row) for lead in ((batch, pos), (batch * pos,)) for row in (shape, (math.prod(shape),))):
            if tuple(output.shape) == given:
                return output.reshape(batch, pos, *shape)
        raise NotAvailableError(
            f"{self.name} (type {self.model_type}) gave {tuple(output.shape)} at {hook.name} for {batch} texts of "
            f"{pos} tokens; one row a token is {shape}"
        )

    def require(self, check: str) -> None:
        """Refuse what was found not to be right with this model.

        Raises:
            NotAvailableError: the check found a fault; the message names check, architecture and fault.
        """
        finding = self.findings.get(check)
        if finding is not None and finding.fault:
            raise NotAvailableError(f"{self.name} (type {self.model_type}) fails the check {check!r}: {finding.fault}")

    def check_text(self, tokens: Sequence[int], what: str = "the text") -> None:
        """Refuse a text that is too long for the model, or has tokens that it has no embedding for.

        Args:
            tokens: its tokens, BOS included.
            what: how the message calls the text.

        Raises:
            InputError: the message has both lengths, or the token.
        """
        if self.n_ctx and len(tokens) > self.n_ctx:
            raise InputError(f"{self.name} takes {self.n_ctx} tokens; {what} has {len(tokens)}")
        highest = max(tokens)
        if highest >= self.d_vocab:
            raise InputError(
                f"{self.tokenizer.decode([highest])!r}, in {what}, is token {highest} of the tokenizer; {self.name} "
                f"knows {self.d_vocab}: they do not belong together"
            )

    def check_weights(self, weights: str, what: str, named: str = "") -> None:
        """Refuse what comes from another model: one with other weights.

        Args:
            weights: content hash of the weights that it comes from.
            what: how the message calls it.
            named: that model's name, for the message.

        Raises:
            FingerprintError: the weights are not this model's.
        """
        if weights != self.weights:
            raise FingerprintError(
                f"{what} comes from other weights than {self.name}'s; give the model that it came from"
                + (f" ({named})" if named else "")
            )

    def run(self, tokens: Int[Tensor, "batch pos"], n_blocks: int | None = None) -> None:
        """One forward pass without the unembedding; hooks fire.

        Right-padded batches need no mask: no token of a causal model sees what comes after it.

        Args:
            tokens: the batch.
            n_blocks: so many blocks are run, from the first, with the values that a whole pass gives; None for all.
        """
        base = self.intact.original_model.base_model
        with ExitStack() as stack:
            if n_blocks is not None and n_blocks < self.n_layers:
                stack.enter_context(suppress(_PassEnded))
                stack.enter_context(self.blocks[n_blocks].register_forward_pre_hook(_end_pass))
            base(tokens.to(self.device), use_cache=False)

    def logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
        """Logits at every position, float32 on the CPU."""
        output = self.intact.original_model(tokens.to(self.device), use_cache=False)
        return output.logits.float().cpu()

    def last_logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
        """Logits at the last position of unpadded texts, float32 on the CPU."""
        return self.step(tokens, use_cache=False)[0]

    def step(
        self, tokens: Int[Tensor, "batch pos"], past: Any = None, *, use_cache: bool
    ) -> tuple[Float[Tensor, "batch d_vocab"], Any]:
        """Logits at the last position, float32 on the CPU, and the keys and values with which to go on.

        Args:
            tokens: unpadded texts, or what follows those that `past` comes from.
            past: what an earlier step gave.
            use_cache: keep keys and values; without, and where a model keeps none, None comes in their place.
        """
        model = self.intact.original_model
        last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        given = {} if past is None else {"past_key_values": past}
        output = model(tokens.to(self.device), use_cache=use_cache, **given, **last)
        return output.logits[:, -1].float().cpu(), getattr(output, "past_key_values", None) if use_cache else None

    def final_norm(self, stream: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What the final norm makes of a residual stream that leaves the last block, float32 on the CPU."""
        unembedding = self.intact.W_U
        with torch.no_grad():
            normed = self.bridge.ln_final(stream.to(unembedding.device, unembedding.dtype).unsqueeze(0))
            return torch.as_tensor(normed)[0].float().cpu()

    def logits_of(self, stream: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_vocab"]:
        """Logits of a residual stream that leaves the last block, float32.

        The final norm, the unembedding, and what the architecture does to logits after it (a soft cap, a scale).
        """
        with torch.inference_mode():
            logits = self.intact.unembed(self.bridge.ln_final(stream.unsqueeze(0)))[0]
            return self.bridge.adapter.apply_output_logits_transform(logits).float()


class _PassEnded(BaseException):  # not one for a model's own code to catch
    """Unwinds a forward pass whose remaining blocks nobody reads."""


def _end_pass(*_: Any) -> None:
    raise _PassEnded


def check_loaded(model: LoadedModel) -> None:
    """Make sure that what is to be run is a loaded model, and not its name.

    Raises:
        InputError: it is a name, or anything else.
    """
    given: object = model
    if not isinstance(given, LoadedModel):
        what = f"load_model({given!r})" if isinstance(given, str) else f"load_model; got {type(given).__name__}"
        raise InputError(f"this takes a loaded model, as from {what}")
