"""Directions on disk: one safetensors file each, tensor `vector` and what is known of it as metadata."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cache import Hook
from cache.errors import CorruptFileError, NotAvailableError
from cache.whole_files import write_whole
from probes.directions.direction import Direction

FORMAT = "geometry-direction-1"
_TEXTS = ("method", "source", "target", "fingerprint", "weights")
"""What is noted of a direction as it stands."""

_LARGEST = 1 << 20  # bytes; a vector of 100,000 dimensions takes 400 kB


def save_direction(direction: Direction, path: str | Path) -> Path:
    """Write a direction to a safetensors file; the file is whole or not there.

    Raises:
        InputError: the path is a folder, a symbolic link or a device.
        NotAvailableError: the folder cannot be made, or takes no file.
        NoSpaceError: there is no room.

    Example:
        >>> path = save_direction(direction, "directions/two.safetensors")
        >>> load_direction(path).target
        'numwords'
    """
    metadata = {
        "format": FORMAT,
        "hook": direction.hook.name,
        "head": "" if direction.hook.head is None else str(direction.hook.head),
        "norm": repr(direction.norm),
        **{name: getattr(direction, name) for name in _TEXTS},
        "seed": str(direction.seed),
    }
    vector = direction.vector.detach().float().cpu().contiguous()
    metadata["sha256"] = _checksum(metadata, vector)
    return write_whole(path, save({"vector": vector}, metadata=metadata))


def load_direction(path: str | Path) -> Direction:
    """Read a direction.

    Raises:
        NotAvailableError: there is no such file, or it cannot be read.
        CorruptFileError: the file is no direction, or is damaged; the message says what is wrong.

    Example:
        >>> path = save_direction(direction, "directions/two.safetensors")
        >>> bool((load_direction(path).vector == direction.vector).all())
        True
    """
    path = Path(path)
    if not path.is_file():
        raise NotAvailableError(f"no direction {str(path)!r}; geometry direction makes one")
    if path.stat().st_size > _LARGEST:
        raise CorruptFileError(f"{path} is no direction: it has {path.stat().st_size} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            vector = file.get_tensor("vector") if names == ["vector"] else None
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format', 'not noted')!r:.60}")
        if vector is None or vector.ndim != 1 or str(vector.dtype) != "torch.float32":
            raise ValueError("its one tensor is not a float32 vector")
        if metadata["sha256"] != _checksum(metadata, vector):
            raise ValueError("its content does not have the checksum that was written")
        return _direction(metadata, vector)
    except OSError as error:
        raise NotAvailableError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except KeyError as error:
        raise CorruptFileError(f"{path} is no direction: it does not note its {error.args[0]}") from error
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CorruptFileError(f"{path} is no direction: {reason}") from error


def _direction(metadata: Mapping[str, str], vector: Shaped[Tensor, " d"]) -> Direction:
    hook = Hook.parse(metadata["hook"])
    return Direction(
        hook=Hook(hook.kind, hook.layer, int(metadata["head"]) if metadata["head"] else None),
        vector=vector,
        norm=float(metadata["norm"]),
        seed=int(metadata["seed"]),
        **{name: metadata[name] for name in _TEXTS},
    )


def _checksum(metadata: Mapping[str, str], vector: Shaped[Tensor, "..."]) -> str:
    """SHA-256 of everything that a direction says but the checksum itself."""
    noted = json.dumps({name: value for name, value in metadata.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(noted.encode() + b"\0" + vector.numpy().tobytes()).hexdigest()
