"""Files with a valid footer behind whatever a test puts in them: the documented format, written a second time."""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import h5py

MAGIC = b"geometry sealed file 2\r\n"
CHANGING = ("log/checksum", "log/state", "log/complete")


def end_of_hdf5(content: bytes) -> int:
    """Where HDF5's part ends and the footer begins."""
    return struct.unpack_from("<Q", content, 40)[0]


def spans_of(content: bytes) -> list[tuple[int, int]]:
    """Offset and length of the parts that may change, as a file's own footer has them."""
    end = end_of_hdf5(content)
    (count,) = struct.unpack_from("<Q", content, end + 32)
    numbers = struct.unpack_from(f"<{2 * count}Q", content, end + 72)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def resealed(content: bytes, spans: list[tuple[int, int]] | None = None) -> bytes:
    """The same file with a footer that agrees with what it holds."""
    spans = spans_of(content) if spans is None else spans
    hdf5 = content[: end_of_hdf5(content)]
    table = b"".join(struct.pack("<2Q", *span) for span in spans)
    head = MAGIC + struct.pack("<2Q", len(hdf5) + 72 + len(table), len(spans))
    rest = bytearray(hdf5)
    for offset, nbytes in reversed(spans):
        del rest[offset : offset + nbytes]
    return hdf5 + head + hashlib.sha256(rest + head + table).digest() + table


def reseal(path: Path) -> None:
    """Give a file a footer that agrees with what h5py has since done to it."""
    with h5py.File(path, "r") as file:
        sites = [name.decode() for name in file["log/sites"][:]] if "log/sites" in file else []
        present = [name for name in (*sites, *CHANGING) if isinstance(file.get(name), h5py.Dataset)]
        spans = sorted((file[name].id.get_offset() or 0, file[name].nbytes) for name in present)
    path.write_bytes(resealed(path.read_bytes(), [span for span in spans if span[1]]))


def change(path: Path, how: Callable[[h5py.File], object]) -> None:
    """Let h5py change a sealed file, and seal it again."""
    with h5py.File(path, "r+") as file:
        how(file)
    reseal(path)


def sealed_around(path: Path, fill: Callable[[h5py.File], object]) -> None:
    """Make a file that holds whatever `fill` puts in it, under a valid footer that lets nothing change."""
    with h5py.File(path, "w") as file:
        fill(file)
    path.write_bytes(resealed(path.read_bytes(), []))
