"""What surrounds the program and is not its user's request: inherited settings, and the streams it speaks through."""

import gc
import io
import logging
import os
import sys
from contextlib import suppress

_FOREIGN = ("SOURCE_DATE_EPOCH", "NUMBA_NUM_THREADS")
"""Settings that other programs leave behind (a build) and that libraries read, or fail on, when imported.

No command dates a figure, or gives UMAP more than one thread.
"""

_NEW_OBJECTS = 50_000
"""So many more objects call for a search for garbage. Libraries make half a million when imported and none of it is
garbage: at Python's 700 an eighth of their seconds goes into looking."""


def settle() -> None:
    """Make the program independent of them; to be called before any library is imported.

    Text that a terminal's encoding cannot hold is escaped, and a stream that was closed swallows what it is given.
    """
    for name in _FOREIGN:
        os.environ.pop(name, None)
    gc.set_threshold(_NEW_OBJECTS)
    os.environ["MPLBACKEND"] = "Agg"  # no window, whatever a notebook or a matplotlibrc says
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that it cannot write, and goes on
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence_output() -> None:
    """Let what is still to be written to standard output go nowhere: nobody reads it, or it does not fit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _fill_closed_streams() -> None:
    """Else the next file that is opened takes the number of a closed stream, and gets what was meant for it."""
    handle = os.open(os.devnull, os.O_RDWR)
    while handle <= 2:
        handle = os.dup(handle)
    os.close(handle)
    if sys.stdout is None:
        sys.stdout = open(1, "w")  # noqa: SIM115  # stays open as long as the program
    if sys.stderr is None:
        sys.stderr = open(2, "w")  # noqa: SIM115
