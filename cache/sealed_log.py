"""The log of a sealed file: which blocks count, and the digest of all that never changes (see cache/sealed.py)."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import xxhash
from jaxtyping import Bool, Int, UInt64

from cache.errors import CorruptFileError
from cache.safe_open import data_offset, read_attribute

_CHANGING = ("log/checksum", "log/state", "log/frozen")


def checked_log(file: h5py.File) -> tuple[Int[np.ndarray, "row"], int]:
    """The block of each row, and the number of blocks, after checking that the parts of the log fit together.

    Raises:
        CorruptFileError: they do not; the file is no sealed file, or is damaged.
    """
    if "log" not in file or "fingerprint" not in file.attrs:
        raise CorruptFileError(f"{file.filename} is HDF5 but not a file that geometry wrote")
    parts = [file[f"log/{name}"] for name in ("block", "sites", "checksum", "state", "frozen")]
    if not all(isinstance(part, h5py.Dataset) for part in parts):
        raise CorruptFileError(f"{file.filename} has a log whose parts do not fit together")
    block, sites, checksum, state, frozen = parts
    fits = (
        sites.dtype.kind == "S"
        and checksum.shape == (len(state), len(sites))
        and (checksum.dtype, state.dtype, block.dtype) == ("<u8", "<u8", "<i4")
        and frozen.shape == (32,)
    )
    numbers = block[:]
    if not fits or not len(numbers) or numbers.min() < 0 or numbers.max() >= len(state):
        raise CorruptFileError(f"{file.filename} has a log whose parts do not fit together")
    for name in sites[:]:
        if not isinstance(file[name.decode()], h5py.Dataset) or len(file[name.decode()]) != len(numbers):
            raise CorruptFileError(f"{file.filename} has another number of rows at {name.decode()}")
    return numbers, len(state)


def block_runs(block: Int[np.ndarray, "row"], n_blocks: int) -> list[list[tuple[int, int]]]:
    """For each block the runs `[start, stop)` of consecutive rows that belong to it, in row order."""
    runs: list[list[tuple[int, int]]] = [[] for _ in range(n_blocks)]
    edges = np.flatnonzero(np.diff(block)) + 1
    for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(block)], strict=True):
        runs[int(block[start])].append((start, stop))
    return runs


def seal_of(fingerprint: str, block: int, checksums: UInt64[np.ndarray, "site"]) -> int:
    """The value of `/log/state` that makes a block count; never 0."""
    digest = xxhash.xxh3_64(f"{fingerprint}:{block}:".encode())
    digest.update(checksums.astype("<u8").tobytes())
    return digest.intdigest() or 1


def committed_blocks(file: h5py.File) -> Bool[np.ndarray, "block"]:
    """For each block whether its log record is there and whole."""
    fingerprint = read_attribute(file, "fingerprint")
    records = zip(file["log/checksum"][:], file["log/state"][:], strict=True)
    return np.array(
        [int(state) == seal_of(fingerprint, i, sums) for i, (sums, state) in enumerate(records)], dtype=bool
    )


def frozen_digest(path: Path, file: h5py.File) -> bytes:
    """SHA-256 of every byte outside the sites' data and the log's changing parts."""
    names = [*(name.decode() for name in file["log/sites"][:]), *_CHANGING]
    holes = sorted((data_offset(file[name]), file[name].nbytes) for name in names)
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        position = 0
        for offset, length in [*holes, (path.stat().st_size, 0)]:
            handle.seek(position)
            while position < offset:
                part = handle.read(min(offset - position, 1 << 20))
                digest.update(part)
                position += len(part)
                if not part:
                    break
            position = max(position, offset + length)
    return digest.digest()
