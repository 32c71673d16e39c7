"""What a sealed file is before its first block: the very bytes that HDF5 writes to a disk, made in little memory."""

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.sealed.layout import Blueprint, SealedLayout, blueprint
from cache.sealed.opening import safe_open
from cache.sealed.writer import create_sealed
from tests.cache.sealed_files import BLOCK, SITES, layout


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


def content_of(plan: Blueprint) -> bytes:
    """HDF5's part of the file, its pages put together."""
    content = bytearray(plan.footer.offset)
    for number, page in plan.pages.items():
        assert len(page) == plan.page_size
        part = page[: len(content) - number * plan.page_size]
        content[number * plan.page_size : number * plan.page_size + len(part)] = part
    return bytes(content)


def written_by_h5py(path: Path, planned: SealedLayout) -> bytes:
    """The same file written by h5py to a file on a disk: what is documented, in the same order and way."""
    utf8 = {
        name: array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize)) if array.dtype.kind == "S" else array
        for name, array in planned.frozen.items()
    }
    n_blocks, names = int(planned.block.max()) + 1, [name.encode() for name in planned.sites]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    options = {"alignment_threshold": 1, "alignment_interval": 64}
    with path.open("w+b") as disk, h5py.File(disk, "w", **options) as file:
        for name, value in planned.attributes.items():
            length = max(1, len(value.encode()))
            file.attrs.create(name, np.array(value.encode(), f"S{length}"), dtype=h5py.string_dtype("utf-8", length))
        file.create_dataset("log/complete", (1,), "<u8", data=0)
        for name, array in utf8.items():
            file.create_dataset(name, data=array)
        file.create_dataset("log/block", data=planned.block, dtype="<i4")
        file.create_dataset("log/sites", data=names, dtype=h5py.string_dtype("utf-8", max(map(len, names))))
        file.create_dataset("log/checksum", data=np.zeros((n_blocks, len(names)), "<u8"))
        file.create_dataset("log/state", data=np.zeros(n_blocks, "<u8"))
        for name, (shape, dtype) in planned.sites.items():
            file.create_dataset(name, (len(planned.block), *shape), dtype, dcpl=creation)
    return path.read_bytes()


