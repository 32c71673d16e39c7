"""What results and kept sites say of where they come from: as JSON, with the versions of what made them."""

import importlib.metadata
import json
from typing import Any

import numpy as np

_LIBRARIES = ("representation-geometry", "numpy", "scipy", "scikit-learn", "torch", "pandas", "umap-learn")


def versions() -> dict[str, str]:
    """Versions of the libraries that values depend on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON, numpy's numbers and arrays as Python's.

    Args:
        value: the value.
        options: those of `json.dumps`.

    Raises:
        TypeError: it holds something that JSON does not know.
    """
    return json.dumps(value, default=_plain, **options)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
