"""HDF5 files that are created whole, filled block by block, and can prove what they hold.

A sealed file has datasets of one row axis under some group (its *sites*), frozen datasets written at creation,
and a log. Everything is contiguous and preallocated, so that filling it changes no byte of HDF5's metadata:
a writer may be killed at any instant. Rows belong to blocks; a block counts once its rows and checksums are on
disk *and then* its state is:

    (footer)                              digest of every byte that never changes: cache/sealed/footer.py
    /log/block     (row,)         int32   the block of each row
    /log/sites     (site,)        string  the sites, in the order of the checksums
    /log/checksum  (block, site)  uint64  XXH3-64 of the block's rows of a site, in row order
    /log/state     (block,)       uint64  0, or the seal: XXH3-64 of fingerprint, block number and checksums
    /log/complete  (1,)           uint64  0, or once every block counts the seal of all states
"""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import xxhash
from jaxtyping import Shaped

from cache.errors import CorruptFileError, NoSpaceError, NotAvailableError, StoppedError
from cache.sealed.footer import Stamp, frozen_digest, read_footer
from cache.sealed.layout import CHANGING, Blueprint, SealedLayout, blueprint
from cache.sealed.log import Log, complete_mark, read_log, seal_of
from cache.sealed.opening import check_same, data_offset, safe_open, stamp_at
from cache.whole_files import storage_error

Run = Callable[[int], Mapping[str, int]]
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


