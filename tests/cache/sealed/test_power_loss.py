"""A power cut: of what was not yet synced any part may be lost or torn, and no state that this leaves is a lie.

A run's changes are noted as they reach the operating system. A state after a power cut has all changes before the
last sync that was made, and of those after it a random half, some cut off at a disk sector of 512 bytes.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.errors import GeometryError
from cache.sealed import writer as sealed
from tests.cache.sealed_files import BLOCK, SITES, create_and_fill, truly_committed, values

SECTOR = 512


@dataclass
class Disk:
    """What a run did to one file, in order: writes `(offset, content)`, lengths `("size", n)`, `"sync"`, `"rename"`,
    and `("done", n)` where it reported n blocks as safe."""

    changes: list = field(default_factory=list)

    def acknowledged(self, moment: int) -> int:
        return max([0, *(change[1] for change in self.changes[:moment] if change[0] == "done")])


def apply(content: bytearray, change: tuple) -> None:
    if change[0] == "size":
        content[:] = content[: change[1]].ljust(change[1], b"\0")
    elif isinstance(change[0], int):
        offset, part = change
        content.extend(bytes(max(0, offset + len(part) - len(content))))
        content[offset : offset + len(part)] = part


def torn(change: tuple, random: np.random.Generator) -> tuple:
    """A write that stopped at the border of a sector."""
    if change[0] == "size":
        return change
    offset, part = change
    borders = [stop - offset for stop in range(offset // SECTOR * SECTOR + SECTOR, offset + len(part), SECTOR)]
    return (offset, part[: random.choice(borders)]) if borders else change


def after_power_cut(disk: Disk, moment: int, random: np.random.Generator) -> bytes | None:
    """The file after a power cut at a moment; None where it is not there."""
    made = disk.changes[:moment]
    synced = max([0, *(i for i, change in enumerate(made) if change[0] == "sync")])
    content = bytearray()
    for change in made[:synced]:
        apply(content, change)
    for change in made[synced:]:
        if (change[0] == "size" or isinstance(change[0], int)) and random.random() < 0.5:
            apply(content, torn(change, random) if random.random() < 0.3 else change)
    if ("rename",) not in made or (made[-1] == ("rename",) and random.random() < 0.5):
        return None
    return bytes(content)


class NotingOs:
    """Stands for `os` in cache.sealed.writer, and notes what changes the file on a disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def __getattr__(self, name: str):
        return getattr(os, name)

    def pwrite(self, handle, content, offset):
        self.disk.changes.append((offset, bytes(content)))
        return os.pwrite(handle, content, offset)

    def ftruncate(self, handle, size):
        self.disk.changes.append(("size", size))
        os.ftruncate(handle, size)

    def fdatasync(self, handle):
        self.disk.changes.append(("sync",))

    fsync = fdatasync

    def replace(self, old, new):
        self.disk.changes.append(("rename",))
        os.replace(old, new)


