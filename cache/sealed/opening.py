"""The one way in: HDF5 files of ours, and nothing that a file could make HDF5 do besides."""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cache.errors import CorruptFileError, GeometryError, NotAvailableError
from cache.sealed.footer import Stamp, checked_footer, stamp_of

_MAX_OBJECTS = 100_000
_MAX_ATTRIBUTES = 64
_MAX_DEPTH = 4
_READ_ERRORS = (OSError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError, MemoryError)


@contextmanager
def safe_open(path: str | Path, known: Stamp | None = None) -> Iterator[h5py.File]:
    """Open a sealed file for reading while the block runs; see `open_checked`.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file is not sealed, is damaged, or holds something refused; or a read in the
            block fails.
    """
    with open_checked(path, known) as file, reading(path):
        yield file


def open_checked(path: str | Path, known: Stamp | None = None) -> h5py.File:
    """Open a sealed file for reading after checking that it is whole and holds only what a sealed file can hold.

    First its own footer is read and every byte that never changes is compared with a digest, without HDF5, so
    that a file damaged by accident never reaches HDF5's C library. Against files made to harm, links of any kind
    are refused, and external and virtual storage, chunked or compressed data (and with them filter plug-ins),
    types other than numbers and fixed-length strings, and datasets larger than the file. HDF5's C library is no
    security boundary: a file made to harm may still crash it.

    Args:
        path: the file.
        known: its stamp from before it was last compared with the digest; while it is the same that is not done again.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file is not sealed, is damaged, or holds something refused.
    """
    path = Path(path)
    handle = open_regular(path)
    try:
        footer = checked_footer(handle, path, known)
        with ExitStack() as stack, reading(path):
            file = stack.enter_context(_open_shared(path))
            check_same(handle, file)
            _check_attributes(file.filename, file.id, "/")
            _check_groups(file, footer.offset)
            stack.pop_all()
            return file
    finally:
        os.close(handle)


def open_beside(file: h5py.File) -> int:
    """Another handle for reading the same file without HDF5, which the caller closes.

    Raises:
        NotAvailableError, CorruptFileError: it was removed or replaced meanwhile.
    """
    handle = open_regular(Path(file.filename))
    try:
        check_same(handle, file)
    except CorruptFileError:
        os.close(handle)
        raise
    return handle


def open_regular(path: Path) -> int:
    """A handle for reading a regular file, which the caller closes.

    Raises:
        NotAvailableError: there is none, or it may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe is not waited for
    except FileNotFoundError as error:
        raise NotAvailableError(f"{str(path)!r} is not there; give an .h5 file made by geometry cache") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotAvailableError(f"cannot read {str(path)!r}: {reason}") from error
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind):
        return handle
    os.close(handle)
    what = "a folder" if stat.S_ISDIR(kind) else "no regular file"
    raise NotAvailableError(f"{str(path)!r} is {what}; give an .h5 file made by geometry cache")


def stamp_at(path: Path) -> Stamp:
    """The stamp of the file that is there now, asked of the open file: a network's answer by name may be an old one.

    Raises:
        NotAvailableError: there is no such file.
    """
    handle = open_regular(path)
    try:
        return stamp_of(handle)
    finally:
        os.close(handle)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into one sentence.

    Raises:
        CorruptFileError: the block raised one of the errors that a damaged file causes.
    """
    try:
        yield
    except GeometryError:
        raise
    except _READ_ERRORS as error:
        reason = (str(error).strip("\"'\n ") or type(error).__name__).splitlines()[0]
        raise CorruptFileError(f"{path} cannot be read: {reason}") from error


def check_self_contained(path: Path) -> None:
    """Make sure that an HDF5 file of any make is read without another: no links out of it, no data kept elsewhere.

    Raises:
        CorruptFileError: it cannot be read, or has such a link or such data.
    """

    def elsewhere(name: str, item: object) -> str | None:
        kept = isinstance(item, h5py.Dataset) and (item.is_virtual or item.id.get_create_plist().get_external_count())
        return name if kept else None

    with reading(path), _open_shared(path) as file:
        linked = file.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name)
        if linked is not None:
            raise CorruptFileError(f"{path} holds a link at {linked}; results have none")
        if (name := file.visititems(elsewhere)) is not None:
            raise CorruptFileError(f"{path} has data kept in other files at {name}; results have none")


