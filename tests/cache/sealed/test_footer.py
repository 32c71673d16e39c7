"""The footer of a sealed file: the documented bytes, and no byte that never changes can change unnoticed."""

import hashlib
import os
import re
import struct
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.errors import CorruptFileError, FingerprintError
from cache.sealed.footer import Footer, checked_footer, frozen_digest, stamp_of
from cache.sealed.opening import open_checked
from cache.sealed.writer import create_sealed
from tests.cache.resealing import MAGIC, resealed
from tests.cache.sealed_files import SITES, create_and_fill, fill, layout

DAMAGED = (
    "is damaged outside its activations (in its labels or metadata); copy it again or record it anew with --overwrite"
)
END = "has a damaged end; copy it again or record it anew with --overwrite"
NOT_OURS = "is HDF5 but not a file that this geometry wrote, or was cut off or changed by another program"
NAMES = [*SITES, "log/checksum", "log/state", "log/complete"]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    create_and_fill(path)
    return path.read_bytes()


def parsed(content: bytes) -> tuple[int, int, list[tuple[int, int]], bytes]:
    """Where the footer begins, length of the file, the spans and the digest, by the documentation alone."""
    end = int.from_bytes(content[40:48], "little")
    footer = content[end:]
    assert footer[:24] == b"geometry sealed file 2\r\n"
    size, count = (int.from_bytes(footer[at : at + 8], "little") for at in (24, 32))
    assert len(footer) == 72 + 16 * count
    numbers = [int.from_bytes(footer[at : at + 8], "little") for at in range(72, len(footer), 8)]
    return end, size, list(zip(numbers[::2], numbers[1::2], strict=True)), footer[40:72]


def checked(path: Path, content: bytes) -> Footer:
    path.write_bytes(content)
    handle = os.open(path, os.O_RDONLY)
    try:
        return checked_footer(handle, path)
    finally:
        os.close(handle)


def superblock(end: int) -> bytes:
    """The first 48 bytes of an HDF5 file that is so long."""
    return b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08\0" + bytes(24) + end.to_bytes(8, "little")


def file_of(end: int, spans: list[tuple[int, int]], **wrong: int) -> bytes:
    """A file of zeros with any footer; its digest is right wherever that has a meaning."""
    footer = MAGIC + struct.pack("<2Q", wrong.get("size", end + 72 + 16 * len(spans)), wrong.get("count", len(spans)))
    packed = b"".join(struct.pack("<2Q", *span) for span in spans)
    before = superblock(end).ljust(end, b"\0")
    rest = bytearray(before)
    for offset, nbytes in reversed(spans):
        del rest[offset : offset + nbytes]
    return before + footer + hashlib.sha256(rest + footer + packed).digest() + packed


def refusal_of(path: Path, content: bytes) -> str:
    """What is said of a file after its path."""
    with pytest.raises((CorruptFileError, FingerprintError)) as refusal:
        checked(path, content)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.startswith(f"{path} ")
    return message.removeprefix(f"{path} ")


# --- the format


def test_a_file_ends_with_the_documented_footer_where_hdf5_says_that_its_part_ends(path, whole):
    path.write_bytes(whole)
    with h5py.File(path, "r") as file:
        places = sorted((file[name].id.get_offset(), file[name].nbytes) for name in NAMES)
        assert file.userblock_size == 0
    end, size, spans, digest = parsed(whole)
    assert size == len(whole)
    assert spans == places
    for part in (slice(9), slice(13, 14), slice(40, 48)):
        assert whole[part] == superblock(end)[part]
    frozen = bytearray(whole)
    for offset, nbytes in [(end + 40, 32), *reversed(spans)]:
        del frozen[offset : offset + nbytes]
    assert hashlib.sha256(frozen).digest() == digest
    assert resealed(whole) == whole
    assert checked(path, whole) == Footer(end, tuple(spans), digest)


def test_filling_a_file_leaves_its_footer_as_it_is(path, whole):
    create_sealed(path, layout())
    end = parsed(whole)[0]
    assert path.read_bytes()[end:] == whole[end:]
    fill(path)
    assert path.read_bytes()[end:] == whole[end:]


numbers = st.integers(0, (1 << 64) - 1)


