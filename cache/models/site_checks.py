"""Checks of a model's hooks: that each fires, shows one row a token, and is the part of the block that it names."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cache.models.checks import apart, tokens_for, tolerance
from cache.models.findings import Finding
from cache.models.hooks import KINDS, Hook
from cache.models.model import LoadedModel

Rows = Mapping[Hook, Tensor]
Fault = tuple[Hook, str, float]


def check_sites(model: LoadedModel) -> tuple[Finding, ...]:
    """What each hook of a model shows in one pass, in the order in which a pass computes them.

    A block's parts are held against each other: what enters, attention's and the MLP's share, and what leaves add up;
    what leaves a block enters the next; z and mlp_post are what the output projections read.
    """
    tokens = tokens_for(model)
    seen, read, heads = _one_pass(model, tokens)
    shapes: dict[Hook, tuple[int, ...]] = {}
    faults: dict[Hook, str] = {}
    for hook, outputs in seen.items():
        shapes[hook], faults[hook] = _row_shape(model, hook, outputs, tokens, heads.get(hook.layer))
    rows = {hook: seen[hook][0].reshape(*tokens.shape, -1) for hook, fault in faults.items() if not fault}
    gaps: dict[Hook, float] = {}
    for layer in range(model.n_layers):
        for hook, fault, gap in (*_streams(rows, layer, model.dtype), *_readers(rows, read, layer, model.dtype)):
            gaps[hook] = max(gaps.get(hook, 0.0), gap)
            faults[hook] = faults[hook] or (fault if gap > tolerance(model.dtype) else "")
    return tuple(Finding(hook.name, faults[hook], _finite(gaps.get(hook)), shapes[hook]) for hook in seen)


def _one_pass(
    model: LoadedModel, tokens: Tensor
) -> tuple[dict[Hook, list[Any]], dict[Hook, list[Tensor]], dict[int, int]]:
    """What every hook gave, what output projections read, and how many heads attend in each block."""
    hooks = [Hook(kind, layer) for layer in range(model.n_layers) for kind in KINDS]
    seen: dict[Hook, list[Any]] = {hook: [] for hook in hooks if hook.name in model.points}
    read: dict[Hook, list[Tensor]] = defaultdict(list)
    heads: dict[int, int] = {}

    def keep(hook: Hook, _: Any, __: Any, output: Any) -> None:
        # a copy: some models add to what a part gave in its place
        seen[hook].append(output.detach().clone() if isinstance(output, Tensor) else output)

    def count(layer: int, _: Any, __: Any, pattern: Any) -> None:
        if isinstance(pattern, Tensor) and pattern.ndim == 4:
            heads[layer] = pattern.shape[1]

    def reading(hook: Hook, _: Any, args: tuple[Any, ...]) -> None:
        read[hook].append(args[0].detach().clone())

    with ExitStack() as stack, torch.inference_mode():
        for hook in seen:
            stack.callback(model.points[hook.name].register_forward_hook(partial(keep, hook)).remove)
        for hook, part in _projections(model):
            stack.callback(part.register_forward_pre_hook(partial(reading, hook)).remove)
        for layer in range(model.n_layers):
            point = model.points.get(f"blocks.{layer}.attn.hook_pattern")
            if point is not None:
                stack.callback(point.register_forward_hook(partial(count, layer)).remove)
        model.run(tokens)
    return seen, read, heads


def _projections(model: LoadedModel) -> Iterator[tuple[Hook, torch.nn.Module]]:
    """The linear maps that write attention's and the MLP's share to the stream, and the site that each reads."""
    for layer, block in enumerate(model.blocks):
        for part, names, kind in (("attn", ("o",), "z"), ("mlp", ("out", "dense_out"), "mlp_post")):
            submodules = getattr(getattr(block, part, None), "submodules", None) or {}
            for name in names:
                if isinstance(submodules.get(name), torch.nn.Module):
                    yield Hook(kind, layer), submodules[name]


def _row_shape(
    model: LoadedModel, hook: Hook, outputs: list[Any], tokens: Tensor, heads: int | None
) -> tuple[tuple[int, ...], str]:
    """The shape of one row, or what is wrong with it."""
    if not outputs:
        return (), "it does not fire"
    if len(outputs) > 1:
        return (), f"it fires {len(outputs)} times in a pass"
    shape = tuple(getattr(outputs[0], "shape", ()))
    lead = 2 if shape[:2] == tuple(tokens.shape) else 1 if shape[:1] == (tokens.numel(),) else 0
    row, cfg = shape[lead:], model.bridge.cfg
    if hook.has_heads:
        groups = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
        n = int(groups) if hook.kind in ("k", "v") else heads or int(cfg.n_heads)
        fits = math.prod(row) % n == 0 and (len(row) == 1 or (len(row) == 2 and row[0] == n))
        row = (n, math.prod(row) // n) if fits else row
    else:
        fits = len(row) == 1 and (hook.kind == "mlp_post" or row == (int(cfg.d_model),))
    if lead and fits:
        return row, ""
    return (), f"its shape is {shape} for {tokens.shape[0]} texts of {tokens.shape[1]} tokens, not one row a token"


def _streams(rows: Rows, layer: int, dtype: str) -> Iterator[Fault]:
    """Sites of a block that do not add up, or leave it as other than what enters the next."""
    kinds = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    pre, attn, mid, mlp, post = (Hook(kind, layer) for kind in kinds)
    after = Hook("resid_pre", layer + 1)
    if post in rows and after in rows:
        gap = apart(rows[after], rows[post], dtype)
        yield post, f"it is not what enters block {layer + 1}", gap
        yield after, f"it is not what leaves block {layer}", gap
    if mid in rows:
        gaps = (_sum_gap(rows, (pre, attn), mid, dtype), _sum_gap(rows, (mid, mlp), post, dtype))
        yield mid, _sum_fault(min(gaps)), min(gaps)
    else:
        gaps = (_sum_gap(rows, (pre, attn, mlp), post, dtype),) * 2
    for hook, gap in zip((attn, mlp), gaps, strict=True):
        if hook in rows:
            yield hook, _sum_fault(gap), gap


def _sum_gap(rows: Rows, parts: tuple[Hook, ...], whole: Hook, dtype: str) -> float:
    """How far parts are from adding up; infinite where one of them is not shown."""
    if any(hook not in rows for hook in (*parts, whole)):
        return math.inf
    terms = torch.stack([rows[part].float() for part in parts])
    return apart(terms.sum(dim=0), rows[whole], dtype, beside=terms.abs().amax(dim=0))


def _sum_fault(gap: float) -> str:
    if math.isinf(gap):
        return "nothing shows whether it is right: another site of its block is missing"
    return f"the stream before, what is added and the stream after do not add up, by {gap:.2g} of the largest"


def _readers(rows: Rows, read: Mapping[Hook, list[Tensor]], layer: int, dtype: str) -> Iterator[Fault]:
    """Sites z and mlp_post, where they are not what the output projections read."""
    for kind, what in (("z", "attention"), ("mlp_post", "the MLP")):
        hook = Hook(kind, layer)
        if hook not in rows:
            continue
        same = [one for one in read[hook] if one.numel() == rows[hook].numel()]
        gap = min((apart(rows[hook], one.reshape(rows[hook].shape), dtype) for one in same), default=math.inf)
        yield hook, f"no output projection of {what} reads it (a mixture of experts has no one neuron layer)", gap


def _finite(gap: float | None) -> float | None:
    return None if gap is None or math.isinf(gap) else gap
