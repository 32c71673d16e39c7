"""What a sealed file holds, and its HDF5 part made in memory: HDF5 itself never writes to a disk.

HDF5 ends a process by a signal where a disk is full; bytes that are made in memory can be written, counted and
failed like any others.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int, Shaped

from cache.sealed.footer import Footer

CHANGING = ("log/checksum", "log/state", "log/complete")
_PAGE = 1 << 16
_ALIGNED = 64  # bytes; a record of the log then never crosses a disk sector, and arrays can be mapped
_PER_OBJECT = 4096  # HDF5's own bytes for an array are fewer


@dataclass(frozen=True)
class SealedLayout:
    """Everything that is known about a sealed file before its first block is written.

    Attributes:
        sites: dataset name -> shape of one row and dtype.
        frozen: dataset name -> its whole content; byte strings are stored as fixed-length UTF-8.
        block: the block number of each row.
        attributes: root attributes; `fingerprint` is one of them.
    """

    sites: Mapping[str, tuple[tuple[int, ...], str]]
    frozen: Mapping[str, Shaped[np.ndarray, "..."]]
    block: Int[np.ndarray, "row"]
    attributes: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes that the file will take up, a little more than needed."""
        rows, blocks = len(self.block), int(self.block.max()) + 1
        row = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.sites.values())
        frozen = sum(array.nbytes for array in self.frozen.values())
        names = sum(map(len, self.attributes.values())) + sum(map(len, self.sites))
        objects = len(self.sites) + len(self.frozen) + len(self.attributes) + 8
        return rows * (row + 4) + frozen + blocks * 8 * (len(self.sites) + 1) + 4 * names + objects * _PER_OBJECT


@dataclass(frozen=True)
class Blueprint:
    """A sealed file before its first block: its length, and the few pages of it that are not all zero.

    Attributes:
        footer: its last bytes, their digest not yet computed.
        pages: page number -> its `page_size` bytes.
        page_size: bytes of a page.
    """

    footer: Footer
    pages: Mapping[int, bytearray]
    page_size: int = _PAGE


def blueprint(layout: SealedLayout) -> Blueprint:
    """The file that a layout describes, made in memory; what it takes is the frozen part, not the sites."""
    memory = _SparseMemory()
    names = [*layout.sites, *CHANGING]
    with h5py.File(memory, "w", alignment_threshold=1, alignment_interval=_ALIGNED) as file:
        _fill(file, layout)
        spans = sorted((int(file[name].id.get_offset()), int(file[name].nbytes)) for name in names)
    return Blueprint(Footer(memory.size, tuple(spans)), memory.pages)


def _fill(file: h5py.File, layout: SealedLayout) -> None:
    for name, value in layout.attributes.items():
        content = value.encode(errors="backslashreplace")
        file.attrs.create(name, _storable(np.array(content, dtype=np.bytes_)))
    n_blocks = int(layout.block.max()) + 1
    names = np.array([name.encode() for name in layout.sites])
    file.create_dataset("log/complete", data=np.zeros(1, dtype="<u8"))  # far from the states that it vouches for
    for name, array in layout.frozen.items():
        file.create_dataset(name, data=_storable(array))
    file.create_dataset("log/block", data=layout.block.astype("<i4"))
    file.create_dataset("log/sites", data=_storable(names))
    file.create_dataset("log/checksum", data=np.zeros((n_blocks, len(names)), dtype="<u8"))
    file.create_dataset("log/state", data=np.zeros(n_blocks, dtype="<u8"))
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    early.set_obj_track_times(False)
    for name, (shape, dtype) in layout.sites.items():
        file.create_dataset(name, (len(layout.block), *shape), dtype, dcpl=early)


def _storable(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The array itself; byte strings marked as the UTF-8 that they are."""
    return array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize)) if array.dtype.kind == "S" else array


class _SparseMemory:
    """What h5py asks of a Python file, kept in pages: what is never written takes no memory."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.size = 0
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        for page, place, part in self._places(len(view)):
            self.pages.setdefault(page, bytearray(_PAGE))[place] = view[part]
        self._position += len(view)
        self.size = max(self.size, self._position)
        return len(view)

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")
        for page, place, part in self._places(len(view)):
            view[part] = self.pages.get(page, bytes(_PAGE))[place]
        self._position += len(view)
        return len(view)

    def read(self, length: int) -> bytes:
        content = bytearray(length)
        self.readinto(content)
        return bytes(content)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        pass

    def _places(self, length: int) -> Iterator[tuple[int, slice, slice]]:
        """For `length` bytes from the position on: the page, the place in the page, the part of the bytes."""
        done = 0
        while done < length:
            page, start = divmod(self._position + done, _PAGE)
            count = min(_PAGE - start, length - done)
            yield page, slice(start, start + count), slice(done, done + count)
            done += count