@given(
    st.lists(st.tuples(numbers, numbers), max_size=60), st.integers(96, 1 << 60), st.binary(min_size=32, max_size=32)
)
def test_a_footer_is_packed_as_documented(spans, offset, digest):
    footer = Footer(offset, tuple(spans), digest)
    expected = b"geometry sealed file 2\r\n" + (offset + 72 + 16 * len(spans)).to_bytes(8, "little")
    expected += len(spans).to_bytes(8, "little") + digest
    expected += b"".join(number.to_bytes(8, "little") for span in spans for number in span)
    assert footer.packed() == expected
    assert footer.size == offset + len(expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30),
    tail=st.integers(0, 50),
    seed=st.integers(0, 99),
)
def test_any_ascending_spans_are_left_out_of_the_digest_and_nothing_else_is(path, gaps, tail, seed):
    spans, end = [], 48
    for gap, nbytes in gaps:
        spans.append((end + gap, nbytes))
        end += gap + nbytes
    end += tail
    content = resealed(superblock(end) + np.random.default_rng(seed).bytes(end)[48:], spans)
    assert checked(path, content).spans == tuple(spans)
    changing = {i for offset, nbytes in spans for i in range(offset, offset + nbytes)}
    unread = {*range(9, 13), *range(14, 40)}  # by us; but in the digest
    for place in np.random.default_rng(seed).integers(len(content), size=30).tolist():
        other = bytearray(content)
        other[place] ^= 1 << seed % 8
        if place in changing:
            assert checked(path, bytes(other)).spans == tuple(spans)
        else:
            assert refusal_of(path, bytes(other)) == DAMAGED or place not in unread


# --- damage


def test_every_single_changed_byte_that_never_changes_is_refused_and_of_the_others_none(path, whole):
    random = np.random.default_rng(0)
    end, _, spans, _ = parsed(whole)
    changing = {i for offset, nbytes in spans for i in range(offset, offset + nbytes)}
    path.write_bytes(whole)
    handle = os.open(path, os.O_RDWR)
    told = set()
    for place in range(len(whole)):
        bits = range(8) if place < 96 or place >= end else [int(random.integers(8))]
        for bit in bits:
            os.pwrite(handle, bytes([whole[place] ^ 1 << bit]), place)
            try:
                checked_footer(handle, path)
                assert place in changing
            except (CorruptFileError, FingerprintError) as error:
                assert place not in changing
                told.add(re.sub(r"[\d,]{2,}|1", "N", str(error).removeprefix(f"{path} ")))
        os.pwrite(handle, whole[place : place + 1], place)
    assert checked_footer(handle, path).size == len(whole)
    os.close(handle)
    versions = {message for message in told if message.startswith("has format version ")}
    assert told - versions == {
        DAMAGED,
        END,
        NOT_OURS,
        "is not an HDF5 file, or its first bytes are damaged",
        "is cut off: it has N of N bytes; copy it again or record it anew with --overwrite",
        "has N bytes where it had N; copy it again or record it anew with --overwrite",
    }
    assert versions <= {f"has format version {version}; this geometry reads 2" for version in "036"}


@pytest.mark.parametrize("field", ["end of HDF5", "size", "count", "offset of a span", "length of a span"])
def test_any_number_that_is_not_its_own_is_refused_in_little_memory(path, whole, field):
    end = parsed(whole)[0]
    at = {"end of HDF5": 40, "size": end + 24, "count": end + 32, "offset of a span": end + 72}.get(field, end + 80)
    own = int.from_bytes(whole[at : at + 8], "little")
    for other in {0, 1, own - 1, own + 1, 2 * own, 1 << 20, 1 << 32, 1 << 63, (1 << 64) - 1} - {own}:
        tracemalloc.start()
        refusal_of(path, whole[:at] + other.to_bytes(8, "little") + whole[at + 8 :])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6, "2 ** 20 spans at most"


SIZE = 4096
BAD_SPANS = {
    "descending": [(2000, 10), (1000, 10)],
    "overlapping by one byte": [(1000, 11), (1010, 10)],
    "one inside another": [(1000, 100), (1010, 10)],
    "the same twice": [(1000, 10), (1000, 10)],
    "on the superblock": [(0, 10)],
    "on its last byte": [(47, 10)],
    "one byte into the footer": [(SIZE - 10, 11)],
    "on the digest": [(SIZE + 40, 32)],
    "from beyond HDF5's end": [(SIZE + 1, 0)],
    "to nearly 2 ** 64": [(1000, (1 << 64) - 1)],
    "wrapping around 2 ** 64": [((1 << 64) - 8, 1000)],
}


@pytest.mark.parametrize("kind", BAD_SPANS)
def test_spans_that_do_not_ascend_between_superblock_and_footer_are_refused(path, kind):
    assert refusal_of(path, file_of(SIZE, BAD_SPANS[kind])) == END
    with pytest.raises(CorruptFileError, match="has a damaged end"):
        open_checked(path)


