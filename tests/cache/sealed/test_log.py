"""The log of a sealed file: a block counts if its record is whole, and a reader never sees damage where is none."""

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cache.sealed.log import Log, complete_mark, read_log, seal_of
from cache.sealed.opening import safe_open
from cache.sealed.writer import create_sealed
from tests.cache.sealed_files import BLOCK, SITES, Calls, create_and_fill, fill, layout, seal, span, truly_committed


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a complete file."""
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    create_and_fill(path)
    return path.read_bytes()


def log_of(path: Path) -> Log:
    with safe_open(path) as file:
        return read_log(file)


def overwritten(content: bytes, part: slice, with_: bytes | None = None) -> bytes:
    """The same bytes but for one part: zeros, or what is given."""
    with_ = bytes(part.stop - part.start) if with_ is None else with_
    return content[: part.start] + with_ + content[part.start + len(with_) :]


def state_of(path: Path, block: int) -> slice:
    start = span(path, "log/state").start + 8 * block
    return slice(start, start + 8)


# --- runs and seals


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_runs_are_the_longest_stretches_of_rows_of_one_block(numbers):
    block = np.array(numbers, dtype=np.int32)
    n_blocks = max(numbers) + 2
    empty = np.zeros((n_blocks, 0), dtype="<u8")
    runs = Log("", block, {}, empty, np.zeros(n_blocks, dtype=bool), (), "none").runs()
    assert len(runs) == n_blocks
    for number, own in enumerate(runs):
        assert [row for start, stop in own for row in range(start, stop)] == np.flatnonzero(block == number).tolist()
        assert all(start < stop for start, stop in own)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(own))


@given(
    block=st.integers(0, 1 << 40),
    sums=st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=5),
    place=st.integers(0, 4),
    bit=st.integers(0, 63),
)
def test_a_seal_is_the_documented_hash_and_depends_on_fingerprint_block_and_every_checksum(block, sums, place, bit):
    checksums = np.array(sums, dtype=np.uint64)
    value = seal_of("f" * 64, block, checksums)
    assert value == seal(block, checksums.astype("<u8").tobytes(), "f" * 64)
    other = checksums.copy()
    other[place % len(sums)] ^= np.uint64(1 << bit)
    assert len({value, seal_of("f" * 64, block, other), seal_of("e" * 64, block, checksums)}) == 3
    assert seal_of("f" * 64, block + 1, checksums) not in (value, 0)


def test_a_seal_is_never_the_mark_of_an_empty_record(monkeypatch):
    class Zero:
        def __init__(self, content):
            pass

        def update(self, content):
            pass

        def intdigest(self):
            return 0

    monkeypatch.setattr(xxhash, "xxh3_64", Zero)
    assert seal_of("f", 0, np.zeros(1, np.uint64)) != 0


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=6))
def test_the_mark_is_the_seal_of_all_states_numbered_by_their_count(states):
    array = np.array(states, dtype="<u8")
    mark = complete_mark("f" * 64, array)
    assert mark == seal(len(states), array.tobytes(), "f" * 64) == seal_of("f" * 64, len(states), array)
    assert complete_mark("f" * 64, array[::-1]) == mark or states != states[::-1]


# --- changed records


def test_any_change_of_a_log_record_uncommits_its_block_alone_and_a_second_run_restores_it(path, whole):
    path.write_bytes(whole)
    parts = {name: (span(path, name).start, width) for name, width in (("log/checksum", 16), ("log/state", 8))}
    for start, width in parts.values():
        for byte in range(4 * width):
            content = bytearray(whole)
            content[start + byte] ^= 1 << (byte % 8)
            path.write_bytes(content)
            assert truly_committed(path) == [block for block in range(4) if block != byte // width]
            if byte % 5 == 0:
                fill(path)
                assert path.read_bytes() == whole


def test_a_record_copied_from_another_block_or_another_file_does_not_count(path, whole):
    path.write_bytes(whole)
    sums, states = span(path, "log/checksum"), span(path, "log/state")
    content = bytearray(whole)
    content[sums.start : sums.start + 16] = content[sums.start + 16 : sums.start + 32]
    content[states.start : states.start + 8] = content[states.start + 8 : states.start + 16]
    path.write_bytes(content)
    assert truly_committed(path) == [1, 2, 3]
    create_sealed(path, layout(fingerprint="0" * 64))
    content = bytearray(path.read_bytes())
    for part in (sums, states, span(path, "log/complete"), *(span(path, site) for site in SITES)):
        content[part] = whole[part]
    path.write_bytes(content)
    log = log_of(path)
    assert not log.committed.any()
    assert log.damaged == (0, 1, 2, 3)


# --- what a file's log says


def test_the_log_says_where_the_documented_arrays_lie(path, whole):
    path.write_bytes(whole)
    log = log_of(path)
    with h5py.File(path, "r") as file:
        assert list(log.sites) == [name.decode() for name in file["log/sites"][:]] == list(SITES)
        for name, site in log.sites.items():
            assert (site.offset, site.dtype) == (file[name].id.get_offset(), file[name].dtype)
            assert (len(BLOCK), *site.row_shape) == file[name].shape
            assert site.row_bytes * len(BLOCK) == file[name].nbytes
        np.testing.assert_array_equal(log.block, BLOCK)
        np.testing.assert_array_equal(log.checksums, file["log/checksum"][:])
        assert log.fingerprint == file.attrs["fingerprint"].decode()
    assert log.runs() == [[(0, 2), (3, 4)], [(2, 3), (6, 7)], [(4, 6)], [(7, 8)]]
    assert log.committed.all()
    assert log.damaged == ()
    assert log.mark == "right"


def test_a_new_file_has_no_block_no_damage_and_no_mark(path):
    create_sealed(path, layout())
    log = log_of(path)
    assert not log.committed.any()
    assert (log.damaged, log.mark) == ((), "none")


@pytest.mark.parametrize("blocks", [few for n in range(5) for few in itertools.combinations(range(4), n)], ids=str)
def test_a_record_gone_from_a_complete_file_is_damage_and_from_another_a_block_not_recorded(path, whole, blocks):
    path.write_bytes(whole)
    mark = span(path, "log/complete")
    content = whole
    for block in blocks:
        content = overwritten(content, state_of(path, block))
    for complete in (True, False):
        path.write_bytes(content if complete else overwritten(content, mark))
        log = log_of(path)
        assert log.committed.tolist() == [block not in blocks for block in range(4)]
        assert log.damaged == (blocks if complete else ())
        assert log.mark == ("right" if complete else "none")
        fill(path)
        assert path.read_bytes() == whole, "recording again mends it"


def test_a_record_that_is_not_whole_is_damage_in_any_file(path, whole):
    path.write_bytes(whole)
    mark, state = span(path, "log/complete"), state_of(path, 2)
    for content in (whole, overwritten(whole, mark)):
        path.write_bytes(overwritten(content, state, b"\1" * 8))
        log = log_of(path)
        assert log.committed.tolist() == [True, True, False, True]
        assert log.damaged == (2,)


def test_any_other_mark_on_a_whole_file_is_wrong_and_recording_again_mends_it(path, whole):
    path.write_bytes(whole)
    mark = span(path, "log/complete")
    for place, bit in itertools.product(range(8), (0, 3, 7)):
        byte = whole[mark.start + place] ^ 1 << bit
        path.write_bytes(overwritten(whole, slice(mark.start + place, mark.start + place + 1), bytes([byte])))
        log = log_of(path)
        assert (log.damaged, log.mark) == ((), "wrong")
        assert log.committed.all()
    fill(path)
    assert path.read_bytes() == whole


def test_the_mark_of_another_file_is_wrong(path, whole):
    create_sealed(path, layout(fingerprint="0" * 64))
    fill(path)
    mark = span(path, "log/complete")
    path.write_bytes(overwritten(path.read_bytes(), mark, whole[mark]))
    assert log_of(path).mark == "wrong"


def test_a_mark_on_a_file_that_is_not_complete_makes_all_that_is_missing_damage(path, whole):
    create_sealed(path, layout())
    fill(path, order=[1])
    mark = span(path, "log/complete")
    path.write_bytes(overwritten(path.read_bytes(), mark, whole[mark]))
    log = log_of(path)
    assert log.committed.tolist() == [False, True, False, False]
    assert log.damaged == (0, 2, 3)


# --- a reader beside a writer


def log_writes(path, monkeypatch) -> list[tuple[bytes, int]]:
    """What a writer writes to the log of a new file, in order."""
    with monkeypatch.context() as patch:
        patch.setattr("cache.sealed.writer.os", calls := Calls())
        fill(path)
    log = [span(path, f"log/{name}") for name in ("checksum", "state", "complete")]
    writes = [call[1:] for call in calls.made if call[0] == "pwrite"]
    return [write for write in writes if any(part.start <= write[1] < part.stop for part in log)]


class Meanwhile:
    """A file that a writer goes on with between a reader's reads of its log."""

    def __init__(self, path: Path, start: bytes, writes: list[tuple[bytes, int]], monkeypatch) -> None:
        self._path, self._start, self._writes = path, start, writes
        self._done: dict[str, int] = {}
        self.order: list[str] = []
        real = h5py.Dataset.__getitem__

        def read(dataset, chosen):
            name = dataset.name.removeprefix("/log/")
            if name in self._done:
                self.order.append(name)
                self._bring(self._done[name])
            return real(dataset, chosen)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", read)

    def log(self, **done: int) -> Log:
        """What a reader makes of it if so many writes are done when it reads each part."""
        self._done = {}
        self.order = []
        self._bring(min(done.values()))
        with safe_open(self._path) as file:
            self._done = done
            return read_log(file)

    def _bring(self, n_writes: int) -> None:
        content = bytearray(self._start)
        for written, offset in self._writes[:n_writes]:
            content[offset : offset + len(written)] = written
        with self._path.open("r+b") as file:
            file.write(content)


def test_a_reader_never_sees_damage_in_a_file_that_is_being_written(path, monkeypatch):
    create_sealed(path, layout())
    start = path.read_bytes()
    writes = log_writes(path, monkeypatch)
    assert len(writes) == 9  # each block's checksums and state, and the mark
    file = Meanwhile(path, start, writes, monkeypatch)
    for first, then, last in itertools.combinations_with_replacement(range(10), 3):
        log = file.log(complete=first, state=then, checksum=last)
        assert file.order == ["complete", "state", "checksum"], "against the order of writing"
        assert log.damaged == ()
        assert log.committed.tolist() == [then >= 2 * block + 2 for block in range(4)]
        assert log.mark == ("right" if first == 9 else "none")
    blind = not any(
        file.log(complete=first, state=then, checksum=last).damaged
        for first, then, last in [(9, 5, 5), (5, 6, 5), (2, 2, 0), (9, 7, 9)]
    )
    assert not blind, "in another order of reading there would be false damage"