def store_like(n_sites: int, shape: tuple[int, ...], dtype: str, rows: int, *, per_prompt: int = 20) -> SealedLayout:
    """A layout like that of a store: rows of so many sites, and the tables of their prompts."""
    n_prompts = -(-rows // per_prompt)
    texts = np.array([f"a text of some length {number}".encode() for number in range(n_prompts)])
    frozen = {f"rows/{name}": np.arange(rows, dtype=np.int32) for name in ("prompt", "position", "token", "member")}
    frozen |= {"rows/token_text": np.full(rows, b" token"), "rows/is_last": np.zeros(rows, np.uint8)}
    frozen |= {f"prompts/{name}": texts for name in "abcdefghijk"} | {"prompts/template": np.zeros(n_prompts, np.int32)}
    return SealedLayout(
        sites={f"activations/blocks.{i}.hook_resid_post": (shape, dtype) for i in range(n_sites)},
        frozen=frozen,
        block=np.arange(rows, dtype=np.int32) // (8 * per_prompt),
        attributes={
            "format": "activation-store",
            "fingerprint": "5ea1" * 16,
            "manifest": "m" * 3000,
            "created": "2026-01-01T00:00:00+00:00",
            "command": "geometry cache",
        },
    )


TYPICAL = {
    "tiny": store_like(1, (3,), "float32", 1),
    "one layer": store_like(4, (64,), "float16", 2000),
    "heads": store_like(24, (12, 64), "float32", 500),
    "small model": store_like(60, (768,), "float32", 3000),
    "many rows": store_like(2, (33,), "float32", 100_000),
    "last tokens": store_like(30, (3, 11), "float16", 100, per_prompt=1),
}


# --- the bytes


@pytest.mark.parametrize(
    "planned",
    [layout(), store_like(1, (3,), "float32", 1), store_like(12, (3, 11), "float16", 700), TYPICAL["one layer"]],
    ids=["small", "tiny", "heads", "one layer"],
)
def test_what_is_made_in_memory_is_what_h5py_writes_to_a_disk(path, planned):
    plan = blueprint(planned)
    content, expected = content_of(plan), written_by_h5py(path, planned)
    assert len(content) == len(expected) == plan.footer.offset
    places = np.zeros(len(content), bool)
    for name in planned.sites:  # h5py leaves these to whatever is on the disk
        with h5py.File(path, "r") as file:
            offset = file[name].id.get_offset()
            places[offset : offset + file[name].nbytes] = True
    differing = np.frombuffer(content, np.uint8) != np.frombuffer(expected, np.uint8)
    assert not (differing & ~places).any()
    assert not np.frombuffer(content, np.uint8)[places].any()


def test_the_spans_are_where_hdf5_put_what_changes(path):
    for planned in (layout(), TYPICAL["one layer"]):
        written_by_h5py(path, planned)
        names = [*planned.sites, "log/checksum", "log/state", "log/complete"]
        with h5py.File(path, "r") as file:
            expected = sorted((file[name].id.get_offset(), file[name].nbytes) for name in names)
        assert blueprint(planned).footer.spans == tuple(expected)


def test_the_same_layout_gives_the_same_bytes():
    first, second = (blueprint(layout()) for _ in range(2))
    assert first.footer == second.footer
    assert content_of(first) == content_of(second)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple), min_size=1, max_size=12),
    rows=st.integers(1, 300),
    dtype=st.sampled_from(["float32", "float16"]),
    texts=st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=9), min_size=1),
)
def test_any_layout_is_a_file_of_the_announced_size_with_what_it_describes(path, shapes, rows, dtype, texts):
    sites = {f"activations/blocks.{i}.hook_resid_post": (shape, dtype) for i, shape in enumerate(shapes)}
    frozen = {"rows/x": np.arange(rows) / 3, "prompts/text": np.array([text.encode() for text in texts])}
    planned = SealedLayout(sites, frozen, np.arange(rows, dtype=np.int32) // 7, {"fingerprint": "f", "t": texts[0]})
    create_sealed(path, planned)
    assert path.stat().st_size == blueprint(planned).footer.size <= planned.nbytes
    with safe_open(path) as file:
        np.testing.assert_array_equal(file["rows/x"][:], frozen["rows/x"])
        assert [text.decode() for text in file["prompts/text"][:]] == texts
        assert file.attrs["t"].decode() == texts[0]
        np.testing.assert_array_equal(file["log/block"][:], planned.block)
        assert {name: (file[name].shape, file[name].dtype) for name in sites} == {
            name: ((rows, *shape), dtype) for name, (shape, _) in sites.items()
        }
        offsets = [file[name].id.get_offset() for name in (*sites, "log/state", "log/checksum", "log/complete")]
    assert all(offset % 64 == 0 for offset in offsets), "no record of the log lies across two sectors"


# --- size and memory


@pytest.mark.parametrize("kind", TYPICAL)
def test_the_announced_size_is_enough_and_little_more(kind):
    real, announced = blueprint(TYPICAL[kind]).footer.size, TYPICAL[kind].nbytes
    assert real <= announced <= 1.3 * real + (256 << 10)


def test_a_tebibyte_of_activations_takes_next_to_no_memory_before_they_are_written():
    shape, rows = (1 << 28,), 64  # 16 sites of 64 GiB
    sites = {f"activations/blocks.{i}.hook_resid_post": (shape, "float32") for i in range(16)}
    planned = SealedLayout(sites, {"rows/x": np.zeros(rows)}, np.arange(rows, dtype=np.int32), {"fingerprint": "f"})
    tracemalloc.start()
    plan = blueprint(planned)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.footer.size > 1 << 40
    assert plan.footer.size <= planned.nbytes
    assert sum(map(len, plan.pages.values())) <= 2 << 20
    assert peak < 4 << 20


# --- what is in it


def test_everything_has_fixed_length_and_no_time_of_its_own(path):
    create_sealed(path, layout())
    with h5py.File(path, "r") as file:
        for name in file.attrs:
            stored = file.attrs.get_id(name).get_type()
            assert not stored.is_variable_str()
            assert stored.get_cset() == h5py.h5t.CSET_UTF8
            assert stored.get_size() >= 1
        assert file.attrs["command"] == b""
        items = []
        file.visititems(lambda name, item: items.append(item))
        assert {item.name[1:] for item in items if isinstance(item, h5py.Dataset)} >= set(SITES)
        for item in items:
            assert h5py.h5g.get_objinfo(file.id, item.name.encode()).mtime == 0
            assert len(item.attrs) == 0
            if isinstance(item, h5py.Dataset):
                string = h5py.check_string_dtype(item.dtype)
                assert string is None or (string.encoding == "utf-8" and string.length)
                assert item.chunks is None
                assert item.id.get_storage_size() == item.nbytes


def test_neither_texts_nor_attributes_are_followed_by_nul_bytes_of_a_reader(path):
    """Fixed-length strings are padded in the file; what is read back ends where the text does."""
    create_sealed(path, layout())
    with h5py.File(path, "r") as file:
        assert [text.decode() for text in file["prompts/text"][:]] == ["één", "", "日本 twee"]
        assert file.attrs["format"].decode() == "made by hånd"
        assert not any(b"\0" in value for value in file.attrs.values())


def test_the_number_of_blocks_is_that_of_the_last_one():
    for block in (BLOCK, np.zeros(3, np.int32), np.array([4, 0], np.int32)):
        spans = blueprint(layout(block)).footer.spans
        n_blocks = int(block.max()) + 1
        assert (8 * n_blocks) in [nbytes for _, nbytes in spans]
        assert (16 * n_blocks) in [nbytes for _, nbytes in spans]


def test_what_is_no_text_is_kept_readable():
    plan = blueprint(SealedLayout(SITES, {}, BLOCK, {"fingerprint": "f", "command": "caf\udce9.h5"}))
    assert b"caf\\udce9.h5" in content_of(plan)