def test_spans_that_touch_each_other_superblock_and_footer_are_taken(path):
    spans = [(48, 100), (148, 0), (148, 8), (3000, SIZE - 3000)]
    assert checked(path, file_of(SIZE, spans)).spans == tuple(spans)


def test_more_or_fewer_spans_than_the_footer_holds_are_refused(path):
    spans = [(1000, 10), (2000, 10)]
    for count in (0, 1, 3, 300, 1 << 20, (1 << 20) + 1, 1 << 60, (1 << 64) - 1):
        assert refusal_of(path, file_of(SIZE, spans, count=count)) == END
    assert checked(path, file_of(SIZE, spans, count=2)).spans == tuple(spans)


@pytest.mark.parametrize("size", [0, 1, SIZE, SIZE + 71, SIZE + 73, 1 << 63])
def test_a_length_that_the_file_has_not_is_told_with_both_numbers(path, size):
    message = refusal_of(path, file_of(SIZE, [], size=size))
    assert message == f"has {SIZE + 72:,} bytes where it had {size:,}; copy it again or record it anew with --overwrite"


def test_a_footer_cut_off_anywhere_is_refused(path, whole):
    end = parsed(whole)[0]
    for length in range(end, len(whole)):
        message = refusal_of(path, whole[:length])
        told = f"has {length:,} bytes where it had {len(whole):,}; copy it again or record it anew with --overwrite"
        assert message == (NOT_OURS if length < end + 72 else told)


@pytest.mark.parametrize(("version", "width"), [(1, 8), (2, 8), (3, 8), (0, 4), (0, 2), (0, 16)])
def test_a_superblock_of_another_kind_is_refused(path, version, width):
    content = bytearray(file_of(SIZE, []))
    content[8], content[13] = version, width
    assert refusal_of(path, bytes(content)) == NOT_OURS


# --- reading


def test_a_file_cut_off_while_it_is_compared_is_refused(path, whole, monkeypatch):
    real, needed = os.pread, (0, parsed(whole)[0], parsed(whole)[0] + 72)
    monkeypatch.setattr(os, "pread", lambda handle, n, at: real(handle, n, at) if at in needed else b"")
    assert refusal_of(path, whole) == DAMAGED


def test_short_reads_are_continued(path, whole, monkeypatch):
    real, needed = os.pread, (0, parsed(whole)[0], parsed(whole)[0] + 72)
    monkeypatch.setattr(os, "pread", lambda handle, n, at: real(handle, n if at in needed else min(n, 7), at))
    assert checked(path, whole).digest == parsed(whole)[3]


def test_a_large_frozen_part_is_compared_in_pieces(path):
    content = file_of(20 << 20, [(1000, 24)])
    path.write_bytes(content)
    handle = os.open(path, os.O_RDONLY)
    tracemalloc.start()
    footer = checked_footer(handle, path)
    assert frozen_digest(handle, footer) == footer.digest
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    os.close(handle)
    assert peak < 4 << 20


def test_what_may_change_is_not_read_at_all(path, whole, monkeypatch):
    spans = parsed(whole)[2]
    seen = []
    real = os.pread

    def note(handle, length, at):
        part = real(handle, length, at)
        seen.append((at, at + len(part)))
        return part

    monkeypatch.setattr(os, "pread", note)
    checked(path, whole)
    assert not any(start < offset + nbytes and offset < stop for start, stop in seen for offset, nbytes in spans)
    once = len(whole) - sum(nbytes for _, nbytes in spans)
    assert sum(stop - start for start, stop in seen) <= once + 48 + 72 + 16 * len(spans)


def test_a_file_is_read_again_only_if_its_stamp_has_changed(path, whole, monkeypatch):
    path.write_bytes(whole)
    compared = []
    monkeypatch.setattr("cache.sealed.footer.frozen_digest", lambda handle, footer: compared.append(1) or footer.digest)
    handle = os.open(path, os.O_RDWR)
    stamp = stamp_of(handle)
    assert checked_footer(handle, path, stamp) == checked_footer(handle, path)
    assert len(compared) == 1  # of the second, which knows of no stamp
    time.sleep(0.05)  # a file system's clock goes on
    os.pwrite(handle, whole[-1:], len(whole) - 1)
    os.utime(path, ns=(stamp[3], stamp[3]))
    checked_footer(handle, path, stamp)
    os.close(handle)
    assert len(compared) == 2
