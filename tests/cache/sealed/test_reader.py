"""Reading rows at their places: what is given is what was written, or the block that is not is named."""

import os
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.errors import CorruptFileError
from cache.sealed import reader as module
from cache.sealed.log import read_log
from cache.sealed.opening import open_beside, safe_open
from cache.sealed.reader import SiteReader, block_digests
from cache.sealed.writer import SealedLayout, create_sealed, open_writer

SITES = {
    "activations/flat": ((5,), "float32"),
    "activations/heads": ((3, 4), "float32"),
    "activations/half": ((7,), "float16"),
    "activations/half_heads": ((2, 3), "float16"),
}
BLOCK = np.array([0, 0, 1, 0, 2, 2, 1, 3, 3, 3], dtype=np.int32)
Rows = dict[str, np.ndarray]


def make(path: Path, block=BLOCK, sites=SITES, blocks=None, seed: int = 0) -> Rows:
    """A sealed file with these blocks committed, and what is in it."""
    random = np.random.default_rng(seed)
    truth = {site: random.normal(size=(len(block), *shape)).astype(dtype) for site, (shape, dtype) in sites.items()}
    create_sealed(path, SealedLayout(sites, {"rows/x": np.arange(len(block))}, block, {"fingerprint": "5ea1" * 16}))
    with open_writer(path) as writer:
        for number in range(int(block.max()) + 1) if blocks is None else blocks:
            writer.commit(number, {site: writer.write(number, site, truth[site][block == number]) for site in sites})
        writer.finish()
    return truth


@contextmanager
def opened(path: Path) -> Iterator[SiteReader]:
    with safe_open(path) as file:
        reader = SiteReader(path, open_beside(file), read_log(file))
    yield reader
    reader.close()


def read(reader: SiteReader, site: str, rows, head: int | None = None, sites=SITES) -> np.ndarray:
    shape = sites[site][0]
    width = int(np.prod(shape)) if head is None else shape[-1]
    out = np.full((len(rows), width), np.nan, dtype=np.float32)
    reader.read(site, head, np.asarray(rows, dtype=np.int64), out)
    return out


def expected(truth: Rows, site: str, rows, head: int | None = None) -> np.ndarray:
    chosen = truth[site][np.asarray(rows, dtype=np.int64)].astype(np.float32)
    return chosen.reshape(len(rows), int(np.prod(chosen.shape[1:]))) if head is None else chosen[:, head]


class Reads:
    """Notes offset and length of each read that goes past HDF5."""

    def __init__(self, monkeypatch) -> None:
        self.made: list[tuple[int, int]] = []
        real = os.preadv

        def note(handle, views, offset):
            done = real(handle, views, offset)
            self.made.append((offset, done))
            return done

        monkeypatch.setattr(os, "preadv", note)

    def nbytes(self) -> int:
        """Bytes read since it was asked last."""
        total = sum(length for _, length in self.made)
        self.made = []
        return total


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


def site_of(path: Path, name: str):
    with safe_open(path) as file:
        return read_log(file).sites[name]


def flip(path: Path, at: int, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


# --- what is read


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    shapes=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float16"]),
    gap=st.sampled_from([0, 1, 64]),
    whole_span=st.sampled_from([2, 8192]),
    piece=st.sampled_from([8, 40, 1 << 20]),
    data=st.data(),
)
def test_any_ascending_rows_of_any_file_are_those_of_the_truth(
    path, monkeypatch, numbers, shapes, dtype, gap, whole_span, piece, data
):
    for name, value in {"_GAP": gap, "_SPAN": whole_span, "_PIECE": piece}.items():
        monkeypatch.setattr(module, name, value)
    block = np.array(numbers, dtype=np.int32)
    sites = {f"activations/{i}": (shape, dtype) for i, shape in enumerate(shapes)}
    truth = make(path, block, sites)
    with opened(path) as reader:
        for site, (shape, _) in sites.items():
            rows = sorted(data.draw(st.sets(st.integers(0, len(block) - 1))))
            head = data.draw(st.sampled_from([None, *range(shape[0])])) if len(shape) == 2 else None
            found = read(reader, site, rows, head, sites)
            np.testing.assert_array_equal(found, expected(truth, site, rows, head))


def test_rows_of_finished_blocks_are_read_from_a_file_that_is_not_complete(path):
    truth = make(path, blocks=[2, 0])
    with opened(path) as reader:
        for site in SITES:
            np.testing.assert_array_equal(read(reader, site, [0, 3, 5]), expected(truth, site, [0, 3, 5]))


@pytest.mark.parametrize("site", ["activations/heads", "activations/half_heads"])
def test_one_head_is_its_part_of_the_row_and_all_stand_side_by_side(path, site):
    truth = make(path)
    rows = [1, 2, 6, 7, 9]
    with opened(path) as reader:
        parts = [read(reader, site, rows, head) for head in range(SITES[site][0][0])]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), read(reader, site, rows))
    np.testing.assert_array_equal(parts[1], truth[site][rows][:, 1].astype(np.float32))


