"""Models: loading them unprocessed, running them without the unembedding, and knowing exactly which one ran."""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from cache.errors import InputError, NoSpaceError, NotAvailableError
from cache.hooks import Hook
from cache.model_hash import tokenizer_hash, weights_hash
from cache.model_sources import find_model
from cache.tokens import bos_token_id

DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
PROCESSINGS = ("none", "compatibility")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be recorded, with what a store must know of it.

    Attributes:
        bridge: the `TransformerBridge`; its hooks have TransformerLens's classic names.
        tokenizer: the tokenizer, as its files give it.
        points: the bridge's hook points by classic name, resolved once: asking the bridge takes 15 ms a time.
        name: the name that it was asked for by.
        revision: the Hub's commit, the GGUF file's SHA-256, or empty.
        processing: what was done to the weights after loading: `none` or `compatibility`.
        bos: whether BOS is put before every text.
        device: where it runs.
        dtype: what it computes in.
        weights: content hash of the loaded tensors.
        tokenizer_rules: content hash of the tokenizer.
    """

    bridge: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    points: Mapping[str, torch.nn.Module] = field(repr=False)
    name: str
    revision: str
    processing: str
    bos: bool
    device: str
    dtype: str
    weights: str
    tokenizer_rules: str

    @property
    def n_layers(self) -> int:
        """Blocks of the model."""
        return int(self.bridge.cfg.n_layers)

    @property
    def attention(self) -> str:
        """The implementation of attention, as Hugging Face names it: values depend on it in their last digits."""
        return str(getattr(self.bridge.original_model.config, "_attn_implementation", None) or "")

    def row_shape(self, hook: Hook) -> tuple[int, ...]:
        """The shape of one row at a hook: `(d_model,)`, `(head, d_head)` or `(d_mlp,)`.

        Raises:
            InputError: the model's architecture has no such site.
        """
        cfg = self.bridge.cfg
        if hook.name not in self.points:
            raise InputError(f"{self.name} has no {hook.name}: its blocks have no {hook.kind} (or not that many)")
        if hook.kind in ("q", "z"):
            return (int(cfg.n_heads), int(cfg.d_head))
        if hook.kind in ("k", "v"):
            return (int(getattr(cfg, "n_key_value_heads", None) or cfg.n_heads), int(cfg.d_head))
        return (int(cfg.d_mlp),) if hook.kind == "mlp_post" else (int(cfg.d_model),)

    def run(self, tokens: Int[Tensor, "batch pos"]) -> None:
        """One forward pass through all blocks without the unembedding; hooks fire.

        Right-padded batches need no mask: no token of a causal model sees what comes after it.
        """
        self.bridge.original_model.base_model(tokens.to(self.bridge.cfg.device), use_cache=False)

    def last_logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
        """Logits at the last position of unpadded texts, float32 on the CPU."""
        output = self.bridge.original_model(tokens.to(self.bridge.cfg.device), logits_to_keep=1, use_cache=False)
        logits: Tensor = output.logits[:, -1].float().cpu()
        return logits


def check_loaded(model: LoadedModel) -> None:
    """Make sure that what is to be run is a loaded model, and not its name.

    Raises:
        InputError: it is a name, or anything else.
    """
    given: object = model
    if not isinstance(given, LoadedModel):
        what = f"load_model({given!r})" if isinstance(given, str) else f"load_model; got {type(given).__name__}"
        raise InputError(f"this takes a loaded model, as from {what}")


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
    """Load a causal language model, weights as they are.

    Args:
        model: `smollm2-135m`, a TransformerLens or Hub name (`gpt2-small`, `EleutherAI/pythia-70m`), a local
            folder, a `.gguf` file, a loaded Hugging Face model (which a bridge then wraps in place), or a
            `TransformerBridge`. A `LoadedModel` comes back as it is.
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
        NotAvailableError: the model, or the device, is not there.
    """
    for given, choices, what in (
        (device, DEVICES, "device"),
        (dtype, DTYPES, "dtype"),
        (processing, PROCESSINGS, "processing"),
    ):
        if given not in choices:
            raise InputError(f"{what} must be one of {', '.join(choices)}; got {given!r}")
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, str):
        place = _device(device)
        with _quiet():
            source = find_model(model, revision=revision)
            hf_model, tokenizer = _load_folder(str(source.folder), dtype, place)
        name, commit = source.name, source.revision
    else:
        hf_model, tokenizer = _checked_object(model, tokenizer)
        name, commit = _object_name(hf_model), ""
    bos_token_id(tokenizer, bos=bos)
    # hashed before the bridge splits fused weights and gives the tokenizer tokens that its files do not name
    weights, rules = weights_hash(getattr(hf_model, "original_model", hf_model)), tokenizer_hash(tokenizer)
    with _quiet():
        bridge = _bridge(hf_model, tokenizer)
        if processing == "compatibility":
            bridge.enable_compatibility_mode(disable_warnings=True)
            weights = weights_hash(bridge.original_model)
    bridge.eval()
    return LoadedModel(
        bridge=bridge,
        tokenizer=tokenizer,
        points=MappingProxyType(dict(bridge.hook_dict)),
        name=name,
        revision=commit,
        processing=processing,
        bos=bos,
        device=str(bridge.cfg.device),
        dtype=str(next(bridge.parameters()).dtype).removeprefix("torch."),
        weights=weights,
        tokenizer_rules=rules,
    )


def _device(device: str) -> str:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise NotAvailableError(f"this machine has no {device} device for torch; use --device cpu")
    return device


def _load_folder(folder: str, dtype: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        hf_model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="eager",
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotAvailableError(f"the model in {folder!r} cannot be loaded: {reason}") from error
    lacking = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if lacking:
        raise NotAvailableError(f"the model in {folder!r} lacks {len(lacking)} of its weights, {lacking[0]} among them")
    return hf_model.to(device), tokenizer


def _checked_object(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A model that is already in memory, and its tokenizer."""
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(model, TransformerBridge):
        return model, tokenizer or model.tokenizer
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "config") or not hasattr(model, "base_model"):
        raise InputError(
            f"a model is a name, a folder, a Hugging Face causal model or a TransformerBridge; got "
            f"{type(model).__name__}"
        )
    if tokenizer is None:
        raise InputError("a loaded Hugging Face model needs its tokenizer: load_model(model, tokenizer=...)")
    return model, tokenizer


def _bridge(hf_model: Any, tokenizer: Any) -> Any:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    if isinstance(hf_model, TransformerBridge):
        return hf_model
    parameter = next(hf_model.parameters())
    # the bridge changes the tokenizer it is given and loads it anew from where it came from: it gets a copy
    with tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
        except Exception as error:  # the tokenizer's own, which has no other name
            raise NoSpaceError(f"a tokenizer cannot be written to {folder!r}: {error}") from error
        return TransformerBridge.boot_transformers(
            _object_name(hf_model),
            hf_model=hf_model,
            tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
            dtype=parameter.dtype,
            device=str(parameter.device),
        )


def _object_name(model: Any) -> str:
    inner = getattr(model, "original_model", model)
    return str(getattr(inner.config, "_name_or_path", "") or type(inner).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loaders' progress bars, prints and deprecation notices off the user's terminal."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
