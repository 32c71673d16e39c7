"""Verification: no bit of a sealed file changes unnoticed, and what is reported is where the damage is."""

import os
import re
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import ActivationStore, plan_recording, record, verify_store
from cache.errors import CorruptFileError, NotAvailableError
from cache.sealed.verify import Damage, Verification
from cache.sealed.writer import SealedLayout, create_sealed, open_writer
from tests.cache.resealing import change, end_of_hdf5, resealed, sealed_around

BLOCK = np.array([0, 0, 1, 0, 2, 2, 1, 3], dtype=np.int32)  # blocks 0 and 1 are in two pieces, 3 is one row
SITES = {"activations/a": ((3,), "float32"), "activations/b": ((2, 2), "float16")}
ROWS = {0: (0, 3), 1: (2, 6), 2: (4, 5), 3: (7, 7)}
AGAIN = "copy it again or record it anew with --overwrite"
OUTSIDE = (
    "is damaged outside its activations (in its labels or metadata); copy it again or record it anew with --overwrite"
)
SOUND = Verification(n_blocks=4, n_committed=4, n_checked=4, damage=())


def make(path: Path, blocks=range(4), seed: int = 0) -> None:
    """A sealed file with these blocks committed."""
    random = np.random.default_rng(seed)
    attributes = {"format": "made by hand", "fingerprint": f"{seed:064}", "command": "make"}
    create_sealed(path, SealedLayout(SITES, {"rows/prompt": np.arange(8, dtype=np.int32)}, BLOCK, attributes))
    with open_writer(path) as writer:
        for block in blocks:
            sums = {}
            for site, (shape, dtype) in SITES.items():
                rows = random.normal(size=(int((block == BLOCK).sum()), *shape)).astype(dtype)
                sums[site] = writer.write(block, site, rows)
            writer.commit(block, sums)
        writer.finish()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    make(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def parts(whole, tmp_path_factory) -> dict[str, range]:
    """The bytes of each dataset, by plain h5py."""
    path = tmp_path_factory.mktemp("parts") / "a.h5"
    path.write_bytes(whole)
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = range(item.id.get_offset(), item.id.get_offset() + item.nbytes)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def flipped(whole: bytes, byte: int, bit: int) -> bytes:
    content = bytearray(whole)
    content[byte] ^= 1 << bit
    return bytes(content)


def test_a_sound_file_has_no_damage_and_is_left_as_it_is(path, whole):
    path.write_bytes(whole)
    assert verify_store(path) == SOUND
    assert verify_store(str(path), quick=True) == Verification(4, 4, 0, ())
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("blocks", [(), (0,), (1, 3), (3, 2, 0)])
def test_a_partial_file_is_sound_and_counts_its_blocks(path, blocks):
    make(path, blocks)
    assert verify_store(path) == Verification(4, len(blocks), len(blocks), ())


def test_unfinished_rows_are_no_damage(path):
    make(path, (0, 2))
    with open_writer(path) as writer:
        writer.write(1, "activations/a", np.ones((2, 3), np.float32))
    assert verify_store(path) == Verification(4, 2, 2, ())


def test_every_changed_byte_of_data_is_reported_with_its_site_block_and_rows(path, whole, parts):
    random = np.random.default_rng(0)
    for site in SITES:
        width = len(parts[site]) // len(BLOCK)
        for place, byte in enumerate(parts[site]):
            path.write_bytes(flipped(whole, byte, random.integers(8)))
            block = int(BLOCK[place // width])
            assert verify_store(path) == Verification(4, 4, 4, (Damage(site, block, ROWS[block]),))


def test_every_changed_byte_of_a_log_record_is_reported_with_its_block(path, whole, parts):
    random = np.random.default_rng(0)
    for name, width in (("log/checksum", 16), ("log/state", 8)):
        for place, byte in enumerate(parts[name]):
            path.write_bytes(flipped(whole, byte, random.integers(8)))
            assert verify_store(path) == Verification(4, 3, 3, (Damage("log", place // width),))
    for byte in parts["log/complete"]:
        path.write_bytes(flipped(whole, byte, random.integers(8)))
        assert verify_store(path) == Verification(4, 4, 4, (Damage("log"),))


@pytest.mark.parametrize("name", ["rows/prompt", "log/block", "log/sites"])
def test_every_changed_byte_of_labels_or_of_the_blocks_numbers_is_told(path, whole, parts, name):
    random = np.random.default_rng(0)
    for byte in parts[name]:
        path.write_bytes(flipped(whole, byte, random.integers(8)))
        with pytest.raises(CorruptFileError, match=f"^{re.escape(f'{path} {OUTSIDE}')}$"):
            verify_store(path)


def test_a_record_lost_from_a_complete_file_is_damage_and_from_another_is_not(path, whole, parts):
    state = parts["log/state"].start
    path.write_bytes(whole[: state + 8] + bytes(8) + whole[state + 16 :])
    assert verify_store(path) == Verification(4, 3, 3, (Damage("log", 1),))
    mark = parts["log/complete"].start
    content = path.read_bytes()
    path.write_bytes(content[:mark] + bytes(8) + content[mark + 8 :])
    assert verify_store(path) == Verification(4, 3, 3, ())


def note(file):
    file.attrs["note"] = "innocent"


def swap_and_clear(file):
    file["activations/b"][4:6] = file["activations/b"][4:6][::-1]
    file["activations/a"][7] = 0


@pytest.mark.parametrize("how", [note, swap_and_clear])
def test_changes_that_h5py_itself_makes_are_told(path, whole, how):
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        how(file)
    with pytest.raises(
        CorruptFileError, match="is HDF5 but not a file that this geometry wrote, or was cut off or changed"
    ):
        verify_store(path)


def test_changed_values_under_a_valid_footer_are_reported_where_they_are(path, whole):
    path.write_bytes(whole)
    change(path, swap_and_clear)
    assert set(verify_store(path).damage) == {Damage("activations/b", 2, (4, 5)), Damage("activations/a", 3, (7, 7))}


def test_quick_finds_everything_but_changed_data(path, whole, parts):
    for name, damage in (
        ("activations/a", ()),
        ("log/state", (Damage("log", 0),)),
        ("log/checksum", (Damage("log", 0),)),
        ("log/complete", (Damage("log"),)),
    ):
        path.write_bytes(flipped(whole, parts[name][0], 0))
        assert verify_store(path, quick=True).damage == damage
    for byte in (30, 60, 90, parts["rows/prompt"][0]):
        path.write_bytes(flipped(whole, byte, 0))
        with pytest.raises(CorruptFileError):
            verify_store(path, quick=True)


def test_each_site_is_announced_once_it_is_compared(path, whole):
    path.write_bytes(whole)
    seen = []
    verify_store(path, on_site=lambda *numbers: seen.append(numbers))
    assert seen == [(1, 2), (2, 2)]
    verify_store(path, quick=True, on_site=lambda *numbers: pytest.fail("no site is compared"))


def test_data_and_log_of_another_file_are_not_taken_for_its_own(path, whole, parts):
    make(path, seed=1)
    content = bytearray(path.read_bytes())
    for name in (*SITES, "log/checksum", "log/state", "log/complete"):
        content[parts[name].start : parts[name].stop] = whole[parts[name].start : parts[name].stop]
    path.write_bytes(content)
    assert verify_store(path) == Verification(4, 0, 0, tuple(Damage("log", block) for block in range(4)))


def test_bytes_appended_or_lost_are_noticed(path, whole):
    size, end = len(whole), end_of_hdf5(whole)
    changed = "is HDF5 but not a file that this geometry wrote, or was cut off or changed by another program"
    for content, told in (
        (
            whole + b"\0",
            f"has {size + 1:,} bytes where it had {size:,}; copy it again or record it anew with --overwrite",
        ),
        (whole[:-1], f"has {size - 1:,} bytes where it had {size:,}; {AGAIN}"),
        (whole[: end + 71], changed),
        (whole[:end], changed),
        *(
            (
                whole[: end - lost],
                f"is cut off: it has {end - lost:,} of {end:,} bytes; copy it again or record it anew with --overwrite",
            )
            for lost in (1, 100, size // 2)
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=f"^{re.escape(f'{path} {told}')}$"):
            verify_store(path)


def test_a_file_cut_off_while_it_is_verified_is_told(path, whole, parts, monkeypatch):
    path.write_bytes(whole)
    real = os.preadv

    def cut(*arguments):
        os.truncate(path, parts["activations/b"].stop - 1)
        return real(*arguments)

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(os, "preadv", cut)
    with pytest.raises(CorruptFileError, match=rf"^{re.escape(str(path))} was cut off while it was open; copy it"):
        verify_store(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_is_no_sealed_file_is_told_apart(path):
    with pytest.raises(NotAvailableError, match=f"{str(path)!r} is not there"):
        verify_store(path)
    path.write_text("text")
    with pytest.raises(CorruptFileError, match="is not an HDF5 file, or its first bytes are damaged"):
        verify_store(path)


@pytest.mark.parametrize("attributes", [{}, {"fingerprint": "f"}])
def test_an_hdf5_file_of_somebody_else_is_told_as_such(path, attributes):
    def fill(file):
        file["x"] = np.zeros(3)
        file.attrs.update({name: np.bytes_(value) for name, value in attributes.items()})

    with h5py.File(path, "w") as file:
        fill(file)
    with pytest.raises(CorruptFileError, match="is HDF5 but not a file that this geometry wrote, or"):
        verify_store(path)
    sealed_around(path, fill)
    with pytest.raises(CorruptFileError, match=f"{re.escape(str(path))} is HDF5 but not a file that geometry wrote"):
        verify_store(path)


LOGS = {
    "log/sites": [np.zeros(2, "i4"), np.array([b"activations/a"]), np.array([b"activations/a", b"\xff"])],
    "log/checksum": [np.zeros((4, 1), "u8"), np.zeros((3, 2), "u8"), np.zeros((4, 2), "i4")],
    "log/state": [np.zeros(5, "u8"), np.zeros(4, "f4")],
    "log/block": [np.zeros(9, "i4"), np.zeros(8, "f4"), np.full(8, 4, "i4"), np.full(8, -1, "i4"), np.zeros(0, "i4")],
    "log/complete": [np.zeros(0, "u8"), np.zeros(2, "u8"), np.zeros(1, "i8"), np.uint64(0)],
    "activations/a": [np.zeros((9, 3), "f4")],
}


def replace_part(path: Path, name: str, content: np.ndarray | None) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if content is None:
            file.create_group(name)
        else:
            file[name] = content
    path.write_bytes(resealed(path.read_bytes(), []))


@pytest.mark.parametrize(("name", "content"), [(name, array) for name, arrays in LOGS.items() for array in arrays])
def test_a_log_whose_parts_do_not_fit_is_refused_in_a_sentence(path, whole, name, content):
    path.write_bytes(whole)
    replace_part(path, name, content)
    expected = "has a log whose parts do not fit together|has another number of rows at activations/a|cannot be read: "
    with pytest.raises(CorruptFileError, match=f"^{re.escape(str(path))} ({expected})") as refusal:
        verify_store(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(CorruptFileError, match=f"^{re.escape(str(path))} ({expected})"), open_writer(path):
        pass


@pytest.mark.parametrize(
    "name",
    [
        *(f"log/{name}" for name in ("sites", "checksum", "block", "complete", "state")),
        "activations/a",
    ],
)
def test_a_group_in_the_place_of_an_array_is_refused_in_a_sentence(path, whole, name):
    path.write_bytes(whole)
    replace_part(path, name, None)
    with pytest.raises(CorruptFileError, match=re.escape(str(path))):
        verify_store(path)


@pytest.mark.parametrize("quick", [True, False])
def test_no_file_stays_open(path, whole, parts, quick):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for content in (whole, whole[:-5], flipped(whole, parts["log/sites"][3], 7), b""):
        path.write_bytes(content)
        with suppress(CorruptFileError):
            verify_store(path, quick=quick)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_large_block_number_does_not_take_memory_in_proportion(path, whole, parts):
    for byte, bit in ((-2, 1), (-1, 6), (-1, 7)):  # blocks 2 ** 17, 2 ** 30, and a negative one
        path.write_bytes(resealed(flipped(whole, parts["log/block"][byte], bit)))
        tracemalloc.start()
        with pytest.raises(CorruptFileError, match="has a log whose parts do not fit together"):
            verify_store(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4e6


def content_of(path: Path) -> list[object]:
    """All that our reader gives of a store."""
    with ActivationStore.open(path) as store:
        values = [store.load(hook).numpy().tobytes() for hook in store.hooks]
        tables = [store.rows.to_csv(), store.prompts.to_csv()]
        return [store.hooks, store.complete, store.fingerprint, store.created, store.command, tables, values]


@pytest.mark.parametrize("n", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_no_single_flipped_bit_of_a_recorded_store_changes_what_is_read_without_a_report(gpt2, path, monkeypatch, n):
    monkeypatch.setattr(
        "cache.store.tables.soft_fields", lambda model: {"host": "anywhere"}
    )  # the same bits everywhere
    plan = plan_recording(gpt2, ["one two", "1,2,3", "a"], sites="resid_post,z", layers="1", batch_tokens=8)
    record(gpt2, plan, path)
    whole, truth = path.read_bytes(), content_of(path)
    with h5py.File(path, "r") as file:
        sites = [f"activations/{name}" for name in file["activations"]]
        spans = [(file[site].id.get_offset(), file[site].nbytes) for site in sites]
        width = [nbytes // len(file[site]) for site, (_, nbytes) in zip(sites, spans, strict=True)]
        blocks = file["log/block"][:]
    outside = [i for i in range(len(whole)) if not any(start <= i < start + length for start, length in spans)]
    random = np.random.default_rng(1)
    found = Counter()
    data = sorted(set(range(len(whole))) - set(outside))
    for place in (*random.choice(data, n), *random.choice(outside, n)):
        path.write_bytes(flipped(whole, int(place), int(random.integers(8))))
        hit = [i for i, (start, length) in enumerate(spans) if start <= place < start + length]
        try:
            damage = verify_store(path).damage
        except CorruptFileError:
            assert not hit, "the data of a store is never a reason not to verify it"
            found["refused"] += 1
        else:
            assert len(damage) == 1, "no byte of a store is nobody's"
            if hit:
                block = int(blocks[(place - spans[hit[0]][0]) // width[hit[0]]])
                assert [(d.part, d.block) for d in damage] == [(sites[hit[0]], block)]
            found["reported"] += 1
        try:
            assert content_of(path) == truth
            found["read"] += 1
        except CorruptFileError as error:
            assert not hit or "is not what was written" in str(error)  # noqa: PT017
    assert found["refused"] > 0.85 * n
    assert found["reported"] >= n
    assert found["read"] <= 0.05 * n, "what is damaged is not read, but for a mark that no reading needs"
