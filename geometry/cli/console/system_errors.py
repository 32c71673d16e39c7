"""Failures of the operating system that no part of the package expected, each in a sentence."""

import os

from cache.errors import GeometryError, NoSpaceError, NotAvailableError
from cache.whole_files import NO_SPACE


def system_error(error: OSError) -> GeometryError:
    """The error to tell of: no space, or something that is not to be had."""
    reason = " ".join(str(error.strerror or error).split())
    place = "" if error.filename is None else f" {os.fsdecode(error.filename)!r}"
    if error.errno in NO_SPACE:
        return NoSpaceError(f"no room to write{place or ' to standard output or a temporary file'} ({reason})")
    return NotAvailableError(f"the system refused{place or ' what was asked of it'}: {reason}")


def is_memory_error(error: Exception) -> bool:
    """Whether memory was refused; torch has no class for it on the CPU."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)
