"""What was loaded, by content: hashes of the weights bit by bit and of the tokenizer's rules, and all else."""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from cache.models.model import LoadedModel
from cache.models.sharing import changed
from cache.repeatable import versions_of


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over every parameter's and buffer's name, dtype, shape and bits.

    Tied weights count once. A bridge around a model has a hash of its own: it keeps fused weights in parts too.
    """
    return tensors_hash(named_tensors(model))


def check_unchanged(model: LoadedModel) -> None:
    """Make sure that a model of the user's own still has the weights that it had when it was loaded, bit by bit.

    Raises:
        FingerprintError: it has others.
    """
    if model.shared is not None and tensors_hash(model.shared.tensors) != model.weights:
        raise changed(model.name)


def content_of(hf_model: Any, weights: str, processing: str, bos: int | None) -> dict[str, Any]:
    """All that findings about a model depend on."""
    config = json.loads(hf_model.config.to_json_string(use_diff=False))
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    parameter = next(hf_model.parameters())
    hooked = any(one._forward_hooks or one._forward_pre_hooks for one in hf_model.modules())
    return {
        "weights": weights,
        "config": config,
        "attention": str(getattr(hf_model.config, "_attn_implementation", None) or ""),
        "dtype": str(parameter.dtype),
        "device": parameter.device.type,
        "processing": processing,
        "bos": bos,
        "modules": sorted({f"{type(one).__module__}.{type(one).__qualname__}" for one in hf_model.modules()}),
        "hooks": secrets.token_hex(8) if hooked else "",  # what they do is not known: nothing is found yet
        "libraries": versions_of(("torch", "transformers", "transformer-lens")),
    }


def tensors_hash(named: Iterable[tuple[str, Tensor]]) -> str:
    """`weights_hash` of tensors by the names that they have in their model."""
    tensors = sorted(named)
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter lock
        digests = list(pool.map(lambda pair: _tensor_hash(pair[1]), tensors))
    whole = hashlib.sha256()
    for (name, _), digest in zip(tensors, digests, strict=True):
        whole.update(f"{name}\n".encode() + digest)
    return whole.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 over vocabulary, merges, normalisation and added tokens, and the id of BOS.

    Padding, truncation and the tokens that a tokenizer adds by itself are left out: they are not used here.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else dict(tokenizer.get_vocab())
    for unused in ("padding", "truncation", "post_processor"):
        rules.pop(unused, None)
    content = json.dumps([rules, tokenizer.bos_token_id], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def named_tensors(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, what is tied or aliased once."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key not in seen or not tensor.numel():
            seen.add(key)
            yield name.replace("_original_component.", ""), tensor


def _tensor_hash(tensor: Tensor) -> bytes:
    plain = tensor.detach().to("cpu").contiguous()
    head = f"{plain.dtype}{tuple(plain.shape)}".encode()
    return hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