def test_half_precision_becomes_the_float32_that_is_equal_to_it(path):
    truth = make(path)
    special = np.array([0.0, -0.0, 65504, -65504, 2**-24, 1 / 3, 2**-14], dtype=np.float16)
    with open_writer(path) as writer:
        sums = {site: writer.write(3, site, truth[site][BLOCK == 3]) for site in SITES}
        sums["activations/half"] = writer.write(3, "activations/half", np.stack([special] * 3))
        writer.commit(3, sums)
        writer.finish()
    with opened(path) as reader:
        for rows in ([7, 8, 9], [8]):
            found = read(reader, "activations/half", rows)
            assert found.dtype == np.float32
            assert found.tobytes() == np.stack([special.astype(np.float32)] * len(rows)).tobytes()


def test_whole_numbers_are_read_as_they_are(path):
    truth = make(path, sites={"features/number": ((4,), "int32")})
    with opened(path) as reader:
        for rows in ([0, 1, 2, 3], [1, 4, 9]):
            out = np.zeros((len(rows), 4), dtype=np.int32)
            reader.read("features/number", None, np.array(rows), out)
            np.testing.assert_array_equal(out, truth["features/number"][rows])


def test_no_rows_are_read_without_touching_the_file(path, monkeypatch):
    make(path)
    with opened(path) as reader:
        reads = Reads(monkeypatch)
        assert read(reader, "activations/heads", []).shape == (0, 12)
        assert read(reader, "activations/heads", [], head=1).shape == (0, 4)
        assert reads.made == []


def test_short_reads_are_continued(path, monkeypatch):
    truth = make(path)
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, views, at: real(handle, [views[0][:7]], at))
    with opened(path) as reader:
        for site in SITES:
            np.testing.assert_array_equal(read(reader, site, range(10)), expected(truth, site, range(10)))


# --- damage


@pytest.mark.parametrize("site", SITES)
def test_a_changed_byte_is_refused_when_its_block_is_first_touched_and_no_sooner(path, site):
    truth = make(path)
    whole = path.read_bytes()
    place = site_of(path, site)
    random = np.random.default_rng(0)
    for row, block in enumerate(BLOCK):
        path.write_bytes(whole)
        flip(path, place.offset + row * place.row_bytes + int(random.integers(place.row_bytes)), random.integers(8))
        others, own = np.flatnonzero(block != BLOCK), np.flatnonzero(block == BLOCK)
        with opened(path) as reader:
            np.testing.assert_array_equal(read(reader, site, others), expected(truth, site, others))
            for _ in range(2):  # and not forgotten
                for rows in (own, own[:1], own[-1:], np.arange(len(BLOCK))):
                    told = f"{path} is damaged: block {block} of {site} is not what was written; geometry verify lists"
                    with pytest.raises(CorruptFileError, match=f"^{re.escape(told)} all damage$"):
                        read(reader, site, rows)
            for unhurt in set(SITES) - {site}:
                np.testing.assert_array_equal(read(reader, unhurt, own), expected(truth, unhurt, own))
            np.testing.assert_array_equal(read(reader, site, others), expected(truth, site, others))


def test_rows_of_another_block_in_its_place_are_refused(path):
    truth = make(path)
    place = site_of(path, "activations/flat")
    content = bytearray(path.read_bytes())
    rows = [content[place.offset + row * 20 : place.offset + row * 20 + 20] for row in range(len(BLOCK))]
    for row in range(2):  # blocks 0 and 2 both begin with two rows
        content[place.offset + row * 20 : place.offset + row * 20 + 20] = rows[4 + row]
    path.write_bytes(content)
    with opened(path) as reader:
        with pytest.raises(CorruptFileError, match="block 0 of activations/flat is not what was written"):
            read(reader, "activations/flat", [1])
        np.testing.assert_array_equal(
            read(reader, "activations/flat", [4, 5]), expected(truth, "activations/flat", [4, 5])
        )


@pytest.mark.parametrize("touched", [False, True])
def test_a_file_cut_off_after_it_was_opened_is_told(path, touched):
    truth = make(path)
    place = site_of(path, "activations/heads")
    with opened(path) as reader:
        if touched:
            read(reader, "activations/heads", range(10))
        os.truncate(path, place.offset + 9 * place.row_bytes - 1)
        told = f"{path} was cut off while it was open; copy it again or record it anew with --overwrite"
        for rows in ([8], [0, 9], range(10)):
            with pytest.raises(CorruptFileError, match=f"^{re.escape(told)}$"):
                read(reader, "activations/heads", rows)
        rows = [0, 1, 3]
        np.testing.assert_array_equal(
            read(reader, "activations/heads", rows), expected(truth, "activations/heads", rows)
        )


# --- how much is read