@pytest.fixture(scope="module")
def sealed_run(tmp_path_factory) -> Disk:
    """A sealed file made and filled, creation included."""
    path = tmp_path_factory.mktemp("sealed") / "a.h5"
    disk = Disk()
    commit = sealed.SealedWriter.commit

    def noted_commit(writer, block, checksums):
        commit(writer, block, checksums)
        disk.changes.append(("done", block + 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "os", NotingOs(disk))
        patch.setattr(sealed.SealedWriter, "commit", noted_commit)
        create_and_fill(path)
    content = bytearray()
    for change in disk.changes:
        apply(content, change)
    assert bytes(content) == path.read_bytes(), "the notes are the whole story"
    return disk


class NotedFile:
    """A Python file that h5py writes to, noting every write."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.content, self.position = disk, bytearray(), 0

    def seek(self, offset, whence=0):
        self.position = offset + (0, self.position, len(self.content))[whence]
        return self.position

    def tell(self):
        return self.position

    def read(self, length=-1):
        part = bytes(self.content[self.position : self.position + length])
        self.position += len(part)
        return part

    def readinto(self, target):
        part = self.content[self.position : self.position + len(target)].ljust(len(target), b"\0")
        target[:] = part
        self.position += len(target)
        return len(target)

    def write(self, part):
        change = (self.position, bytes(part))
        self.disk.changes.append(change)
        apply(self.content, change)
        self.position += len(change[1])
        return len(change[1])

    def truncate(self, size=None):
        self.disk.changes.append(("size", size))
        apply(self.content, ("size", size))
        return size

    def flush(self):
        pass


@pytest.fixture(scope="module")
def naive_run() -> Disk:
    """What anybody would write first: datasets that grow, flushed and synced after every block."""
    disk = Disk(changes=[("rename",)])
    truth = values()
    with h5py.File(NotedFile(disk), "w") as file:
        for site, (shape, dtype) in SITES.items():
            file.create_dataset(site, (0, *shape), dtype, maxshape=(None, *shape), chunks=(2, *shape))
        for block in range(BLOCK.max() + 1):
            for site in SITES:
                rows = truth[site][block == BLOCK]
                file[site].resize(len(file[site]) + len(rows), axis=0)
                file[site][-len(rows) :] = rows
            file.flush()
            disk.changes += [("sync",), ("done", block + 1)]
    return disk


def is_truthful(path: Path, acknowledged: int) -> bool:
    """Whether our file opens with every block that was reported safe, and shows no block that is wrong."""
    try:
        return set(range(acknowledged)) <= set(truly_committed(path))
    except (GeometryError, OSError, RuntimeError, LookupError, AssertionError):
        return False


def naive_is_truthful(path: Path, acknowledged: int) -> bool:
    """The same for the naive file: its rows are the blocks in order."""
    order = np.argsort(BLOCK, kind="stable")
    n_rows = int((acknowledged > BLOCK).sum())
    try:
        with h5py.File(path, "r") as file:
            return all(
                len(file[site]) >= n_rows and np.array_equal(file[site][:], truth[order][: len(file[site])])
                for site, truth in values().items()
            )
    except (OSError, RuntimeError, LookupError, TypeError, ValueError):
        return False


def lies(disk: Disk, n: int, path: Path, truthful: Callable[[Path, int], bool]) -> Iterator[int]:
    """Moments of `n` random power cuts after which the file is not what was promised of it."""
    random = np.random.default_rng(0)
    for _ in range(n):
        moment = int(random.integers(len(disk.changes) + 1))
        content = after_power_cut(disk, moment, random)
        acknowledged = disk.acknowledged(moment)
        if content is None:
            if acknowledged:
                yield moment
            continue
        path.write_bytes(content)
        if not truthful(path, acknowledged):
            yield moment


@pytest.mark.parametrize("n", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_power_cut_loses_a_block_that_was_safe_or_shows_one_that_is_wrong(sealed_run, tmp_path, n):
    assert list(lies(sealed_run, n, tmp_path / "a.h5", is_truthful)) == []


@pytest.mark.parametrize("n", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_growing_file_that_is_flushed_and_synced_fails_the_same_cuts(naive_run, tmp_path, n):
    failed = list(lies(naive_run, n, tmp_path / "a.h5", naive_is_truthful))
    print(f"\nR3 control: {len(failed)} of {n} power cuts leave a growing file unreadable or wrong")  # noqa: T201
    assert len(failed) > n / 100, "the test above would be blind"
    assert naive_is_truthful_when_complete(naive_run, tmp_path / "b.h5")


def naive_is_truthful_when_complete(disk: Disk, path: Path) -> bool:
    content = bytearray()
    for change in disk.changes:
        apply(content, change)
    path.write_bytes(content)
    return naive_is_truthful(path, 4)


def test_after_any_power_cut_the_same_run_ends_in_the_same_bytes(sealed_run, tmp_path):
    create_and_fill(tmp_path / "whole.h5")
    whole = (tmp_path / "whole.h5").read_bytes()
    random = np.random.default_rng(1)
    path = tmp_path / "a.h5"
    for moment in range(len(sealed_run.changes) + 1):
        content = after_power_cut(sealed_run, moment, random)
        path.unlink(missing_ok=True)
        leftover = bytearray()
        for change in sealed_run.changes[:moment]:
            apply(leftover, change)
        if content is None:
            path.with_name("a.h5.tmp").write_bytes(leftover)
        else:
            path.write_bytes(content)
        create_and_fill(path)
        assert path.read_bytes() == whole, moment
        assert not path.with_name("a.h5.tmp").exists()


def test_every_prefix_of_all_that_a_run_does_is_no_file_or_one_with_exactly_its_safe_blocks(sealed_run, tmp_path):
    """Kills rather than power cuts: what was written is there, the last write perhaps in part."""
    content = bytearray()
    path = tmp_path / "a.h5"
    renamed = False
    for moment, change in enumerate(sealed_run.changes):
        parts = [change]
        if isinstance(change[0], int):
            parts = [(change[0], change[1][: len(change[1]) * part // 4]) for part in (1, 2, 3, 4)]
        renamed = renamed or change == ("rename",)
        for part in parts:
            apply(content, part)
            if renamed:
                path.write_bytes(content)
                safe = set(range(sealed_run.acknowledged(moment)))
                assert safe <= set(truly_committed(path)) <= {*safe, len(safe)}
    assert renamed
