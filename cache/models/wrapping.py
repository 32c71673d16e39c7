"""Wrapping a Hugging Face model in a TransformerBridge, which gives its insides TransformerLens's hook names."""

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from cache.errors import GeometryError, NotAvailableError
from cache.repeatable import version_of

if TYPE_CHECKING:
    import torch

_LONGEST_REASON = 200
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len")  # what configurations call their longest text


def is_bridge(model: Any) -> bool:
    """Whether a model is a TransformerBridge already."""
    from transformer_lens.model_bridge import TransformerBridge

    return isinstance(model, TransformerBridge)


def is_inside_a_bridge(hf_model: "torch.nn.Module") -> bool:
    """Whether a Hugging Face model has been wrapped: a bridge replaces the modules of the model that it is given."""
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    return any(isinstance(module, GeneralizedComponent) for module in hf_model.modules())


def hooked_transformer(model: Any) -> str:
    """The name of a model of TransformerLens's older kind, whose weights and code are its own; empty for any other."""
    from transformer_lens import HookedTransformer

    return str(model.cfg.model_name) if isinstance(model, HookedTransformer) else ""


def unwrapped(model: Any) -> Any:
    """The Hugging Face model inside a bridge; anything else as it is."""
    return getattr(model, "original_model", model)


def type_of(hf_model: Any) -> str:
    """The architecture of a Hugging Face model, as its configuration names it, else its class."""
    return str(getattr(hf_model.config, "model_type", "") or type(hf_model).__name__)


def longest_text(config: Any) -> int:
    """Tokens that a text may have by a Hugging Face configuration; 0 where it sets no limit.

    Under `longrope` the angles of every token of a batch depend on its longest text, once that passes the length of
    the original training: texts end there.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rope = getattr(text, "rope_parameters", None) or {}
    scaled = isinstance(rope, Mapping) and rope.get("rope_type") == "longrope"
    first = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
    limits = [first] if scaled else [getattr(text, name, None) for name in _CONTEXT]
    return next((int(limit) for limit in limits if isinstance(limit, int) and limit > 0), 0)


def wrap(model: Any, name: str, *, processing: str) -> Any:
    """The bridge around a Hugging Face model, whose modules it renames and replaces; a bridge as it is.

    Args:
        model: the model, or a bridge.
        name: how messages call it.
        processing: `none`, or `compatibility` to fold and centre the weights of what is no bridge yet.

    Raises:
        NotAvailableError: TransformerLens has no bridge for the architecture, or it does not fit the model; or the
            model has no blocks.
    """
    bridge = model if is_bridge(model) else _bridge_around(model, name)
    if int(bridge.cfg.n_layers) < 1:
        raise NotAvailableError(f"{name!r} has {bridge.cfg.n_layers} blocks by its configuration, so none to record")
    if processing == "compatibility" and bridge is not model:
        bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge.eval()


def _bridge_around(hf_model: Any, name: str) -> Any:
    """A new bridge, built from the model alone.

    TransformerLens's own `boot_transformers` would also load a tokenizer and, for models that see or hear, a
    processor, for which it reaches for the Hub and installs packages.
    """
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformer_lens.model_bridge.sources.transformers import determine_architecture_from_hf_config

    try:
        architecture = determine_architecture_from_hf_config(hf_model.config)
        return build_bridge_from_module(
            hf_model, architecture, hf_config=copy.deepcopy(hf_model.config), model_name=name
        )
    except Exception as error:  # each of its hundred adapters fails in a way of its own
        who, lens = f"{name!r} (type {type_of(hf_model)})", version_of("transformer-lens")
        raise NotAvailableError(f"{who} cannot be wrapped by transformer-lens {lens}: {reason_of(error)}") from error


@contextmanager
def running(name: str, model_type: str, how: str = "be run") -> Iterator[None]:
    """Tell a model that cannot be run in one sentence, whatever it raises.

    Args:
        name: how the message calls the model.
        model_type: its architecture, for the message.
        how: what it cannot, for the message.

    Raises:
        NotAvailableError: it raised.
    """
    try:
        yield
    except GeometryError:
        raise
    except Exception as error:  # a model's forward pass can fail in any way
        raise NotAvailableError(f"{name!r} (type {model_type}) cannot {how}: {reason_of(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loaders' progress bars, prints and deprecation notices off the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's, in a notebook without widgets
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


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, cut where it is endless, or its class where it has none."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON].rsplit(' ', 1)[0]} ..."