def test_each_block_is_read_for_checking_once_for_each_site(path, monkeypatch):
    make(path)
    with opened(path) as reader:
        reads = Reads(monkeypatch)
        for site in ("activations/flat", "activations/half_heads"):
            width = site_of(path, site).row_bytes
            read(reader, site, [0])
            assert reads.nbytes() == (3 + 1) * width  # block 0 has three rows
            read(reader, site, [1])
            assert reads.nbytes() == width
            read(reader, site, [1, 2, 3])
            assert reads.nbytes() == (2 + 3) * width  # block 1 is new
            read(reader, site, range(10))
            assert reads.nbytes() == (2 + 3 + 10) * width
            read(reader, site, range(10))
            assert reads.nbytes() == 10 * width
    with opened(path) as reader:
        read(reader, "activations/flat", [0])
        assert reads.nbytes() == (3 + 1) * 20, "each opened file is checked on its own"


def test_two_rows_far_apart_are_read_without_all_that_lies_between(path, monkeypatch):
    block = np.repeat(np.arange(20, dtype=np.int32), 100)
    sites = {"activations/a": ((64,), "float32")}
    truth = make(path, block, sites)
    with opened(path) as reader:
        reads = Reads(monkeypatch)
        rows = [0, len(block) - 1]
        np.testing.assert_array_equal(
            read(reader, "activations/a", rows, sites=sites), expected(truth, "activations/a", rows)
        )
        assert reads.nbytes() == 2 * 100 * 256 + 2 * 256, "the touched blocks once, and the two rows"
        read(reader, "activations/a", rows, sites=sites)
        assert reads.nbytes() == 2 * 256


def test_sparse_rows_are_read_in_stretches_that_stay_small(path, monkeypatch):
    block = np.zeros(60, np.int32)
    sites = {"activations/a": ((5,), "float32")}
    truth = make(path, block, sites)
    rows = [0, 1, 7, 40, 41, 59]
    monkeypatch.setattr(module, "_SPAN", 8)
    with opened(path) as reader:
        read(reader, "activations/a", rows, sites=sites)
        reads = Reads(monkeypatch)
        found = read(reader, "activations/a", rows, sites=sites)
    np.testing.assert_array_equal(found, expected(truth, "activations/a", rows))
    assert max(length for _, length in reads.made) <= 8 * 20
    assert len(reads.made) >= 3


def test_a_large_block_is_checked_in_small_pieces(path, monkeypatch):
    block = np.zeros(4096, np.int32)
    sites = {"activations/a": ((1024,), "float32")}  # 16 MiB
    truth = make(path, block, sites)
    with opened(path) as reader:
        reads = Reads(monkeypatch)
        tracemalloc.start()
        found = read(reader, "activations/a", [5], sites=sites)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(found, expected(truth, "activations/a", [5]))
    assert peak < 3 << 20
    assert max(length for _, length in reads.made) <= 1 << 20
    assert [offset for offset, _ in reads.made[:-1]] == sorted(offset for offset, _ in reads.made[:-1])


def test_contiguous_float32_rows_are_read_straight_into_their_place(path, monkeypatch):
    truth = make(path, np.zeros(3000, np.int32), {"activations/a": ((256,), "float32")})
    sites = {"activations/a": ((256,), "float32")}
    with opened(path) as reader:
        read(reader, "activations/a", [0], sites=sites)
        monkeypatch.setattr(np, "empty", lambda *arguments, **options: pytest.fail("a copy was made"))
        found = read(reader, "activations/a", range(100, 2900), sites=sites)
    np.testing.assert_array_equal(found, expected(truth, "activations/a", range(100, 2900)))


# --- digests and handles


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.integers(0, 4), min_size=1, max_size=30), piece=st.sampled_from([8, 1 << 20]), data=st.data()
)
def test_the_digests_are_those_of_the_chosen_blocks_rows_in_row_order(path, monkeypatch, numbers, piece, data):
    monkeypatch.setattr(module, "_PIECE", piece)
    block = np.array(numbers, dtype=np.int32)
    truth = make(path, block)
    n_blocks = int(block.max()) + 1
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=n_blocks, max_size=n_blocks)))
    with safe_open(path) as file:
        log, handle = read_log(file), open_beside(file)
    for site in SITES:
        assert block_digests(handle, path, log, site, chosen) == {
            number: xxhash.xxh3_64_intdigest(truth[site][block == number].tobytes())
            for number in np.flatnonzero(chosen).tolist()
        }
    os.close(handle)


def test_a_closed_reader_lets_go_of_its_file_and_can_be_closed_again(path):
    make(path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with opened(path) as reader:
        assert not reader.closed
        assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
        reader.close()
        assert reader.closed
        reader.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_reading_goes_on_in_the_same_file_when_another_takes_its_place(path):
    truth = make(path)
    with opened(path) as reader:
        make(path, seed=1)
        for site in SITES:
            np.testing.assert_array_equal(read(reader, site, range(10)), expected(truth, site, range(10)))
