"""What of a sealed file is as it was written."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xxhash

from cache.safe_open import data_offset, safe_open
from cache.sealed_log import block_runs, checked_log, committed_blocks, frozen_digest


@dataclass(frozen=True)
class Damage:
    """A part of a sealed file that is not what was written.

    Attributes:
        part: what is damaged: a site's name, `log`, or `frozen` (metadata, rows and labels).
        block: the block, or None where the part has none.
        rows: its first and last row, inclusive, or None.
    """

    part: str
    block: int | None = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Verification:
    """The result of checking a sealed file.

    Attributes:
        n_blocks: blocks that the file has.
        n_committed: blocks that are recorded.
        n_checked: blocks whose data was compared with its checksums.
        damage: what is not as it was written; empty for a sound file, complete or not.
    """

    n_blocks: int
    n_committed: int
    n_checked: int
    damage: tuple[Damage, ...]


def verify_store(path: str | Path, *, quick: bool = False) -> Verification:
    """Compare every byte of a sealed file with its checksums; with `quick` all but the sites' data.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file cannot be read as a sealed file at all.
    """
    path = Path(path)
    with safe_open(path) as file:
        runs = block_runs(*checked_log(file))
        committed = committed_blocks(file)
        damage = list(_frozen_and_log(path, file, committed))
        if not quick:
            damage += _sites(path, file, committed, runs)
    checked = 0 if quick else int(committed.sum())
    return Verification(len(committed), int(committed.sum()), checked, tuple(damage))


def manifest_fingerprint(manifest: str) -> str:
    """SHA-256 of a manifest's text: the fingerprint that its file carries."""
    return hashlib.sha256(manifest.encode()).hexdigest()


def _frozen_and_log(path: Path, file: h5py.File, committed: np.ndarray) -> Iterator[Damage]:
    if frozen_digest(path, file) != file["log/frozen"][:].tobytes():
        yield Damage("frozen")
    for block in np.flatnonzero((file["log/state"][:] != 0) & ~committed):
        yield Damage("log", int(block))


def _sites(path: Path, file: h5py.File, committed: np.ndarray, runs: list[list[tuple[int, int]]]) -> Iterator[Damage]:
    checksums = file["log/checksum"][:]
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for index, name in enumerate(name.decode() for name in file["log/sites"][:]):
            width = file[name].nbytes // max(len(file[name]), 1)
            for block in np.flatnonzero(committed):
                digest = xxhash.xxh3_64()
                for start, stop in runs[block]:
                    digest.update(os.pread(handle, (stop - start) * width, data_offset(file[name]) + start * width))
                if digest.intdigest() != int(checksums[block, index]):
                    rows = (runs[block][0][0], runs[block][-1][1] - 1) if runs[block] else None
                    yield Damage(name, int(block), rows)
    finally:
        os.close(handle)
