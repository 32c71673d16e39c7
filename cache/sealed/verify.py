"""What of a sealed file is as it was written."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.sealed.log import Log, read_log
from cache.sealed.opening import open_beside, safe_open
from cache.sealed.reader import block_digests


@dataclass(frozen=True)
class Damage:
    """A part of a sealed file that is not what was written.

    Attributes:
        part: what is damaged: a site's name, or `log`.
        block: the block, or None for the mark of a complete file.
        rows: its first and last row, inclusive, or None.
    """

    part: str
    block: int | None = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Verification:
    """The result of checking a sealed file.

    Attributes:
        n_blocks: blocks that the file has.
        n_committed: blocks that are recorded.
        n_checked: blocks whose data was compared with its checksums.
        damage: what is not as it was written; empty for a sound file, complete or not.
    """

    n_blocks: int
    n_committed: int
    n_checked: int
    damage: tuple[Damage, ...]


def verify_store(
    path: str | Path, *, quick: bool = False, on_site: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Compare every byte of a sealed file with its checksums; with `quick` all but the sites' data.

    Args:
        path: the file.
        quick: leave out the sites' data.
        on_site: called with how many sites are done, and how many there are.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file is no sealed file, or is damaged outside its log and its sites' data.

    Example:
        >>> verify_store("activations/tour.h5").damage
        ()
    """
    path = Path(path)
    with safe_open(path) as file:
        log = read_log(file)
        handle = open_beside(file)
    try:
        damage = [Damage("log", block) for block in log.damaged]
        if log.mark == "wrong":
            damage.append(Damage("log"))
        if not quick:
            damage += _sites(path, handle, log, on_site)
    finally:
        os.close(handle)
    n_committed = int(log.committed.sum())
    return Verification(len(log.committed), n_committed, 0 if quick else n_committed, tuple(damage))


def _sites(path: Path, handle: int, log: Log, on_site: Callable[[int, int], None]) -> Iterator[Damage]:
    runs = log.runs()
    for column, name in enumerate(log.sites):
        digests = block_digests(handle, path, log, name, log.committed)
        for block, digest in digests.items():
            if digest != int(log.checksums[block, column]):
                yield Damage(name, block, (runs[block][0][0], runs[block][-1][1] - 1))
        on_site(column + 1, len(log.sites))
