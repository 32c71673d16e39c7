"""Restart: run a model from any block's residual stream, recomputing only what an edit can change."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import InputError
from cache.models.checks import compared, tokens_for
from cache.models.findings import Finding
from cache.models.hooks import Hook
from cache.models.model import LoadedModel, check_loaded
from cache.models.wrapping import reason_of

_SLOTS = 1024  # token slots computed at a time: enough to fill the matrix products, little enough to stay in cache


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the tokens before those that are recomputed; reading them changes nothing.

    It stands where a model's blocks expect a key/value cache.

    Attributes:
        keys: for each block `(batch, key_value_head, pos, d_head)`, positions encoded.
        values: the same of the values.
    """

    keys: tuple[Float[Tensor, "batch kv_head pos d_key"], ...]
    values: tuple[Float[Tensor, "batch kv_head pos d_value"], ...]

    def update(
        self,
        keys: Float[Tensor, "copies kv_head new d_key"],
        values: Float[Tensor, "copies kv_head new d_value"],
        layer: int,
        *_: Any,
        **__: Any,
    ) -> tuple[Float[Tensor, "copies kv_head every d_key"], Float[Tensor, "copies kv_head every d_value"]]:
        """The prefix of a block followed by new keys and values, for every copy of the batch."""
        copies = len(keys) // len(self.keys[layer])
        pairs = ((self.keys[layer], keys), (self.values[layer], values))
        every = [torch.cat([before.repeat(copies, 1, 1, 1), new], dim=2) for before, new in pairs]
        return every[0], every[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens before those that are recomputed."""
        return self.keys[layer].shape[2]


@dataclass(frozen=True)
class CleanRun:
    """What a model computed on texts of equal length, from which it can be restarted.

    Attributes:
        model: the model.
        tokens: what it read, BOS included.
        streams: the residual stream entering each block and, last, that leaving the last block.
        keys: of each block, `(batch, key_value_head, pos, d_head)`.
        values: of each block.
        arguments: what else each block was given (position ids, rotary angles, masks).
        cache_name: what the blocks call their key/value cache.
    """

    model: LoadedModel
    tokens: Int[Tensor, "batch pos"]
    streams: Float[Tensor, "layer batch pos d_model"] = field(repr=False)
    keys: tuple[Float[Tensor, "batch kv_head pos d_key"], ...] = field(repr=False)
    values: tuple[Float[Tensor, "batch kv_head pos d_value"], ...] = field(repr=False)
    arguments: tuple[Mapping[str, Any], ...] = field(repr=False)
    cache_name: str

    @property
    def logits(self) -> Float[Tensor, "batch d_vocab"]:
        """Logits at the last position, as the model gives them."""
        return self.model.logits_of(self.streams[-1, :, -1])


def clean_run(model: LoadedModel, tokens: Int[Tensor, "batch pos"]) -> CleanRun:
    """Run a model on texts of equal length and keep what a restart needs.

    Args:
        model: the model.
        tokens: unpadded texts, BOS included.

    Raises:
        NotAvailableError: the model cannot be restarted, as a check found when it was loaded.
        InputError: the model's blocks take no key/value cache.
    """
    check_loaded(model)
    model.require("restart")
    return _clean_run(model, tokens)


def _clean_run(model: LoadedModel, tokens: Int[Tensor, "batch pos"]) -> CleanRun:
    from transformers import DynamicCache

    blocks = model.blocks
    entering: list[Tensor] = []
    arguments: list[dict[str, Any]] = []
    leaving: list[Tensor] = []

    def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering.append(args[0] if args else kwargs["hidden_states"])
        named = dict(zip(_ARGUMENTS, args[1:], strict=False))
        arguments.append({**named, **{name: value for name, value in kwargs.items() if name != "hidden_states"}})

    base = model.intact.original_model.base_model
    cache = DynamicCache()  # without the config: a windowed model's own cache drops what its window has passed
    with torch.inference_mode(), ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block.register_forward_pre_hook(enter, with_kwargs=True))
        stack.enter_context(blocks[-1].register_forward_hook(lambda _, __, output: leaving.append(_first(output))))
        base(tokens.to(model.device), use_cache=True, past_key_values=cache)
    names = [name for name, value in arguments[0].items() if value is cache]
    if not names:
        raise InputError(f"the blocks of {model.name} take no key/value cache, so it cannot be restarted")
    return CleanRun(
        model=model,
        tokens=tokens,
        streams=torch.stack([*entering, leaving[0]]),
        keys=tuple(layer.keys for layer in cache.layers),
        values=tuple(layer.values for layer in cache.layers),
        arguments=tuple({k: v for k, v in one.items() if k not in (*names, "use_cache")} for one in arguments),
        cache_name=names[0],
    )


def restart(
    clean: CleanRun, stream: Float[Tensor, "copy batch new d_model"], layer: int
) -> Float[Tensor, "copy batch new d_model"]:
    """Run the blocks from `layer` on, with the last positions' residual stream replaced; their hooks fire.

    Positions before those given keep the keys and values of the clean run: causal models compute nothing anew there.
    Equal to a full forward pass with the same stream written in.

    Args:
        clean: the run to restart.
        stream: what enters block `layer` at the last `new` positions, in several variants of the same texts. With
            `layer = n_layers` nothing is left to compute.
        layer: the first block to run, from 0.

    Returns:
        The residual stream leaving the last block, at the same positions.

    Raises:
        InputError: there is no such block, or the stream is not of these texts.
    """
    n_layers, batch, length, d_model = len(clean.keys), *clean.streams.shape[1:]
    copies, new = stream.shape[0], stream.shape[2]
    if not 0 <= layer <= n_layers:
        raise InputError(f"{clean.model.name} can be restarted from block 0 to {n_layers}; got {layer}")
    if stream.shape[1] != batch or stream.shape[3] != d_model or not 1 <= new <= length:
        raise InputError(
            f"the stream must be (copy, {batch}, at most {length}, {d_model}), as the clean run's texts; got "
            f"{tuple(stream.shape)}"
        )
    if layer == n_layers:
        return stream
    prefix = Prefix(
        tuple(one[:, :, : length - new] for one in clean.keys), tuple(one[:, :, : length - new] for one in clean.values)
    )
    step = max(1, _SLOTS // (batch * new))
    with torch.inference_mode():
        parts = [_run_blocks(clean, part.flatten(0, 1), layer, prefix) for part in torch.split(stream, step)]
    return torch.cat(parts).reshape(copies, batch, new, d_model)


def first_block(hook: Hook) -> int:
    """The block that a residual stream edited at this site enters: 0 for the embedding.

    Raises:
        InputError: the site is not the residual stream between blocks.
    """
    if hook.kind not in ("resid_pre", "resid_post"):
        raise InputError(f"edits are restarted from resid_pre or resid_post; got {hook.name}")
    return hook.layer + (hook.kind == "resid_post")


def check_restart(model: LoadedModel) -> tuple[Finding, ...]:
    """Whether a restart gives what a full pass gives: with the stream unchanged, and with another written in."""
    tokens = tokens_for(model)
    try:
        clean = _clean_run(model, tokens)
        if len(clean.keys) != model.n_layers:
            return (Finding("restart", "not every block keeps keys and values"),)
        ways = ((0, min(3, tokens.shape[1])), (model.n_layers // 2, tokens.shape[1]))
        pairs = [_both_ways(clean, layer, new) for layer, new in ways]
    except Exception as error:  # blocks are given what each architecture gives them
        return (Finding("restart", f"its blocks cannot be run by themselves ({reason_of(error)})"),)
    fault = "restarted from a block it gives other streams than a full pass, by {:.2g} of the largest"
    found = [compared("restart", a, b, model.dtype, fault) for pair in pairs for a, b in pair]
    return (max(found, key=lambda one: one.difference or 0.0),)


def _both_ways(clean: CleanRun, layer: int, new: int) -> list[tuple[Tensor, Tensor]]:
    """Last streams from restarts and from full passes: with what enters a block as it was, and with it reversed."""
    stream = clean.streams[layer, None, :, -new:]
    other = -stream.flip(-1)

    def write(_: Any, __: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, : output.shape[1] - new], other[0]], dim=1)

    with clean.model.points[Hook("resid_pre", layer).name].register_forward_hook(write):
        written = _clean_run(clean.model, clean.tokens).streams[-1, :, -new:]
    unchanged = restart(clean, stream, layer)[0]
    return [(unchanged, clean.streams[-1, :, -new:]), (restart(clean, other, layer)[0], written)]


_ARGUMENTS = ("past_key_values", "attention_mask", "encoder_hidden_states")
"""How GPT-2's model names what it gives its blocks by position."""


def _run_blocks(
    clean: CleanRun, stream: Float[Tensor, "copies new d_model"], layer: int, prefix: Prefix
) -> Float[Tensor, "copies new d_model"]:
    new = stream.shape[1]
    for block, given in zip(clean.model.blocks[layer:], clean.arguments[layer:], strict=True):
        arguments = {name: _last(value, new, len(stream)) for name, value in given.items()}
        if new < clean.tokens.shape[1]:
            arguments[clean.cache_name] = prefix
        stream = _first(block(stream, **arguments))
    return stream


def _last(value: Any, new: int, copies: int) -> Any:
    """A block's argument at the last positions: position ids and angles; masks are made anew from the positions."""
    if isinstance(value, tuple):
        return tuple(_last(one, new, copies) for one in value)
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 4:
        return value[:1, :, -new:]
    along = value[:1, -new:] if value.ndim >= 2 else value[-new:]
    return along.expand(copies, *along.shape[1:]) if value.ndim >= 2 and len(value) > 1 else along


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple | list) else output
