"""HDF5 files that are created whole, filled block by block, and can prove what they hold.

A sealed file has datasets of one row axis under some group (its *sites*), frozen datasets written at creation,
and a log. Everything is contiguous and preallocated, so that filling it changes no byte of HDF5's metadata:
a writer may be killed at any instant. Rows belong to blocks; a block counts once its rows are on disk *and
then* its log record is:

    /log/block     (row,)         int32   the block of each row
    /log/sites     (site,)        string  the sites, in the order of the checksums
    /log/checksum  (block, site)  uint64  XXH3-64 of the block's rows of a site, in row order
    /log/state     (block,)       uint64  0, or the seal: XXH3-64 of fingerprint, block number and checksums
    /log/frozen    (32,)          uint8   SHA-256 of every byte of the file outside the sites and the log's
                                          checksum, state and frozen
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xxhash
from jaxtyping import Int, Shaped

from cache.errors import NoSpaceError, NotAvailableError
from cache.safe_open import data_offset, read_attribute, safe_open
from cache.sealed_log import block_runs, checked_log, committed_blocks, frozen_digest, seal_of

_SLACK = 4 << 20  # HDF5's own metadata: about 1 kB a dataset
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        return rows * (row + 4) + frozen + blocks * 8 * (len(self.sites) + 1) + _SLACK


def check_space(folder: Path, need: int) -> None:
    """Refuse to begin what the file system has no room for.

    Raises:
        NoSpaceError: fewer than `need` bytes are free; the message has both numbers.
        NotAvailableError: there is no such folder.
    """
    try:
        have = shutil.disk_usage(folder).free
    except OSError as error:
        raise NotAvailableError(f"cannot write in {str(folder)!r}: {error.strerror}") from error
    if have < need:
        raise NoSpaceError(f"not enough space in {str(folder)!r}: need {need:,} bytes, have {have:,}")


def create_sealed(path: Path, layout: SealedLayout) -> None:
    """Create the file whole under a temporary name, reserve all its space, and put it in place at once.

    A file already at `path` is replaced. The caller holds the writer's lock.

    Raises:
        NoSpaceError: there is no room; nothing is left behind.
        NotAvailableError: the folder cannot be written.
    """
    check_space(path.parent, layout.nbytes)
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # of a writer that died; the lock says that none is alive
    try:
        _reserve(temporary, layout.nbytes)
        with h5py.File(temporary, "w", locking=False) as file:
            _fill_frozen(file, layout)
        _seal_frozen(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, path, layout.nbytes) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def storage_error(error: OSError, path: Path, need: int | None = None) -> Exception:
    """The error to raise for a failed write: no space, or a file system that does not take it."""
    if error.errno in _FULL:
        needs = f"; the file needs {need:,} bytes" if need else ""
        return NoSpaceError(f"no room to write {str(path)!r} ({error.strerror}){needs}")
    return NotAvailableError(f"cannot write {str(path)!r}: {error.strerror or error}")


class SealedWriter:
    """Fills a sealed file's blocks through plain file writes; made by `open_writer`."""

    def __init__(self, path: Path, handle: int, file: h5py.File) -> None:
        self._path = path
        self._handle = handle
        self._runs = block_runs(*checked_log(file))
        self._sites = {name.decode(): i for i, name in enumerate(file["log/sites"][:])}
        self._offsets = {name: data_offset(file[name]) for name in self._sites}
        self._row_bytes = {name: file[name].nbytes // max(len(file[name]), 1) for name in self._sites}
        self._checksum_offset = data_offset(file["log/checksum"])
        self._state_offset = data_offset(file["log/state"])
        self._fingerprint = read_attribute(file, "fingerprint")
        self.committed = committed_blocks(file)

    def write(self, block: int, site: str, rows: Shaped[np.ndarray, "row ..."]) -> int:
        """Write a block's rows of one site, in row order, and return their checksum for `commit`.

        Raises:
            NoSpaceError, NotAvailableError: the file system refused.
        """
        content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        width = self._row_bytes[site]
        n_rows = sum(stop - start for start, stop in self._runs[block])
        if len(content) != n_rows * width:
            raise ValueError(f"block {block} has {n_rows} rows at {site}; got {len(content) / width:g}")
        done = 0
        for start, stop in self._runs[block]:
            part = content[done : done + (stop - start) * width]
            self._pwrite(part, self._offsets[site] + start * width)
            done += len(part)
        return xxhash.xxh3_64_intdigest(content.data)

    def commit(self, block: int, checksums: Mapping[str, int]) -> None:
        """Make a block count: sync its rows, then write and sync its log record.

        Raises:
            NoSpaceError, NotAvailableError: the file system refused; the block does not count.
        """
        record = np.zeros(len(self._sites), dtype="<u8")
        for site, index in self._sites.items():
            record[index] = checksums[site]
        seal = np.array([seal_of(self._fingerprint, block, record)], dtype="<u8")
        self._sync()
        self._pwrite(record.view(np.uint8), self._checksum_offset + block * record.nbytes)
        self._pwrite(seal.view(np.uint8), self._state_offset + block * seal.nbytes)
        self._sync()
        self.committed[block] = True

    def _pwrite(self, content: Shaped[np.ndarray, "byte"], offset: int) -> None:
        view = memoryview(content.data)
        try:
            while len(view):
                written = os.pwrite(self._handle, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _sync(self) -> None:
        try:
            _sync_data(self._handle)
        except OSError as error:
            raise storage_error(error, self._path) from error


@contextmanager
def open_writer(path: Path) -> Iterator[SealedWriter]:
    """A writer for the sealed file at `path`; the caller holds the lock.

    Raises:
        NotAvailableError: the file cannot be written.
        CorruptFileError: it is no sealed file.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise NotAvailableError(f"cannot write {str(path)!r}: {error.strerror}") from error
    try:
        with safe_open(path) as file:
            writer = SealedWriter(path, handle, file)
        yield writer
    finally:
        os.close(handle)


def _reserve_bytes(handle: int, nbytes: int) -> None:
    """Take the space now; macOS has no posix_fallocate, and the check of free space has to do there."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, nbytes)
    else:
        os.ftruncate(handle, nbytes)


def _sync_data(handle: int) -> None:
    """Bring a file's data to disk; macOS has no fdatasync."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(handle)


def _reserve(temporary: Path, nbytes: int) -> None:
    """Fail here, before any work, where the file system cannot take the file."""
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _reserve_bytes(handle, nbytes)
    finally:
        os.close(handle)


def _fill_frozen(file: h5py.File, layout: SealedLayout) -> None:
    for name, value in layout.attributes.items():
        content = value.encode(errors="backslashreplace")
        file.attrs.create(name, _storable(np.array(content, dtype=np.bytes_)))
    n_blocks = int(layout.block.max()) + 1
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    early.set_obj_track_times(False)
    for name, array in layout.frozen.items():
        file.create_dataset(name, data=_storable(array))
    file.create_dataset("log/block", data=layout.block.astype("<i4"))
    names = np.array([name.encode() for name in layout.sites])
    file.create_dataset("log/sites", data=_storable(names))
    file.create_dataset("log/checksum", data=np.zeros((n_blocks, len(names)), dtype="<u8"))
    file.create_dataset("log/state", data=np.zeros(n_blocks, dtype="<u8"))
    file.create_dataset("log/frozen", data=np.zeros(32, dtype="u1"))
    for name, (shape, dtype) in layout.sites.items():
        file.create_dataset(name, (len(layout.block), *shape), dtype, dcpl=early)


def _storable(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The array itself; byte strings marked as the UTF-8 that they are."""
    return array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize)) if array.dtype.kind == "S" else array


def _seal_frozen(temporary: Path) -> None:
    """Reserve the finished file's blocks for good, note the frozen part's digest and bring it all to disk."""
    with h5py.File(temporary, "r", locking=False) as file:
        offset = data_offset(file["log/frozen"])
        digest = frozen_digest(temporary, file)
    handle = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
    try:
        _reserve_bytes(handle, os.fstat(handle).st_size)
        os.pwrite(handle, digest, offset)
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems refuse to sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)
