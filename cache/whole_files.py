"""Files other than stores: each is written whole or not at all, and a place that takes none is told before any work."""

import errno
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from cache.errors import InputError, NoSpaceError, NotAvailableError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a system says when there is no room: on the disk, in the quota, under the limit of a file's size."""

_LONGEST_NAME = 255
_NUMBER = re.compile(r"\(os error (\d+)\)")
_PAGE = 4096  # bytes: a file system that is full may still take an empty file


def write_whole(path: str | Path, content: bytes | str) -> Path:
    """Put a file in place at once, its folder made if need be; whatever goes wrong, an earlier one stays as it was.

    Text is written as UTF-8. Nothing is synced: a power cut may take the file, a kill may not.

    Raises:
        InputError: the path is a folder, a symbolic link or a device, or its name is too long.
        NotAvailableError: the folder cannot be made, or takes no file.
        NoSpaceError: there is no room.
    """
    path = Path(path)
    place = prepare_place(path)
    _check_unprotected(path)
    try:
        _replace(place, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        # without the file name, which is a temporary one
        raise storage_error(OSError(error.errno, error.strerror), path) from error
    return path


def prepare_place(path: str | Path, *, beside: str = "") -> Path:
    """The absolute path of a file to be written, its folder made.

    Args:
        path: where the file is to be.
        beside: what is put after its name while it is written, if anything.

    Raises:
        InputError: the path is a folder, a symbolic link or a device, or its name is too long.
        NotAvailableError: the folder cannot be made.
        NoSpaceError: there is no room for the folder.
    """
    place = _checked_place(path, beside)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _folder_error(error, place.parent) from error
    return place


def check_file(path: str | Path) -> None:
    """Find out in a moment whether a file can be written; nothing is changed.

    Raises:
        InputError, NotAvailableError, NoSpaceError: as `write_whole` would.
    """
    place = _checked_place(path, "")
    _check_unprotected(Path(path))
    _try_folder(place.parent)


def check_folder(folder: str | Path) -> None:
    """Find out in a moment whether files can be written to a folder, which need not be there; nothing is changed.

    Raises:
        InputError: the path cannot be one.
        NotAvailableError: the folder cannot be made, or takes no file.
        NoSpaceError: there is no room.
    """
    _try_folder(_absolute(folder))


def storage_error(error: Exception, path: Path, need: int | None = None) -> Exception:
    """The error to raise for a failed write: no space, or a file system that does not take it.

    Libraries that write by themselves (safetensors, tokenizers) raise errors of their own with the number in the text.
    """
    named = _NUMBER.search(str(error))
    code = error.errno if isinstance(error, OSError) else int(named[1]) if named else None
    said = getattr(error, "strerror", None) or (os.strerror(code) if code else str(error))
    reason = " ".join(said.split()) or type(error).__name__
    if code in NO_SPACE:
        needs = f"; the file needs {need:,} bytes" if need else ""
        return NoSpaceError(f"no room to write {str(path)!r} ({reason}){needs}")
    place = getattr(error, "filename", None) or path
    return NotAvailableError(f"cannot write {os.fsdecode(place)!r}: {reason}")


def _absolute(path: str | Path) -> Path:
    text = os.fspath(path)
    if "\0" in text:
        raise InputError(f"a path cannot hold a zero byte; got {text[:40]!r}")
    return Path(os.path.abspath(text))  # noqa: PTH100  # resolve() would follow links


def _checked_place(path: str | Path, beside: str) -> Path:
    place = _absolute(path)
    too_long = len(os.fsencode(place.name + beside)) - _LONGEST_NAME
    if too_long > 0:
        raise InputError(f"the file name {place.name[:20]!r}... is too long by {too_long} bytes; give a shorter one")
    try:
        what = "symbolic link" if place.is_symlink() else "folder" if place.is_dir() else ""
        what = what or ("device" if place.exists() and not place.is_file() else "")
    except OSError as error:
        raise NotAvailableError(f"cannot write {str(path)!r}: {error.strerror}") from error
    if what:
        raise InputError(f"{str(path)!r} is a {what}; give a file name")
    return place


def _check_unprotected(path: Path) -> None:
    """A file that its owner made read-only is not replaced, though its folder would allow it."""
    if path.exists() and not os.access(path, os.W_OK):
        raise NotAvailableError(f"cannot write {str(path)!r}: it may only be read")


def _try_folder(folder: Path) -> None:
    """Write and remove a small file in the folder, or where the folder would be made."""
    try:
        there = next(one for one in (folder, *folder.parents) if one.is_symlink() or one.exists())
        _remove(_write_temporary(there, bytes(_PAGE)))
    except OSError as error:
        raise _folder_error(error, folder) from error


def _folder_error(error: OSError, folder: Path) -> Exception:
    if error.errno in NO_SPACE:
        return storage_error(error, folder)
    deed = "write in" if folder.is_dir() else "make"
    return NotAvailableError(f"cannot {deed} the folder {str(folder)!r}: {error.strerror}")


def _replace(place: Path, content: bytes) -> None:
    temporary = _write_temporary(place.parent, content)
    try:
        os.replace(temporary, place)
    except BaseException:
        _remove(temporary)
        raise


def _write_temporary(folder: Path, content: bytes) -> Path:
    """A new file with that content under a name that nobody else uses; none is left if it fails."""
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except BaseException:
        _remove(temporary)
        raise
    return temporary


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # it may never have been made
        temporary.unlink()
