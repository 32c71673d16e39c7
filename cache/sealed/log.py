"""The log of a sealed file: which blocks count (see cache/sealed/writer.py for its parts)."""

from collections.abc import Mapping
from dataclasses import dataclass

import h5py
import numpy as np
import xxhash
from jaxtyping import Bool, Int, UInt64

from cache.errors import CorruptFileError
from cache.sealed.opening import data_offset, read_attribute

_PARTS = {"block": "<i4", "checksum": "<u8", "state": "<u8", "complete": "<u8"}


@dataclass(frozen=True)
class Site:
    """Where a site's rows lie in the file.

    Attributes:
        offset: of the first row, in bytes.
        row_shape: shape of one row.
        dtype: of its numbers.
    """

    offset: int
    row_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.row_shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class Log:
    """The log as it stands in a file.

    Attributes:
        fingerprint: the file's, which every seal covers.
        block: the block of each row.
        sites: in the order of the checksums.
        checksums: XXH3-64 of each block's rows of each site; of committed blocks alone they mean anything.
        committed: for each block whether its record is there and whole.
        damaged: blocks whose record is there but not whole, or gone from a file that was complete.
        mark: whether the file is marked complete: "none", "right", or "wrong" where the mark itself is damaged.
    """

    fingerprint: str
    block: Int[np.ndarray, "row"]
    sites: Mapping[str, Site]
    checksums: UInt64[np.ndarray, "block site"]
    committed: Bool[np.ndarray, "block"]
    damaged: tuple[int, ...]
    mark: str

    def runs(self) -> list[list[tuple[int, int]]]:
        """For each block the stretches `[start, stop)` of consecutive rows that belong to it, in row order."""
        runs: list[list[tuple[int, int]]] = [[] for _ in self.committed]
        edges = np.flatnonzero(np.diff(self.block)) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(self.block)], strict=True):
            runs[int(self.block[start])].append((start, stop))
        return runs


def read_log(file: h5py.File) -> Log:
    """The log of an open file, after checking that its parts fit together.

    Raises:
        CorruptFileError: they do not.
    """
    block, sites, parts = _checked_parts(file)
    fingerprint = read_attribute(file, "fingerprint")
    # against the order of writing: what a mark or state vouches for is on disk before it
    mark, states, checksums = (parts[name][:] for name in ("complete", "state", "checksum"))
    seals = np.array([seal_of(fingerprint, i, sums) for i, sums in enumerate(checksums)], dtype="<u8")
    committed = states == seals
    damaged = np.flatnonzero(~committed & ((states != 0) | (mark[0] != 0)))
    right = int(mark[0]) == complete_mark(fingerprint, states)
    word = "none" if not mark[0] else "right" if right or len(damaged) else "wrong"
    return Log(fingerprint, block, sites, checksums, committed, tuple(damaged.tolist()), word)


def seal_of(fingerprint: str, block: int, checksums: UInt64[np.ndarray, "number"]) -> int:
    """The value of `/log/state` that makes a block count; never 0."""
    digest = xxhash.xxh3_64(f"{fingerprint}:{block}:".encode())
    digest.update(checksums.astype("<u8").tobytes())
    return digest.intdigest() or 1


def complete_mark(fingerprint: str, states: UInt64[np.ndarray, "block"]) -> int:
    """The value of `/log/complete` once every block counts: the seal of all states; never 0."""
    return seal_of(fingerprint, len(states), states)


def _checked_parts(file: h5py.File) -> tuple[Int[np.ndarray, "row"], dict[str, Site], dict[str, h5py.Dataset]]:
    misfit = CorruptFileError(f"{file.filename} has a log whose parts do not fit together")
    if "log" not in file or "fingerprint" not in file.attrs:
        raise CorruptFileError(f"{file.filename} is HDF5 but not a file that geometry wrote")
    parts = {name: file[f"log/{name}"] for name in (*_PARTS, "sites")}
    if not all(isinstance(part, h5py.Dataset) for part in parts.values()):
        raise misfit
    n_blocks, n_sites = parts["state"].size, parts["sites"].size
    fits = (
        parts["sites"].dtype.kind == "S"
        and all(parts[name].dtype == dtype for name, dtype in _PARTS.items())
        and parts["checksum"].shape == (n_blocks, n_sites)
        and (parts["state"].shape, parts["sites"].shape) == ((n_blocks,), (n_sites,))
        and (parts["complete"].shape, parts["block"].ndim) == ((1,), 1)
    )
    block = parts["block"][:] if fits else np.empty(0)
    if not fits or not len(block) or block.min() < 0 or block.max() >= n_blocks:
        raise misfit
    sites = {}
    for name in (name.decode() for name in parts["sites"][:]):
        if name in sites:
            raise misfit
        array = file[name]
        if not isinstance(array, h5py.Dataset) or array.shape[:1] != block.shape:
            raise CorruptFileError(f"{file.filename} has another number of rows at {name}")
        sites[name] = Site(data_offset(array), array.shape[1:], array.dtype)
    return block, sites, parts
