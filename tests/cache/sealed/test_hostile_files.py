"""Files made to harm: what no sealed file holds is refused by name, and nothing outside the file is ever touched.

Each has a valid footer, so that it is what lies before it that is refused.
"""

import ctypes
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.errors import CorruptFileError
from cache.sealed.opening import open_checked
from tests.cache.resealing import end_of_hdf5, resealed, sealed_around
from tests.cache.sealed_files import open_files

SECRET = b"nobody may read this file's text"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.fixture
def outside(tmp_path) -> Path:
    """Files outside the store: a text, and an HDF5 file with a plain array at /x."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_bytes(SECRET)
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.arange(8.0)
    return folder


class Opens:
    """Counts how often files in a folder are opened, by whatever code (inotify)."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self.handle, str(folder).encode(), 0x20) >= 0  # IN_OPEN

    def __len__(self) -> int:
        try:
            return len(os.read(self.handle, 65536))
        except BlockingIOError:
            return 0


@pytest.fixture
def opens(outside):
    counter = Opens(outside)
    yield counter
    os.close(counter.handle)


def plant_external_storage(group, outside):
    secret = outside / "secret.txt"
    group.create_dataset("bad", (len(SECRET),), "u1", external=[(str(secret), 0, len(SECRET))])


def plant_external_link(group, outside):
    group["bad"] = h5py.ExternalLink(str(outside / "other.h5"), "/x")


def plant_virtual(group, outside):
    layout = h5py.VirtualLayout((8,), "f8")
    layout[:] = h5py.VirtualSource(str(outside / "other.h5"), "x", (8,))
    group.create_virtual_dataset("bad", layout)


def plant_virtual_without_source(group, outside):
    layout = h5py.VirtualLayout((8,), "f8")
    layout[:] = h5py.VirtualSource(str(outside / "missing.h5"), "x", (8,))
    group.create_virtual_dataset("bad", layout)


def plant_soft_link(group, outside):
    group["bad"] = h5py.SoftLink("/fine")


def plant_dangling_soft_link(group, outside):
    group["bad"] = h5py.SoftLink("/nowhere")


def plant_soft_cycle(group, outside):
    group["bad"] = h5py.SoftLink(f"{group.name}/worse")
    group["worse"] = h5py.SoftLink(f"{group.name}/bad")


def plant_hard_cycle(group, outside):
    group["bad"] = group.file["/"]


def plant_depth(group, outside):
    group["bad/b/c/d/e"] = np.zeros(1)


def plant_chunks(group, outside):
    group.create_dataset("bad", (8,), "f4", chunks=(4,))


def plant_growth(group, outside):
    group.create_dataset("bad", (8,), "f4", maxshape=(None,))


def plant_gzip(group, outside):
    group.create_dataset("bad", (1 << 20,), "f4", compression="gzip")


def plant_compact(group, outside):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    group.create_dataset("bad", (2,), "f4", dcpl=creation)


def plant_varying_strings(group, outside):
    group["bad"] = ["text", "of any length"]


def plant_varying_arrays(group, outside):
    group.create_dataset("bad", (2,), h5py.vlen_dtype("f4"))[0] = np.zeros(3, "f4")


def plant_object_reference(group, outside):
    group.create_dataset("bad", (1,), h5py.ref_dtype)[0] = group.file["fine"].ref


def plant_region_reference(group, outside):
    group.create_dataset("bad", (1,), h5py.regionref_dtype)[0] = group.file["fine"].regionref[:2]