def check_space(folder: Path, need: int) -> None:
    """Refuse to begin what the file system, or the limit on file sizes, has no room for.

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
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and limit < need:
        raise NoSpaceError(f"files may have {limit:,} bytes here (ulimit -f): need {need:,} bytes, have {limit:,}")


def create_sealed(path: Path, layout: SealedLayout) -> Stamp:
    """Create the file whole under a temporary name, reserve all its space, and put it in place at once.

    A file already at `path` is replaced. The caller holds the writer's lock, and gets the file's stamp.

    Raises:
        NoSpaceError: there is no room; nothing is left behind.
        NotAvailableError: the folder cannot be written.
    """
    check_space(path.parent, layout.nbytes)
    try:
        plan = blueprint(layout)
    except OSError as error:  # such as an attribute of more than 64 kB, which HDF5 has no room for
        raise storage_error(error, path) from error
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a writer that died; the lock says that none is alive
        _build(temporary, plan)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(error, path, plan.footer.size) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return stamp_at(path)


class SealedWriter:
    """Fills a sealed file's blocks through plain file writes; made by `open_writer`."""

    def __init__(self, path: Path, handle: int, file: h5py.File) -> None:
        self._path, self._handle, self._log = path, handle, read_log(file)
        _check_spans(path, handle, file, self._log)
        self._runs = self._log.runs()
        self._columns = {site: index for index, site in enumerate(self._log.sites)}
        self._offsets = {name: data_offset(file[name]) for name in CHANGING}
        self._states = file["log/state"][:]
        self.committed = self._log.committed

    def write(self, block: int, site: str, rows: Shaped[np.ndarray, "row ..."]) -> int:
        """Write a block's rows of one site, in row order, and return their checksum for `commit`.

        Raises:
            NoSpaceError, NotAvailableError: the file system refused.
        """
        content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        place = self._log.sites[site]
        n_rows = sum(stop - start for start, stop in self._runs[block])
        if len(content) != n_rows * place.row_bytes:
            raise ValueError(f"block {block} has {n_rows} rows at {site}; got {len(content) / place.row_bytes:g}")
        done = 0
        for start, stop in self._runs[block]:
            part = content[done : done + (stop - start) * place.row_bytes]
            self._pwrite(part, place.offset + start * place.row_bytes)
            done += len(part)
        return xxhash.xxh3_64_intdigest(content.data)

    def commit(self, block: int, checksums: Mapping[str, int]) -> None:
        """Make a block count: sync its rows and checksums, then write and sync its state.

        Raises:
            NoSpaceError, NotAvailableError: the file system refused; the block does not count.
        """
        record = np.zeros(len(self._columns), dtype="<u8")
        for site, column in self._columns.items():
            record[column] = checksums[site]
        self._pwrite(record.view(np.uint8), self._offsets["log/checksum"] + block * record.nbytes)
        self._sync()
        self._states[block] = seal_of(self._log.fingerprint, block, record)
        self._pwrite(self._states[block : block + 1].view(np.uint8), self._offsets["log/state"] + 8 * block)
        self._sync()
        self.committed[block] = True

    def finish(self) -> None:
        """Mark the file complete, if every block counts: from here on a missing record is damage.

        Raises:
            NoSpaceError, NotAvailableError: the file system refused.
        """
        if self.committed.all():
            mark = np.array([complete_mark(self._log.fingerprint, self._states)], dtype="<u8")
            self._pwrite(mark.view(np.uint8), self._offsets["log/complete"])
            self._sync()

    def fill(self, run: Run, on_block: Callable[[int, int], None], should_stop: Callable[[], bool]) -> None:
        """Have each block that does not count yet written and count, then mark the file complete.

        Args:
            run: writes a block's rows of every site, and gives their checksums.
            on_block: told which block now counts, and how many do.
            should_stop: asked before every block.

        Raises:
            StoppedError: it said so.
            NoSpaceError, NotAvailableError: the file system refused.
        """
        for done, number in enumerate(np.flatnonzero(~self.committed).tolist(), int(self.committed.sum())):
            if should_stop():
                raise StoppedError(f"stopped after {done} of {len(self.committed)} blocks")
            self.commit(number, run(number))
            on_block(number, done + 1)
        self.finish()

    def _pwrite(self, content: Shaped[np.ndarray, "byte"], offset: int) -> None:
        try:
            _write_all(self._handle, content.data, offset)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _sync(self) -> None:
        try:
            (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(self._handle)  # macOS has no fdatasync
        except OSError as error:
            raise storage_error(error, self._path) from error


@contextmanager
def open_writer(path: Path, known: Stamp | None = None) -> Iterator[SealedWriter]:
    """A writer for the sealed file at `path`; the caller holds the lock.

    Args:
        path: the file.
        known: its stamp from when it was made, or before it was last checked (`open_checked`).

    Raises:
        NotAvailableError: the file cannot be written.
        CorruptFileError: it is no sealed file, or its footer lets other bytes change than those to be written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise NotAvailableError(f"cannot write {str(path)!r}: {error.strerror}") from error
    try:
        with safe_open(path, known) as file:
            check_same(handle, file)
            writer = SealedWriter(path, handle, file)
        yield writer
    finally:
        os.close(handle)


def _check_spans(path: Path, handle: int, file: h5py.File, log: Log) -> None:
    """A writer trusts a file's places: none may lie over another or over anything that never changes."""
    arrays = [file[name] for name in (*log.sites, *CHANGING)]
    if sorted((data_offset(array), array.nbytes) for array in arrays) != list(read_footer(handle, path).spans):
        raise CorruptFileError(f"{path} has arrays elsewhere than its footer says; record it anew with --overwrite")


def _build(temporary: Path, plan: Blueprint) -> None:
    """Fail here, before any work, where the file system cannot take the file; else bring it to disk whole."""
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _reserve(handle, plan.footer.size)
        for number, page in sorted(plan.pages.items()):
            start = number * plan.page_size
            _write_all(handle, memoryview(page)[: plan.footer.offset - start], start)
        _write_all(handle, memoryview(plan.footer.packed()), plan.footer.offset)
        sealed = replace(plan.footer, digest=frozen_digest(handle, plan.footer))
        _write_all(handle, memoryview(sealed.packed()), plan.footer.offset)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, content: memoryview, offset: int) -> None:
    while len(content):
        written = os.pwrite(handle, content, offset)
        content, offset = content[written:], offset + written


def _reserve(handle: int, nbytes: int) -> None:
    """Take the space now; where a system cannot, the check of free space has to do."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, nbytes)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    os.ftruncate(handle, nbytes)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems refuse to sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)
