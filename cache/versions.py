"""Versions of the libraries that are installed."""

import functools
import importlib.metadata
from collections.abc import Iterable


@functools.cache
def version_of(library: str) -> str:
    """The installed version; it does not change while a process runs, and is read from a long file."""
    return importlib.metadata.version(library)


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """The installed version of each."""
    return {library: version_of(library) for library in libraries}
