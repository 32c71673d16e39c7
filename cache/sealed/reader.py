"""Reading rows of a sealed file at their known places, each block compared with its checksum when first touched."""

import itertools
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Bool, Int, Num

from cache.errors import CorruptFileError
from cache.sealed.log import Log, Site

_GAP = 64  # reading so many rows too many costs less than another call
_SPAN = 8192  # sparse rows are few, and what lies between them many: so much is in memory at a time
_PIECE = 1 << 20  # bytes that a checksum takes at a time: they stay in the processor's cache


class SiteReader:
    """Reads rows of an open sealed file's sites; takes over the handle."""

    def __init__(self, path: Path, handle: int, log: Log) -> None:
        self._path, self._handle, self._log = path, handle, log
        self._columns = {name: column for column, name in enumerate(log.sites)}
        self._checked = {name: np.zeros(len(log.committed), dtype=bool) for name in log.sites}
        self._finalizer = weakref.finalize(self, os.close, handle)

    def read(
        self, name: str, head: int | None, rows: Int[np.ndarray, "chosen"], out: Num[np.ndarray, "chosen d"]
    ) -> None:
        """Read rows of a site, ascending, into `out` and its type; of a site with heads all, side by side, or one.

        Raises:
            CorruptFileError: a block that one of the rows belongs to is not what was written.
        """
        self._check(name, rows)
        site = self._log.sites[name]
        for first, last in _stretches(rows):
            start, stop = int(rows[first]), int(rows[last - 1]) + 1
            part = out[first:last]
            if head is None and stop - start == last - first and site.dtype == out.dtype:
                self._fill(part, site.offset + start * site.row_bytes)
                continue
            stretch = np.empty((stop - start, *site.row_shape), dtype=site.dtype)
            self._fill(stretch, site.offset + start * site.row_bytes)
            chosen = stretch[rows[first:last] - start]
            _widen((chosen if head is None else chosen[:, head]).reshape(part.shape), part)

    @property
    def closed(self) -> bool:
        """Whether nothing can be read any more."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Close the file; what is never closed is when it is collected."""
        self._finalizer()

    def _fill(self, target: np.ndarray, offset: int) -> None:
        _read_into(self._handle, self._path, memoryview(target.data).cast("B"), offset)

    def _check(self, name: str, rows: Int[np.ndarray, "chosen"]) -> None:
        """Compare each block that has one of these rows with its checksum, unless that was done before."""
        checked = self._checked[name]
        touched = np.zeros_like(checked)
        touched[self._log.block[rows]] = True
        touched &= ~checked
        if not touched.any():
            return
        digests = block_digests(self._handle, self._path, self._log, name, touched)
        for block, digest in digests.items():
            if digest != int(self._log.checksums[block, self._columns[name]]):
                raise CorruptFileError(
                    f"{self._path} is damaged: block {block} of {name} is not what was written; "
                    "geometry verify lists all damage"
                )
        checked |= touched


def block_digests(handle: int, path: Path, log: Log, name: str, chosen: Bool[np.ndarray, "block"]) -> Mapping[int, int]:
    """XXH3-64 of the chosen blocks' rows of a site as they are on disk, read in the order of the file.

    Raises:
        CorruptFileError: the file ends before they do.
    """
    site = log.sites[name]
    digests = {block: xxhash.xxh3_64() for block in chosen.nonzero()[0].tolist()}
    buffer = memoryview(bytearray(_PIECE))
    for block, offset, length in _pieces(site, log.block, chosen):
        _read_into(handle, path, buffer[:length], offset)
        digests[block].update(buffer[:length])
    return {block: digest.intdigest() for block, digest in digests.items()}


def _widen(values: Num[np.ndarray, "chosen d"], out: Num[np.ndarray, "chosen d"]) -> None:
    if values.dtype == out.dtype:
        out[...] = values
        return
    import torch  # five times faster than numpy at halves; who only looks at a file's tables does without

    torch.from_numpy(out).copy_(torch.from_numpy(values))


def _read_into(handle: int, path: Path, view: memoryview, offset: int) -> None:
    """Fill `view` from the file, which may have been cut off meanwhile."""
    while len(view):
        done = os.preadv(handle, [view], offset)
        if not done:
            raise CorruptFileError(
                f"{path} was cut off while it was open; copy it again or record it anew with --overwrite"
            )
        view, offset = view[done:], offset + done


def _pieces(
    site: Site, block: Int[np.ndarray, "row"], chosen: Bool[np.ndarray, "block"]
) -> Iterator[tuple[int, int, int]]:
    """Block, offset and length of every piece of the chosen blocks' rows, in the order of the file."""
    edges = np.flatnonzero(np.diff(block)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(block)]])
    wanted = chosen[block[starts]]
    offsets = (site.offset + starts[wanted].astype(np.int64) * site.row_bytes).tolist()
    ends = (site.offset + stops[wanted].astype(np.int64) * site.row_bytes).tolist()
    for number, offset, end in zip(block[starts[wanted]].tolist(), offsets, ends, strict=True):
        for place in range(offset, end, _PIECE):
            yield number, place, min(_PIECE, end - place)


def _stretches(rows: Int[np.ndarray, "chosen"]) -> Iterator[tuple[int, int]]:
    """Parts `[first, last)` of ascending rows to be read at once: at most `_SPAN` long, bridging `_GAP` at most."""
    breaks = np.flatnonzero((np.diff(rows) > _GAP) | (np.diff(rows // _SPAN) > 0)) + 1
    edges = [0, *breaks.tolist(), len(rows)] if len(rows) else [0]
    yield from itertools.pairwise(edges)