def plant_compound(group, outside):
    group["bad"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def plant_enum(group, outside):
    group.create_dataset("bad", (3,), h5py.enum_dtype({"NO": 0, "YES": 1}))[:] = 1


def plant_bool(group, outside):
    group["bad"] = np.array([True, False])


def plant_complex(group, outside):
    group["bad"] = np.zeros(3, "c8")


def plant_opaque(group, outside):
    group["bad"] = np.array([b"ab", b"cd"], "V2")


def plant_named_type(group, outside):
    group["bad"] = np.dtype("f4")


def plant_terabytes(group, outside):
    group.create_dataset("bad", (1 << 40,), "f4")


def plant_overflowing_shape(group, outside):
    space = h5py.h5s.create_simple((1 << 62, 4))  # its bytes are 0 modulo 2 ** 64
    h5py.h5d.create(group.id, b"bad", h5py.h5t.IEEE_F32LE, space)


def plant_unallocated(group, outside):
    group.create_dataset("bad", (3,), "f4")


LINK, ELSEWHERE, SCATTERED = "holds a link", "has data kept in other files", "has data that is not contiguous"
TYPE, BEYOND, NESTED = "has data of type", "has data beyond the file's end", "holds too many or too deeply nested"
POISONS = {
    plant_external_storage: ELSEWHERE,
    plant_virtual: ELSEWHERE,
    plant_virtual_without_source: ELSEWHERE,
    plant_external_link: LINK,
    plant_soft_link: LINK,
    plant_dangling_soft_link: LINK,
    plant_soft_cycle: LINK,
    plant_hard_cycle: NESTED,
    plant_depth: NESTED,
    plant_chunks: SCATTERED,
    plant_growth: SCATTERED,
    plant_gzip: SCATTERED,
    plant_compact: SCATTERED,
    plant_varying_strings: TYPE,
    plant_varying_arrays: TYPE,
    plant_object_reference: TYPE,
    plant_region_reference: TYPE,
    plant_compound: TYPE,
    plant_enum: TYPE,
    plant_bool: TYPE,
    plant_complex: TYPE,
    plant_opaque: TYPE,
    plant_named_type: "holds something",
    plant_terabytes: BEYOND,
    plant_overflowing_shape: BEYOND,
    plant_unallocated: BEYOND,
}


@pytest.mark.parametrize("group", ["/", "/one/two"])
@pytest.mark.parametrize("plant", POISONS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
def test_what_no_sealed_file_holds_is_refused_by_name_and_nothing_outside_is_opened(path, outside, opens, plant, group):
    def fill(file):
        file["fine"] = np.arange(4.0)
        plant(file.require_group(group), outside)

    sealed_around(path, fill)
    len(opens)  # what making the file opened
    before = open_files()
    with pytest.raises(CorruptFileError, match=f"^{re.escape(str(path))} {POISONS[plant]}") as refusal:
        open_checked(path)
    place = str(refusal.value).split(" at ")[1].split(";")[0].split()[0]
    assert place in {f"{group.rstrip('/')}/{name}" for name in ("bad", "worse")} or POISONS[plant] == NESTED
    assert refusal.value.exit_code == 4
    assert len(opens) == 0
    assert open_files() == before


def test_plain_h5py_does_open_what_lies_outside(path, outside, opens):
    for plant in (plant_external_storage, plant_external_link, plant_virtual):
        with h5py.File(path, "w") as file:
            plant(file, outside)
        len(opens)
        with h5py.File(path, "r") as file:
            assert len(file["bad"][:])
        assert len(opens) > 0, "the oracle of the test above is blind"


def test_data_placed_beyond_the_end_of_the_file_are_refused(path):
    sealed_around(path, lambda file: file.update(x=np.arange(8.0)))
    with h5py.File(path, "r") as file:
        offset = file["x"].id.get_offset()
    whole = path.read_bytes()
    place = offset.to_bytes(8, "little") + (64).to_bytes(8, "little")
    assert whole.count(place) == 1
    end = end_of_hdf5(whole)
    for moved, opens in ((end - 64, True), (end - 63, False), (1 << 40, False)):
        path.write_bytes(resealed(whole.replace(place, moved.to_bytes(8, "little") + place[8:])))
        if opens:
            open_checked(path).close()
        else:
            with pytest.raises(
                CorruptFileError, match=r"has data beyond the file's end at /x|cannot be read: .*corruption"
            ):
                open_checked(path)


def test_more_objects_than_any_store_has_are_refused(path, monkeypatch):
    monkeypatch.setattr("cache.sealed.opening._MAX_OBJECTS", 10)
    for count, opened in ((10, True), (11, False)):
        sealed_around(path, lambda file, count=count: file.update({f"n{number:02}": number for number in range(count)}))
        if opened:
            open_checked(path).close()
        else:
            with pytest.raises(CorruptFileError, match="holds too many or too deeply nested objects at /n10"):
                open_checked(path)


# --- attributes


@pytest.mark.parametrize("place", ["/", "/group", "/group/array"])
def test_more_attributes_than_any_store_has_are_refused_wherever_they_are(path, place):
    for count, opened in ((64, True), (65, False)):

        def fill(file, count=count):
            file["group/array"] = np.zeros(3)
            file[place].attrs.update({f"name {number}": number for number in range(count)})

        sealed_around(path, fill)
        if opened:
            open_checked(path).close()
        else:
            with pytest.raises(CorruptFileError, match=rf"a\.h5 has 65 attributes at {place}; stores have few"):
                open_checked(path)


def varying_arrays(file):
    lists = np.empty(1, dtype=h5py.vlen_dtype("f4"))
    lists[0] = np.zeros(3, "f4")
    return lists


ATTRIBUTES = {
    "varying string": lambda file: "text of any length",
    "varying strings": lambda file: ["one", "two"],
    "varying arrays": varying_arrays,
    "varying bytes": lambda file: np.array([b"a"], h5py.string_dtype("ascii")),
    "object reference": lambda file: file["array"].ref,
    "region reference": lambda file: file["array"].regionref[:2],
    "compound": lambda file: np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "enum": lambda file: np.array([True, False]),
    "complex": lambda file: 1j,
    "opaque": lambda file: np.void(b"raw"),
}


@pytest.mark.parametrize("place", ["/", "/array"])
@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_an_attribute_of_any_other_type_is_refused_unread(path, kind, place):
    def fill(file):
        file["array"] = np.arange(4.0)
        file[place].attrs["bad"] = ATTRIBUTES[kind](file)

    sealed_around(path, fill)
    before = open_files()
    with pytest.raises(CorruptFileError, match=rf"a\.h5 has an attribute of type .* at {place}$"):
        open_checked(path)
    assert open_files() == before
