"""Values as bytes and back: every type to the last bit, and nothing else."""

import dataclasses
import io
import json
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache import Hook
from geometry.results.packing import pack, unpack


@dataclasses.dataclass(frozen=True)
class Inner:
    hook: Hook
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    share: float
    names: tuple[str, ...]


def same(one, other):
    """Equal in type and to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, torch.Tensor):
        return same(one.numpy(), other.numpy())
    if isinstance(one, pd.DataFrame):
        return list(one) == list(other) and all(same(one[name].to_numpy(), other[name].to_numpy()) for name in one)
    if isinstance(one, np.ndarray) and one.dtype == object:
        return other.dtype == object and same(list(one), list(other))
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if dataclasses.is_dataclass(one):
        return same(vars(one), vars(other))
    return struct.pack("d", one) == struct.pack("d", other) if isinstance(one, float) else one == other


NAN_OF_ANOTHER_KIND = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)
VALUES = {
    "nothing": None,
    "truth": [True, False],
    "whole numbers": [0, -1, 2**70],
    "numbers": [0.1, -0.0, 1e-320, float("inf"), float("-inf"), float("nan")],
    "texts": ["", "a\nb", "\u2028é\0", "array0"],
    "floats": np.array([[1 / 3, np.nan], [-0.0, np.inf]]),
    "a nan with other bits": NAN_OF_ANOTHER_KIND,
    "single precision": np.float32([1 / 3, np.nan]),
    "integers": np.arange(6, dtype=np.int16).reshape(2, 3),
    "masks": np.array([True, False]),
    "an array of texts": np.array(["a", "longer"]),
    "an array of one number": np.array(1 / 3),
    "empty arrays": (np.empty(0), np.empty((3, 0), dtype=np.float32), np.empty((0, 2, 4))),
    "a row of columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)).T,
    "scalars": (np.float32(1 / 3), np.float64(0.1), np.int64(3), np.bool_(True), np.str_("x")),
    "objects": np.array(["a", None, 1.5, 2, float("nan")], dtype=object),
    "no objects": np.empty(0, dtype=object),
    "tensors": (torch.tensor([1 / 3, float("nan")]), torch.zeros(2, 0), torch.arange(3)),
    "a table": pd.DataFrame({"layer": [-1, 0], "share": [np.nan, 1 / 3], "name": ["a", ""], "odd": [None, 2]}),
    "an empty table": pd.DataFrame({"layer": np.empty(0, dtype=np.int64), "name": np.empty(0, dtype=object)}),
    "a table without columns": pd.DataFrame(),
    "dicts": {"a": {1: (np.arange(2), "x")}, 2.5: [], ("a", 1): None},
    "dicts that look like a skeleton": {"array": "array0", "dataclass": ["Inner", {}], "tuple": []},
    "nothing in things": [(), [], {}, ""],
    "a site": Hook("z", 3, 2),
    "dataclasses": [Outer(Inner(Hook("resid_post", 1), np.array([np.nan])), 0.25, ("a",))] * 2,
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_unpacked_is_what_was_packed_to_the_last_bit(name):
    assert same(unpack(pack(VALUES[name]), (Inner, Outer, Hook)), VALUES[name])


def test_equality_above_tells_values_apart():
    every = list(VALUES.values())
    assert [[same(a, b) for b in every] for a in every] == np.eye(len(every), dtype=bool).tolist()
    assert not same(np.array([np.nan]), NAN_OF_ANOTHER_KIND)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.lists(st.floats(width=32)).map(lambda values: np.array(values, dtype=np.float32))
    ),
    max_leaves=12,
)


@given(trees)
def test_any_tree_comes_back(tree):
    assert same(unpack(pack(tree)), tree)


def test_the_same_value_gives_the_same_bytes():
    assert all(pack(value) == pack(value) for value in VALUES.values())


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Thing(), "Thing"),
        ({1, 2}, "set"),
        ([1, {"a": Thing()}], "Thing"),
        (b"bytes", "bytes"),
        (1j, "complex"),
        (np.array([Thing()], dtype=object), "Thing"),
        (len, "builtin_function_or_method"),
    ],
)
def test_anything_else_is_refused_by_its_type(value, named):
    with pytest.raises(TypeError, match=f"^a {named} cannot be packed$"):
        pack(value)


def test_a_table_with_an_index_of_its_own_is_refused():
    with pytest.raises(TypeError, match=r"^a table with an index of its own cannot be packed; reset it$"):
        pack(pd.DataFrame({"a": [1, 2]}, index=["x", "y"]))


def archive(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


WHOLE = pack({"x": np.arange(300.0)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"no archive at all",
        WHOLE[:-1],
        WHOLE[: len(WHOLE) // 2],
        WHOLE.replace(b"skeleton", b"skelet0n"),
        archive(x=np.arange(3)),
        archive(skeleton=np.array("{")),
        archive(skeleton=np.array(json.dumps({"array": "array0"}))),
        archive(skeleton=np.array(json.dumps({"set": []}))),
        archive(skeleton=np.array(json.dumps({"tuple": [], "list": []}))),
        archive(skeleton=np.array(json.dumps({"dataclass": ["Popen", {"dict": []}]}))),
    ],
)
def test_bytes_that_are_no_packed_value_are_refused(content):
    with pytest.raises(ValueError, match=r"^no packed value: "):
        unpack(content, (Inner,))


def test_flipped_bytes_are_refused_or_change_nothing():
    value = {"x": np.arange(40.0), "y": "text"}
    content = bytearray(pack(value))
    for at in range(0, len(content), 7):
        content[at] ^= 0x55
        try:
            found = unpack(bytes(content))
        except ValueError:
            pass
        else:
            assert same(found, value), at
        content[at] ^= 0x55


def test_a_dataclass_that_is_not_named_is_refused():
    content = pack(VALUES["dataclasses"])
    with pytest.raises(ValueError, match="no packed value: 'Hook'"):
        unpack(content, (Inner, Outer))


def test_an_archive_with_pickled_objects_is_refused():
    content = io.BytesIO()
    np.savez(content, skeleton=np.array(json.dumps({"array": "x"})), x=np.array([Thing()], dtype=object))
    with pytest.raises(ValueError, match=r"^no packed value: "):
        unpack(content.getvalue())
