"""One writer at a time: a lock file beside the file that is written."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import LockedError, NoSpaceError, NotAvailableError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524}  # 524: ENOTSUPP, which NFS servers return


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold `<path>.lock` while the block runs; the lock goes with the process, however it ends.

    The lock is an flock on a file of its own, so readers of `path` are never blocked, and a process forked
    meanwhile gives its copy up at once.

    Raises:
        LockedError: another process (or this one) writes the file; the message names pid and host.
        NotAvailableError: the folder cannot be written, or its file system has no locks.
        NoSpaceError: there is no room even for the lock file.
    """
    lock = path.with_name(path.name + ".lock")
    handle = _acquire(lock)
    closed_in_children = _close_in_children(handle)
    try:
        with suppress(OSError):  # on a full disk the lock holds without saying whose it is
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        # unlinked before it is released: whoever waits for this inode sees that the name has moved on
        if not closed_in_children[0]:  # else this is a child that was forked inside the block
            lock.unlink(missing_ok=True)
            closed_in_children[0] = True
            os.close(handle)


def _acquire(lock: Path) -> int:
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            kind = NoSpaceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else NotAvailableError
            raise kind(f"cannot write in {str(lock.parent)!r}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except FileNotFoundError:
            pass
        except OSError as error:
            holder = os.pread(handle, 1000, 0).decode(errors="replace")
            os.close(handle)
            raise _refusal(lock, error, holder) from error
        os.close(handle)


def _refusal(lock: Path, error: OSError, holder: str) -> Exception:
    name = lock.name.removesuffix(".lock")
    if error.errno in _NO_LOCKS:
        return NotAvailableError(
            f"the file system of {str(lock.parent)!r} has no locks ({error.strerror}); "
            "record to a local disk and move the file"
        )
    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
        return NotAvailableError(f"cannot lock {str(lock)!r}: {error.strerror}")
    try:
        who = json.loads(holder)
        return LockedError(
            f"{name} is being written by process {int(who['pid'])} on {who['host']}; wait for it or stop it"
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
        return LockedError(f"{name} is being written by another process; wait for it or stop it")


def _close_in_children(handle: int) -> list[bool]:
    """Close `handle` in processes forked from now on: a flock lives until its last copy is closed."""
    done = [False]
    owner = os.getpid()

    def close() -> None:
        if not done[0] and os.getpid() != owner:
            done[0] = True
            os.close(handle)

    os.register_at_fork(after_in_child=close)
    return done
