"""Values as bytes and back: numbers, texts, arrays and tables, alone or in frozen types; nothing in them runs."""

import dataclasses
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

_SKELETON = "skeleton"


def pack(value: Any) -> bytes:
    """A value as the bytes of an npz archive: its arrays, and a JSON skeleton that says where each belongs.

    Args:
        value: None, truth values, numbers, texts, numpy arrays and scalars, torch tensors and data frames, in tuples,
            lists, dicts and dataclasses of these.

    Raises:
        TypeError: it is, or holds, anything else.
    """
    arrays: dict[str, np.ndarray] = {}
    skeleton = json.dumps(_packed(value, arrays))
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays, **{_SKELETON: np.array(skeleton)})
    return content.getvalue()


def unpack(content: bytes, types: Sequence[type] = ()) -> Any:
    """The value that `pack` made these bytes of, to the last bit.

    Args:
        content: the bytes.
        types: the dataclasses that it may hold.

    Raises:
        ValueError: the bytes are no such archive, or hold a dataclass that is not named.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _unpacked(json.loads(str(arrays[_SKELETON])), arrays, {one.__name__: one for one in types})
    except Exception as error:  # whatever numpy, zipfile and json say of bytes that are not theirs
        raise ValueError(f"no packed value: {error}") from error


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if type(value) is float and math.isnan(value):  # JSON knows one nan, of one sign
        return {"float": _packed(np.float64(value), arrays)["scalar"]}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(one, arrays) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[_packed(key, arrays), _packed(one, arrays)] for key, one in value.items()]}
    if isinstance(value, Tensor):
        return {"tensor": _packed(value.numpy(), arrays)}
    if isinstance(value, pd.DataFrame):
        if not value.index.equals(pd.RangeIndex(len(value))):
            raise TypeError("a table with an index of its own cannot be packed; reset it")
        return {"frame": _packed([(name, value[name].to_numpy()) for name in value], arrays)}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return {"objects": [_packed(one, arrays) for one in value]}
    if isinstance(value, np.ndarray | np.generic):
        name = f"array{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array" if isinstance(value, np.ndarray) else "scalar": name}
    if dataclasses.is_dataclass(value):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return {"dataclass": [type(value).__name__, _packed(fields, arrays)]}
    raise TypeError(f"a {type(value).__name__} cannot be packed")


def _unpacked(value: Any, arrays: dict[str, np.ndarray], types: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind in ("array", "scalar"):
        return arrays[inner] if kind == "array" else arrays[inner][()]
    if kind == "float":
        return float(arrays[inner])
    if kind == "dict":
        return {_unpacked(key, arrays, types): _unpacked(one, arrays, types) for key, one in inner}
    if kind == "dataclass":
        return types[inner[0]](**_unpacked(inner[1], arrays, types))
    if kind == "tensor":
        return torch.from_numpy(_unpacked(inner, arrays, types))
    if kind == "frame":
        return pd.DataFrame(dict(_unpacked(inner, arrays, types)))
    found = [_unpacked(one, arrays, types) for one in inner]
    if kind == "objects":
        objects = np.empty(len(found), dtype=object)
        objects[:] = found
        return objects
    return {"list": list, "tuple": tuple}[kind](found)
