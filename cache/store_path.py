"""The path of a store that is to be written, looked at before any work."""

import os
from pathlib import Path

from cache.errors import InputError, NotAvailableError
from cache.lock import writer_lock
from cache.safe_open import safe_open
from cache.sealed_footer import HDF5_SIGNATURE

_LONGEST_NAME = 255 - len(".lock")  # which, and .tmp, stand beside a store while it is written


def prepare_path(path: str | Path) -> Path:
    """The absolute path of a store to be written, its folder made.

    Raises:
        InputError: the path is a folder, a symbolic link or a device, or its name is too long.
        NotAvailableError: the folder cannot be made.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  # resolve() would follow links
    too_long = len(os.fsencode(path.name)) - _LONGEST_NAME
    if too_long > 0:
        raise InputError(f"the file name {path.name[:20]!r}... is too long by {too_long} bytes; give a shorter one")
    try:
        what = "symbolic link" if path.is_symlink() else "folder" if path.is_dir() else ""
        what = what or ("device" if path.exists() and not path.is_file() else "")
    except OSError as error:
        raise NotAvailableError(f"cannot write {str(path)!r}: {error.strerror}") from error
    if what:
        raise InputError(f"{str(path)!r} is a {what}; give a file name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotAvailableError(f"cannot make the folder {str(path.parent)!r}: {error.strerror}") from error
    return path


def check_replaceable(path: Path) -> None:
    """Refuse to write a store in the place of a file that is none.

    Raises:
        InputError: the file has content, and it is not HDF5.
    """
    if path.exists() and path.stat().st_size:
        with path.open("rb") as handle:
            if handle.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
                raise InputError(f"{str(path)!r} is no store, and is not replaced; give another name or remove it")


def check_path(path: Path, *, overwrite: bool) -> None:
    """Find out in a moment what would else be found out once a model is loaded.

    Raises:
        InputError, NotAvailableError: the path cannot be a store's.
        CorruptFileError, FingerprintError: what is there cannot be continued.
        LockedError: another process writes there.
    """
    path = prepare_path(path)
    try:
        with writer_lock(path):
            if overwrite:
                check_replaceable(path)
    except NotAvailableError:
        if overwrite or not path.exists():  # else it may be complete, and need no writing
            raise
    if path.exists() and not overwrite:
        with safe_open(path):
            pass
