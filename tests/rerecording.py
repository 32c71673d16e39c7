"""Stores whose activations a test plants: what h5py writes in counts as recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import xxhash

from tests.cache.resealing import reseal


@contextmanager
def rerecorded(path: Path) -> Iterator[h5py.File]:
    """The file open for changes; checksums, seals, mark and footer are then made to agree with it."""
    with h5py.File(path, "r+") as file:
        yield file
        fingerprint, block = file.attrs["fingerprint"].decode(), file["log/block"][:]
        for column, site in enumerate(file["log/sites"].asstr()[:]):
            rows = file[site][:]
            for number in range(len(file["log/state"])):
                file["log/checksum"][number, column] = xxhash.xxh3_64_intdigest(rows[block == number].tobytes())
        for number, sums in enumerate(file["log/checksum"][:]):
            file["log/state"][number] = xxhash.xxh3_64_intdigest(f"{fingerprint}:{number}:".encode() + sums.tobytes())
        states = file["log/state"][:]
        mark = f"{fingerprint}:{len(states)}:".encode() + states.tobytes()
        file["log/complete"][:] = np.uint64(xxhash.xxh3_64_intdigest(mark))
    reseal(path)
