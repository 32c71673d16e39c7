"""The path of a store that is to be written, looked at before any work."""

from pathlib import Path

from cache.errors import InputError, NotAvailableError
from cache.sealed.footer import HDF5_SIGNATURE, Stamp
from cache.sealed.lock import writer_lock
from cache.sealed.opening import safe_open, stamp_at
from cache.whole_files import prepare_place


def prepare_path(path: str | Path) -> Path:
    """The absolute path of a store to be written, its folder made.

    Raises:
        InputError: the path is a folder, a symbolic link or a device, or its name is too long.
        NotAvailableError: the folder cannot be made.
        NoSpaceError: there is no room for the folder.
    """
    try:
        path = Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{str(path)!r} names the home of nobody known here; give a whole path") from error
    return prepare_place(path, beside=".lock")  # which, and .tmp, stand beside a store while it is written


def check_replaceable(path: Path) -> None:
    """Refuse to write a store in the place of a file that is none.

    Raises:
        InputError: the file has content, and it is not HDF5.
    """
    if path.exists() and path.stat().st_size:
        with path.open("rb") as handle:
            if handle.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
                raise InputError(f"{str(path)!r} is no store, and is not replaced; give another name or remove it")


def check_path(path: Path, *, overwrite: bool) -> Stamp | None:
    """Find out in a moment what would else be found out once a model is loaded.

    Returns:
        The stamp of the file that is to be gone on with, from before it was checked; None where there is none.

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
    if overwrite or not path.exists():
        return None
    stamp = stamp_at(path)
    with safe_open(path):
        return stamp
