"""SAEs on disk: a folder as sae-lens writes it, read without sae-lens; configurations before its version 6 too."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cache.errors import CorruptFileError, InputError, NotAvailableError
from probes.sae.sources import CONFIG, PICKLED, WEIGHTS, SAESource
from probes.sae.weights import SavedSAE, Whitening

_SCALER = "activation_scaler.json"
_WHITENING = "activation_whitening.safetensors"
_MOST_BYTES = 1 << 20  # of a configuration
_FORMER_NAMES = MappingProxyType(
    {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
)


def read_files(source: SAESource) -> SavedSAE:
    """An SAE in a folder with `cfg.json` and `sae_weights.safetensors`, as sae-lens saves it or checkpoints it.

    Raises:
        NotAvailableError: a file is not there.
        InputError: it has pickled weights.
        CorruptFileError: a file is damaged.
    """
    folder, name = source.folder, source.name
    if folder is None or not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise _missing(folder, name)
    given = _json(folder / CONFIG)
    config = current_config({**given, **source.more} if isinstance(given, dict) else given, name)
    scaler = _json(folder / _SCALER) if (folder / _SCALER).is_file() else {}
    known = scaler.get("scaling_factor") if source.scale is None else source.scale
    if known is not None and not (isinstance(known, int | float) and 0 < known < float("inf")):
        raise CorruptFileError(f"{name} has a scale of activations that is no positive number: {known!r}")
    return SavedSAE(
        name=name,
        config=config,
        tensors=_without_former_scale(_tensors(folder / WEIGHTS), name),
        scale=None if known is None else float(known),
        whitening=_whitening(folder / _WHITENING),
    )


def current_config(given: Any, name: str) -> dict[str, Any]:
    """A configuration in the fields of sae-lens 6, whichever version wrote it.

    Raises:
        CorruptFileError: it is no configuration.
    """
    if not isinstance(given, dict) or not isinstance(given.get("metadata", {}), dict):
        raise CorruptFileError(f"the configuration of {name} is no JSON object with the fields of an SAE")
    metadata = given.get("metadata", {})
    version = str(given.get("sae_lens_version") or metadata.get("sae_lens_version") or "0").partition(".")[0]
    if version.isdecimal() and int(version) >= 6:
        return {**given, "metadata": metadata}
    config = {_FORMER_NAMES.get(key, key): value for key, value in given.items()}
    config.setdefault("architecture", "standard")
    config.setdefault("apply_b_dec_to_input", True)
    activation, options = config.get("activation_fn", "relu"), config.get("activation_fn_kwargs") or {}
    if activation == "topk" and isinstance(options, dict) and options.get("k") is not None:
        config |= {"architecture": "topk", "k": options["k"]}
    elif activation != "relu":
        raise InputError(f"{name} has the activation {activation!r}, which is not read; relu and topk are")
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = "expected_average_only_in" if config["normalize_activations"] else "none"
    former = {"prepend_bos": True, **config}
    kept = (
        "model_name",
        "hook_name",
        "hook_head_index",
        "hook_name_out",
        "prepend_bos",
        "model_from_pretrained_kwargs",
    )
    return {**config, "metadata": {key: former[key] for key in kept if key in former}}


def _missing(folder: Path | None, name: str) -> Exception:
    if folder is None or not folder.is_dir():
        return NotAvailableError(f"no folder {name!r}; an SAE's folder has {CONFIG} and {WEIGHTS}")
    others = [path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in PICKLED]
    if others and not (folder / WEIGHTS).is_file():
        return InputError(f"{name} has pickled weights ({others[0]}), which are not loaded; it needs {WEIGHTS}")
    lacking = " and ".join(one for one in (CONFIG, WEIGHTS) if not (folder / one).is_file())
    return NotAvailableError(f"{name} is not an SAE's folder: it has no {lacking}")


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is longer than any")
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is no configuration in JSON: {error}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptFileError(f"{path} is no file of safetensors: {error}") from error


def _without_former_scale(tensors: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """The tensors without a scale of features that early versions wrote; one that scales is refused."""
    if "scaling_factor" not in tensors:
        return tensors
    if not bool(torch.allclose(tensors["scaling_factor"], torch.ones_like(tensors["scaling_factor"]))):
        raise InputError(f"{name} scales features after training (scaling_factor), which is not read")
    return {key: tensor for key, tensor in tensors.items() if key != "scaling_factor"}


def _whitening(path: Path) -> Whitening | None:
    if not path.is_file():
        return None
    tensors = _tensors(path)
    try:
        return Whitening(tensors["mean"], tensors["matrix"], tensors["inverse_matrix"])
    except KeyError as error:
        raise CorruptFileError(f"{path} has no {error.args[0]}") from error
