"""Verification: no bit of a sealed file changes unnoticed, and what is reported is where the damage is."""

import os
import re
import tracemalloc
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import ActivationStore, plan_recording, record, verify_store
from cache.errors import CorruptFileError, NotAvailableError
from cache.sealed import SealedLayout, create_sealed, open_writer
from cache.verify import Damage, Verification

BLOCK = np.array([0, 0, 1, 0, 2, 2, 1, 3], dtype=np.int32)  # blocks 0 and 1 are in two pieces, 3 is one row
SITES = {"activations/a": ((3,), "float32"), "activations/b": ((2, 2), "float16")}
ROWS = {0: (0, 3), 1: (2, 6), 2: (4, 5), 3: (7, 7)}
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


@pytest.mark.parametrize("name", ["rows/prompt", "log/frozen"])
def test_every_changed_byte_of_labels_or_of_their_digest_is_reported_as_frozen(path, whole, parts, name):
    random = np.random.default_rng(0)
    for byte in parts[name]:
        path.write_bytes(flipped(whole, byte, random.integers(8)))
        assert verify_store(path) == Verification(4, 4, 4, (Damage("frozen"),))


def test_changes_that_h5py_itself_makes_are_reported(path, whole):
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "innocent"
    assert Damage("frozen") in verify_store(path).damage
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["activations/b"][4:6] = file["activations/b"][4:6][::-1]
        file["activations/a"][7] = 0
    assert set(verify_store(path).damage) == {Damage("activations/b", 2, (4, 5)), Damage("activations/a", 3, (7, 7))}


def test_quick_finds_everything_but_changed_data(path, whole, parts):
    for name, damage in (
        ("activations/a", ()),
        ("log/state", (Damage("log", 0),)),
        ("rows/prompt", (Damage("frozen"),)),
    ):
        path.write_bytes(flipped(whole, parts[name][0], 0))
        assert verify_store(path, quick=True).damage == damage


def test_data_and_log_of_another_file_are_not_taken_for_its_own(path, whole, parts):
    make(path, seed=1)
    content = bytearray(path.read_bytes())
    for name in (*SITES, "log/checksum", "log/state"):
        content[parts[name].start : parts[name].stop] = whole[parts[name].start : parts[name].stop]
    path.write_bytes(content)
    assert verify_store(path) == Verification(4, 0, 0, tuple(Damage("log", block) for block in range(4)))


def test_bytes_appended_or_lost_are_noticed(path, whole):
    path.write_bytes(whole + b"\0")
    assert verify_store(path).damage == (Damage("frozen"),)
    for lost in (1, 100, len(whole) // 2):
        path.write_bytes(whole[:-lost])
        with pytest.raises(CorruptFileError, match=r"cannot be read: .*truncated"):
            verify_store(path)


def test_what_is_no_sealed_file_is_told_apart(path):
    with pytest.raises(NotAvailableError, match=f"{str(path)!r} is not there"):
        verify_store(path)
    path.write_text("text")
    with pytest.raises(CorruptFileError, match="is not an HDF5 file"):
        verify_store(path)


@pytest.mark.parametrize("attributes", [{}, {"fingerprint": "f"}])
def test_an_hdf5_file_of_somebody_else_is_told_as_such(path, attributes):
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
        file.attrs.update(attributes)
    with pytest.raises(CorruptFileError, match=f"{re.escape(str(path))} is HDF5 but not a file that geometry wrote"):
        verify_store(path)


LOGS = {
    "log/sites": [np.zeros(2, "i4"), np.array([b"activations/a"]), np.array([b"activations/a", b"\xff"])],
    "log/checksum": [np.zeros((4, 1), "u8"), np.zeros((3, 2), "u8"), np.zeros((4, 2), "i4")],
    "log/state": [np.zeros(5, "u8"), np.zeros(4, "f4")],
    "log/block": [np.zeros(9, "i4"), np.zeros(8, "f4"), np.full(8, 4, "i4"), np.full(8, -1, "i4"), np.zeros(0, "i4")],
    "log/frozen": [np.zeros(31, "u1")],
    "activations/a": [np.zeros((9, 3), "f4")],
}


def replace_part(path: Path, name: str, content: np.ndarray | None) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if content is None:
            file.create_group(name)
        else:
            file[name] = content


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
        *(f"log/{name}" for name in ("sites", "checksum", "block", "frozen", "state")),
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


def test_every_changed_byte_of_the_blocks_numbers_is_reported(path, whole, parts):
    for byte in parts["log/block"]:
        for bit in range(8):
            if (byte - parts["log/block"].start) % 4 * 8 + bit not in range(12, 31):  # the next test's
                path.write_bytes(flipped(whole, byte, bit))
                try:
                    assert Damage("frozen") in verify_store(path).damage
                except CorruptFileError as error:
                    assert "log" in str(error)  # noqa: PT017


def test_a_large_block_number_does_not_take_memory_in_proportion(path, whole, parts):
    path.write_bytes(flipped(whole, parts["log/block"][-2], 1))  # block 2 ** 17: the highest bit would take 64 GB
    tracemalloc.start()
    with suppress(CorruptFileError, IndexError):
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


def test_no_single_flipped_bit_of_a_recorded_store_changes_what_is_read_without_a_report(gpt2, path, monkeypatch):
    monkeypatch.setattr("cache.layout.soft_fields", lambda model: {"host": "anywhere"})  # the same bits everywhere
    plan = plan_recording(gpt2, ["one two", "1,2,3", "a"], sites="resid_post,z", layers="1", batch_tokens=8)
    record(gpt2, plan, path).close()
    whole, truth = path.read_bytes(), content_of(path)
    with h5py.File(path, "r") as file:
        sites = [f"activations/{name}" for name in file["activations"]]
        spans = [(file[site].id.get_offset(), file[site].nbytes) for site in sites]
        width = [nbytes // len(file[site]) for site, (_, nbytes) in zip(sites, spans, strict=True)]
        blocks, log_block = file["log/block"][:], file["log/block"]
        untested = range(log_block.id.get_offset(), log_block.id.get_offset() + log_block.nbytes)  # tested above
    outside = [i for i in range(len(whole)) if not any(start <= i < start + length for start, length in spans)]
    random = np.random.default_rng(1)
    reported, refused, same = 0, 0, 0
    for place in (*random.integers(len(whole), size=150), *random.choice(outside, 150)):
        if place in untested:
            continue
        path.write_bytes(flipped(whole, int(place), int(random.integers(8))))
        hit = [i for i, (start, length) in enumerate(spans) if start <= place < start + length]
        try:
            damage = verify_store(path).damage
        except CorruptFileError:
            assert not hit, "the data of a store is never a reason not to read it"
            refused += 1
            continue
        if hit:
            block = int(blocks[(place - spans[hit[0]][0]) // width[hit[0]]])
            assert [(d.part, d.block) for d in damage] == [(sites[hit[0]], block)]
        if damage:
            reported += 1
        else:
            assert content_of(path) == truth
            same += 1
    assert reported > 150
    assert reported + refused > 290, "hardly a byte of a store is nobody's"
