"""What results and kept sites say of where they come from: as JSON, with the versions of what made them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cache.repeatable import version_of, versions_of
from geometry.printable import printable

_LIBRARIES = ("representation-geometry", "numpy", "scipy", "scikit-learn", "torch", "pandas", "umap-learn")

_MOST_LISTED = 12


def versions() -> dict[str, str]:
    """Versions of the libraries that values depend on."""
    return versions_of(_LIBRARIES)


def provenance(parameters: Mapping[str, Any], source: str, command: str = "") -> str:
    """What a figure rests on, in lines under its caption; long lists, which `result.json` has, are counted.

    Args:
        parameters: everything the values depend on besides the store.
        source: the store's fingerprint.
        command: what made it, if it was typed.
    """
    said = {
        "Parameters": "; ".join(f"{name} {_in_short(value)}" for name, value in parameters.items()),
        "Store": f"fingerprint {source}",
        "Command": command,
        "Made with": f"{_LIBRARIES[0]} {version_of(_LIBRARIES[0])}",
    }
    return "\n".join(f"{name}: {printable(text)}" for name, text in said.items() if text)


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON, numpy's numbers and arrays as Python's.

    Args:
        value: the value.
        options: those of `json.dumps`.

    Raises:
        TypeError: it holds something that JSON does not know.
    """
    return json.dumps(value, default=_plain, **options)


def _in_short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{name}: {_in_short(one)}" for name, one in value.items()]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return str(value)
    flat = all(not isinstance(one, Mapping | list | tuple) for one in value)
    return ", ".join(map(str, value)) if flat and len(value) <= _MOST_LISTED else f"({len(value)})"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
