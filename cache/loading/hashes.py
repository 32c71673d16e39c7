"""Content hashes of what was loaded: the weights bit by bit, and the tokenizer's rules."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from cache.models.model import LoadedModel
from cache.models.sharing import changed


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
