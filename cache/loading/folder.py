"""A Hugging Face model and its tokenizer from a folder: every weight from its files, none made up, no code run."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cache.errors import NotAvailableError
from cache.models.wrapping import reason_of

NOTHING_FOREIGN = MappingProxyType({"local_files_only": True, "trust_remote_code": False})
"""What every loader of Hugging Face's is told: load from this machine, and run no code that came with the model."""


def load_folder(folder: str, dtype: str, device: str) -> tuple[Any, Any]:
    """The model and the tokenizer in a folder.

    Raises:
        NotAvailableError: they cannot be loaded, or weights are missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        hf_model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            attn_implementation="eager",
            output_loading_info=True,
            **NOTHING_FOREIGN,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **NOTHING_FOREIGN)
    except Exception as error:  # a configuration can be wrong in any way, and each architecture fails in its own
        raise NotAvailableError(f"the model in {folder!r} cannot be loaded: {reason_of(error)}") from error
    check_all_there(report, f"the model in {folder!r}")
    return hf_model.to(device), tokenizer


def check_all_there(report: Mapping[str, Any], what: str) -> None:
    """Refuse weights that were made up because the files lack them.

    Args:
        report: what Hugging Face's loader says of its work (`output_loading_info`).
        what: how the message calls the model.

    Raises:
        NotAvailableError: a weight is missing or has another shape; the message names the first.
    """
    lacking = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if lacking:
        raise NotAvailableError(f"{what} lacks {len(lacking)} of its weights, {lacking[0]} among them")