def _open_shared(path: Path) -> h5py.File:
    """Open with HDF5's shared lock, which our writers ignore, or without where there is none to be had.

    HDF5 refuses a file that is open both ways in one process, and a user's own h5py locks.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "lock" not in str(error):
            raise
        return h5py.File(path, "r", locking=False)


def check_same(handle: int, file: h5py.File) -> None:
    """Make sure that a handle is of the same file as HDF5's.

    Raises:
        CorruptFileError: the file was replaced between the two.
    """
    if not os.path.samestat(os.fstat(handle), os.fstat(file.id.get_vfd_handle())):
        raise CorruptFileError(f"{file.filename} was replaced while it was opened; try again")


def _check_groups(file: h5py.File, size: int) -> None:
    """Walk every hard link once, refusing whatever a sealed file does not use.

    By HDF5's own handles, which are opened in a third of the time that h5py's objects take.
    """
    todo: list[tuple[h5py.h5g.GroupID, str, int]] = [(h5py.h5g.open(file.id, b"/"), "", 0)]
    allowed = _MAX_OBJECTS
    while todo:
        group, place, depth = todo.pop()
        names = list(group)  # far cheaper than opening what they name
        surplus = names[allowed if depth < _MAX_DEPTH else 0 :]
        allowed -= len(names)
        for name in surplus[:1] or names:
            where = f"{place}/{name.decode('utf-8', 'backslashreplace')}"
            if surplus:
                raise CorruptFileError(f"{file.filename} holds too many or too deeply nested objects at {where}")
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise CorruptFileError(f"{file.filename} holds a link at {where}; stores have none")
            item = h5py.h5o.open(group, name)
            _check_attributes(file.filename, item, where)
            if isinstance(item, h5py.h5g.GroupID):
                todo.append((item, where, depth + 1))
            elif isinstance(item, h5py.h5d.DatasetID):
                _check_dataset(file.filename, item, where, size)
            else:
                raise CorruptFileError(f"{file.filename} holds something at {where} that is not an array")


def _check_attributes(filename: str, item: Any, where: str) -> None:
    """Attributes are few, and text or numbers of fixed length: reading others could follow references."""
    count = h5py.h5a.get_num_attrs(item)
    if count > _MAX_ATTRIBUTES:
        raise CorruptFileError(f"{filename} has {count:,} attributes at {where}; stores have few")
    for index in range(count):
        attribute = h5py.h5a.open(item, index=index)
        if not _plain(attribute.dtype):
            raise CorruptFileError(f"{filename} has an attribute of type {attribute.dtype} at {where}")


def _check_dataset(filename: str, dataset: Any, where: str, size: int) -> None:
    creation, dtype = dataset.get_create_plist(), dataset.dtype
    nbytes = math.prod(dataset.shape) * dtype.itemsize
    problem = None
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        problem = "data kept in other files"
    elif creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_nfilters():
        problem = "data that is not contiguous"
    elif not _plain(dtype):
        problem = f"data of type {dtype}"
    elif dataset.get_storage_size() != nbytes or int(dataset.get_offset() or 0) + nbytes > size:
        problem = "data beyond the file's end"
    if problem:
        raise CorruptFileError(f"{filename} has {problem} at {where}; stores have none")


def _plain(dtype: np.dtype) -> bool:
    string = h5py.check_string_dtype(dtype)
    return string.length is not None if string else dtype.kind in "iuf" and dtype.metadata is None


def read_attribute(file: h5py.File, name: str) -> str:
    """A root attribute as text.

    Raises:
        KeyError: there is none.
    """
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def data_offset(dataset: h5py.Dataset) -> int:
    """Where the data of a contiguous dataset begins in its file, in bytes; 0 for an empty one."""
    return int(dataset.id.get_offset() or 0)
