"""The last bytes of a sealed file: they prove the rest before HDF5 reads any of it.

They begin where HDF5's part ends, which its superblock (version 0) tells at byte 40; HDF5 leaves them alone.
Numbers are little-endian uint64:

    0    24 bytes   "geometry sealed file 2" CR LF
    24   number     length of the file
    32   number     how many spans follow
    40   32 bytes   SHA-256 of all bytes of the file outside these 32 and outside the spans
    72   2 numbers  offset and length of each span that changes while the file is filled; ascending
"""

import hashlib
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.errors import CorruptFileError, FingerprintError, GeometryError

SEALED_VERSION = 2
_NAME = b"geometry sealed file "
_MAGIC = _NAME + f"{SEALED_VERSION}\r\n".encode()
_NUMBERS = struct.Struct("<24s2Q")
_SPANS = _NUMBERS.size + 32
_SUPERBLOCK = struct.Struct("<8sB4xB26xQ")  # signature, version, bytes of an address, end of HDF5's part
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_SPANS = 1 << 20
_AGAIN = "copy it again or record it anew with --overwrite"
_PIECE = 1 << 20

Span = tuple[int, int]

Stamp = tuple[int, ...]
"""What the system says of a file: other things of another file, and of the same file once a byte of it was written."""


@dataclass(frozen=True)
class Footer:
    """What the last bytes of a sealed file say.

    Attributes:
        offset: where it begins, and HDF5's part ends.
        spans: offset and length of everything that changes while the file is filled, ascending.
        digest: SHA-256 of all the rest.
    """

    offset: int
    spans: tuple[Span, ...]
    digest: bytes = bytes(32)

    @property
    def size(self) -> int:
        """Length of the whole file."""
        return self.offset + _SPANS + 16 * len(self.spans)

    def packed(self) -> bytes:
        """The footer as it stands in the file."""
        spans = struct.pack(f"<{2 * len(self.spans)}Q", *(number for span in self.spans for number in span))
        return _NUMBERS.pack(_MAGIC, self.size, len(self.spans)) + self.digest + spans


def stamp_of(handle: int) -> Stamp:
    """The stamp of an open file: take it before reading, and what was read is so for as long as the stamp is."""
    now = os.fstat(handle)
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def checked_footer(handle: int, path: Path, known: Stamp | None = None) -> Footer:
    """The footer of an open file, after comparing every byte that never changes with its digest.

    Args:
        handle: the file.
        path: how messages call it.
        known: a stamp of the file from before it was last compared; while it is the same that is not done again.

    Raises:
        CorruptFileError: the file is no sealed file, is shorter or longer than it was, or is damaged anywhere
            outside what is filled block by block.
        FingerprintError: it is of another format version.
    """
    footer = read_footer(handle, path)
    if known != stamp_of(handle) and frozen_digest(handle, footer) != footer.digest:
        raise CorruptFileError(f"{path} is damaged outside its activations (in its labels or metadata); {_AGAIN}")
    return footer


def frozen_digest(handle: int, footer: Footer) -> bytes:
    """SHA-256 of every byte of an open file outside the footer's digest and spans."""
    digest = hashlib.sha256()
    position = 0
    for offset, length in [*footer.spans, (footer.offset + _NUMBERS.size, 32), (footer.size, 0)]:
        for part in _pieces(handle, position, offset):
            digest.update(part)
        position = offset + length
    return digest.digest()


def _pieces(handle: int, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        part = os.pread(handle, min(stop - start, _PIECE), start)
        if not part:  # the file was cut off meanwhile: its digest will differ
            return
        yield part
        start += len(part)


def read_footer(handle: int, path: Path) -> Footer:
    """The footer of an open file, its digest not yet compared with anything.

    Raises:
        CorruptFileError, FingerprintError: as for `checked_footer`.
    """
    offset = _end_of_hdf5(handle, path)
    start = os.pread(handle, _SPANS, offset)
    if not start.startswith(_MAGIC) or len(start) < _SPANS:
        raise _refusal(path, start)
    _, size, n_spans = _NUMBERS.unpack(start[: _NUMBERS.size])
    actual = os.fstat(handle).st_size
    if size != actual:
        raise CorruptFileError(f"{path} has {actual:,} bytes where it had {size:,}; {_AGAIN}")
    rest = os.pread(handle, 16 * n_spans, offset + _SPANS) if n_spans <= _MAX_SPANS else b""
    if len(rest) != 16 * n_spans or offset + _SPANS + len(rest) != size:
        raise CorruptFileError(f"{path} has a damaged end; {_AGAIN}")
    numbers = struct.unpack(f"<{2 * n_spans}Q", rest)
    spans = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if not _ascending(spans, _SUPERBLOCK.size, offset):
        raise CorruptFileError(f"{path} has a damaged end; {_AGAIN}")
    return Footer(offset, spans, start[_NUMBERS.size :])


def _end_of_hdf5(handle: int, path: Path) -> int:
    """Where HDF5 says that its part of the file ends."""
    start = os.pread(handle, _SUPERBLOCK.size, 0)
    if not start.startswith(HDF5_SIGNATURE) or len(start) < _SUPERBLOCK.size:
        raise CorruptFileError(f"{path} is not an HDF5 file, or its first bytes are damaged")
    _, version, width, end = _SUPERBLOCK.unpack(start)
    if version or width != 8:
        raise _refusal(path, b"")
    actual = os.fstat(handle).st_size
    if actual < end:
        raise CorruptFileError(f"{path} is cut off: it has {actual:,} of {end:,} bytes; {_AGAIN}")
    return int(end)


def _refusal(path: Path, start: bytes) -> GeometryError:
    version = re.match(re.escape(_NAME) + rb"(\d{1,9})\r\n", start)
    if version and int(version[1]) != SEALED_VERSION:
        return FingerprintError(f"{path} has format version {int(version[1])}; this geometry reads {SEALED_VERSION}")
    return CorruptFileError(
        f"{path} is HDF5 but not a file that this geometry wrote, or was cut off or changed by another program"
    )


def _ascending(spans: Sequence[Span], start: int, stop: int) -> bool:
    for offset, length in spans:
        if not start <= offset <= offset + length <= stop:
            return False
        start = offset + length
    return True
