"""Checks of a wrapped model on some twenty tokens: is it the model that it wraps, and can all be done with it?"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.errors import NumbersError
from cache.models.findings import Finding
from cache.models.hooks import Hook
from cache.models.model import LoadedModel
from cache.models.wrapping import reason_of, running, type_of

_TOKENS, _MORE = 9, 2  # eleven in all: heads, of which no model has as many, cannot be taken for tokens
_FULL = 1e-4  # of the largest value at a token; right models differ by 1e-6
_HALF = 0.03  # of the same, in half precision
_TORN = 10  # so much more is borne at one token: where a mixture of experts is torn, rounding alone sends it elsewhere


def sample_tokens(d_vocab: int, n_ctx: int, first: int | None = None) -> Int[Tensor, "2 pos"]:
    """The same beginning twice: padded with zeros as recordings are, and going on with two other tokens.

    Args:
        d_vocab: tokens that there are.
        n_ctx: tokens that a text may have; 0 for any number.
        first: BOS, if it stands before texts.
    """
    few = max(1, min(_TOKENS, (n_ctx or _TOKENS + _MORE) - _MORE))
    drawn = torch.randint(0, d_vocab, (few + _MORE,), generator=torch.Generator().manual_seed(0))
    if first is not None and first < d_vocab:
        drawn[0] = first
    padded = torch.cat([drawn[:few], torch.zeros(_MORE, dtype=drawn.dtype)])
    return torch.stack([padded, drawn])


def tokens_for(model: LoadedModel) -> Int[Tensor, "2 pos"]:
    """The tokens that a model is checked on."""
    return sample_tokens(model.d_vocab, model.n_ctx, model.tokenizer.bos_token_id if model.bos else None)


def beginning(tokens: Int[Tensor, "2 pos"]) -> Int[Tensor, "1 few"]:
    """What the two texts of a sample share."""
    return tokens[:1, :-_MORE]


def compared(
    check: str, found: Float[Tensor, "*pos d"], wanted: Float[Tensor, "*pos d"], dtype: str, fault: str
) -> Finding:
    """The finding that two ways to the same numbers give: `fault`, with their difference in it, where it is large."""
    gap = apart(found, wanted, dtype)
    return Finding(check, "" if gap <= tolerance(dtype) else fault.format(gap), gap)


def apart(
    found: Float[Tensor, "*pos d"],
    wanted: Float[Tensor, "*pos d"],
    dtype: str,
    *,
    beside: Float[Tensor, "*pos d"] | None = None,
) -> float:
    """The largest difference at a token, in units of the largest value there, at the worst token.

    In half precision at the median token, or a tenth of that at the worst, whichever is more.

    Args:
        found: one way to the numbers.
        wanted: the other.
        dtype: what the model computes in.
        beside: what the numbers were computed from, whose size counts as well.
    """
    scale = wanted.float().abs() if beside is None else torch.maximum(wanted.float().abs(), beside)
    largest = scale.amax(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    gaps = ((found.float() - wanted.float()).abs().amax(dim=-1) / largest).flatten()
    gap = float(gaps.max() if dtype == "float32" else torch.maximum(gaps.median(), gaps.max() / _TORN))
    return gap if gap == gap else float("inf")


def tolerance(dtype: str) -> float:
    """How far apart two ways to the same numbers may be, in the units of `apart`."""
    return _FULL if dtype == "float32" else _HALF


def plain_logits(hf_model: Any, tokens: Int[Tensor, "2 pos"], name: str) -> Float[Tensor, "few d_vocab"]:
    """Logits of the beginning, as the model gives them before it is wrapped.

    Raises:
        NotAvailableError: the model cannot be run.
        NumbersError: they are not finite.
    """
    device = next(hf_model.parameters()).device
    with torch.inference_mode(), running(name, type_of(hf_model)):
        logits = hf_model(beginning(tokens).to(device), use_cache=False).logits[0].float().cpu()
    check_finite(logits, name)
    return logits


def check_finite(logits: Float[Tensor, "*pos d_vocab"], name: str) -> None:
    """Refuse a model that computes no numbers.

    Raises:
        NumbersError: a logit is not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise NumbersError(
            f"the logits of {name!r} are not finite: its weights are damaged, or too large for what it computes in"
        )


def check_whole(model: LoadedModel, plain: Float[Tensor, "few d_vocab"] | None) -> tuple[Finding, ...]:
    """Whether the wrapped model's logits are the unwrapped one's, and no token is changed by one after it.

    Args:
        model: the model, wrapped.
        plain: its logits before; None where it came wrapped, so that there is nothing to compare with.
    """
    tokens = tokens_for(model)
    few = len(beginning(tokens)[0])
    with torch.inference_mode():
        alone, both = model.logits(beginning(tokens)), model.logits(tokens)
    check_finite(alone, model.name)
    wrapped = alone[0]
    if plain is not None and model.processing == "compatibility":  # its unembedding is centred: logits move alike
        wrapped, plain = (one - one.mean(dim=-1, keepdim=True) for one in (wrapped, plain))
    same = Finding("logits") if plain is None else compared("logits", wrapped, plain, model.dtype, _UNLIKE)
    return same, compared("causal", both[:, :few], alone.expand_as(both[:, :few]), model.dtype, _AHEAD)


_UNLIKE = "wrapping it changes its logits, by {:.2g} of the largest"
_AHEAD = "what follows a token changes it, by {:.2g} of the largest logit; only causal models are recorded"


def check_readout(model: LoadedModel) -> tuple[Finding, ...]:
    """Whether the residual stream that leaves the last block is what the logits are read from."""
    tokens, hook = tokens_for(model), Hook("resid_post", model.n_layers - 1)
    finding = model.findings.get(hook.name)
    if finding is None or finding.fault:
        return (Finding("readout", "the stream that leaves the last block is not shown"),)
    seen: list[Tensor] = []
    point = model.points[hook.name]
    try:
        with torch.inference_mode(), point.register_forward_hook(lambda _, __, output: seen.append(output)):
            wanted = model.logits(tokens)
            found = model.logits_of(seen[0]).cpu()
    except Exception as error:  # of the bridge's parts, which not every architecture has
        return (Finding("readout", f"its final norm and unembedding cannot be run ({reason_of(error)})"),)
    return (compared("readout", found, wanted, model.dtype, "logits are not the unembedding of the last stream"),)


def check_generation(model: LoadedModel) -> tuple[Finding, ...]:
    """Whether a text read piece by piece, with keys and values kept, has the logits of one read at once."""
    tokens = tokens_for(model)
    few, found = beginning(tokens), []
    try:
        with torch.inference_mode():
            wanted = model.logits(tokens)[1, few.shape[1] :]
            _, past = model.step(few, use_cache=True)
            if past is None:
                return (Finding("generation", "it keeps no keys and values"),)
            for token in tokens[1, few.shape[1] :]:
                logits, past = model.step(token.reshape(1, 1), past, use_cache=True)
                found.append(logits[0])
    except Exception as error:  # of the model's own handling of its cache
        return (Finding("generation", f"its key/value cache cannot be used ({reason_of(error)})"),)
    fault = "with its key/value cache it gives other logits, by {:.2g} of the largest"
    return (compared("generation", torch.stack(found), wanted, model.dtype, fault),)
