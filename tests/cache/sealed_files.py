"""Small sealed files, what they hold, and the documented format of their log, written a second time."""

import os
from pathlib import Path

import h5py
import numpy as np
import xxhash

from cache.sealed.log import read_log
from cache.sealed.opening import safe_open
from cache.sealed.writer import SealedLayout, create_sealed, open_writer

BLOCK = np.array([0, 0, 1, 0, 2, 2, 1, 3], dtype=np.int32)  # blocks 0 and 1 are in two pieces
SITES = {"activations/a": ((3,), "float32"), "activations/b": ((2, 2), "float16")}
FINGERPRINT = "5ea1" * 16
TEXTS = np.array([text.encode() for text in ("één", "", "日本 twee")])


def layout(block=BLOCK, fingerprint=FINGERPRINT) -> SealedLayout:
    return SealedLayout(
        sites=SITES,
        frozen={"rows/prompt": np.arange(len(block), dtype=np.int32), "prompts/text": TEXTS},
        block=block,
        attributes={"format": "made by hånd", "fingerprint": fingerprint, "command": ""},
    )


def values(block=BLOCK) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {site: random.normal(size=(len(block), *shape)).astype(dtype) for site, (shape, dtype) in SITES.items()}


def fill(path: Path, block=BLOCK, order=None) -> None:
    """Write and commit what is not committed yet, and mark the file if it is then complete."""
    truth = values(block)
    with open_writer(path) as writer:
        for number in range(len(writer.committed)) if order is None else order:
            if not writer.committed[number]:
                writer.commit(int(number), {s: writer.write(int(number), s, truth[s][block == number]) for s in SITES})
        writer.finish()


def create_and_fill(path: Path) -> None:
    if not path.exists():
        create_sealed(path, layout())
    fill(path)


def span(path: Path, name: str) -> slice:
    """The bytes of a dataset in its file, by plain h5py."""
    with h5py.File(path, "r") as file:
        offset = file[name].id.get_offset()
        return slice(offset, offset + file[name].nbytes)


def seal(block: int, checksums: bytes, fingerprint: str = FINGERPRINT) -> int:
    """The seal as documented, computed apart."""
    return xxhash.xxh3_64_intdigest(f"{fingerprint}:{block}:".encode() + checksums)


def truly_committed(path: Path) -> list[int]:
    """The committed blocks by the documented format alone; each is checked against the truth, value for value.

    What `read_log` says of the same file is the same: of its blocks, of its damage and of its mark.
    """
    truth = values()
    with h5py.File(path, "r") as file:
        states, sums, block, mark = (file[f"log/{name}"][:] for name in ("state", "checksum", "block", "complete"))
        blocks = [b for b in range(len(states)) if int(states[b]) == seal(b, sums[b].astype("<u8").tobytes())]
        for number in blocks:
            for site in SITES:
                np.testing.assert_array_equal(file[site][:][block == number], truth[site][block == number])
    with safe_open(path) as file:
        log = read_log(file)
    assert np.flatnonzero(log.committed).tolist() == blocks
    assert list(log.damaged) == [b for b in range(len(states)) if b not in blocks and (states[b] or mark[0])]
    assert (log.mark == "none") == (not mark[0])
    if mark[0] and not log.damaged:
        assert (log.mark == "right") == (int(mark[0]) == seal(len(states), states.astype("<u8").tobytes()))
    return blocks


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Calls:
    """Stands for `os` in cache.sealed.writer: notes the calls that change files, and fails at the n-th."""

    watched = ("pwrite", "fdatasync", "fsync", "replace", "posix_fallocate")

    def __init__(self, fail_at: int = 0, failure: BaseException | None = None) -> None:
        self.fail_at, self.failure = fail_at, failure
        self.made: list[tuple] = []

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self.watched:
            return real

        def call(*arguments):
            content = (bytes(arguments[1]), arguments[2]) if name == "pwrite" else ()
            self.made.append((name, *content))
            if len(self.made) == self.fail_at:
                if name == "pwrite":  # torn
                    os.pwrite(arguments[0], content[0][: len(content[0]) // 2], content[1])
                raise self.failure
            return real(*arguments)

        return call
