"""What is noted so that a result can be made again: the seeds of its draws, and the versions of what made it."""

import functools
import importlib.metadata
import operator
from collections.abc import Iterable
from typing import Any

from cache.errors import InputError

LARGEST_SEED = 2**32 - 1
"""Seeds are whole numbers up to it, which numpy, scikit-learn and UMAP all accept."""


def check_seed(seed: Any) -> int:
    """The seed as a plain integer; whole numbers of numpy's are taken too.

    Raises:
        InputError: it is no whole number from 0 to 4294967295; True and False are none.
    """
    try:
        whole = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        whole = -1
    if not 0 <= whole <= LARGEST_SEED:
        raise InputError(f"seed must be a whole number from 0 to {LARGEST_SEED}; got {seed!r}")
    return whole


@functools.cache
def version_of(library: str) -> str:
    """The installed version; it does not change while a process runs, and is read from a long file."""
    return importlib.metadata.version(library)


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """The installed version of each."""
    return {library: version_of(library) for library in libraries}
