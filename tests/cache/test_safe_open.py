"""Opening files that anybody may have made: a sealed file opens, and nothing outside it is ever touched."""

import ctypes
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.errors import CorruptFileError, InputError, NotAvailableError
from cache.safe_open import data_offset, open_checked, read_attribute, reading, safe_open

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


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every array of a file, as anybody reads it."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


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
    with h5py.File(path, "w") as file:
        file["fine"] = np.arange(4.0)
        plant(file.require_group(group), outside)
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
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(8.0)
        offset = file["x"].id.get_offset()
    whole = path.read_bytes()
    place = offset.to_bytes(8, "little") + (64).to_bytes(8, "little")
    assert whole.count(place) == 1
    for moved, opens in ((len(whole) - 64, True), (len(whole) - 63, False), (1 << 40, False)):
        path.write_bytes(whole.replace(place, moved.to_bytes(8, "little") + place[8:]))
        if opens:
            open_checked(path).close()
        else:
            with pytest.raises(
                CorruptFileError, match=r"has data beyond the file's end at /x|cannot be read: .*corruption"
            ):
                open_checked(path)


def test_more_objects_than_any_store_has_are_refused(path, monkeypatch):
    monkeypatch.setattr("cache.safe_open._MAX_OBJECTS", 10)
    for count, opened in ((10, True), (11, False)):
        with h5py.File(path, "w") as file:
            for number in range(count):
                file[f"n{number:02}"] = number
        if opened:
            open_checked(path).close()
        else:
            with pytest.raises(CorruptFileError, match="holds too many or too deeply nested objects at /n10"):
                open_checked(path)


def plain_arrays() -> st.SearchStrategy[np.ndarray]:
    shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    types = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u1", "u8", "S1", "S7"])
    return st.builds(
        lambda shape, dtype: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype), shapes, types
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.dictionaries(st.sampled_from(["a", "g/b", "g/h/c", "g/h/k/d", "é ü"]), plain_arrays(), max_size=5))
def test_numbers_and_fixed_strings_of_any_shape_come_back_as_they_are(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    with safe_open(path) as file:
        for name, array in arrays.items():
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name][()], array)
            raw = path.read_bytes()[data_offset(file[name]) :][: array.nbytes]
            assert raw == array.tobytes() or not array.size


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), signed=st.booleans())
def test_bytes_that_are_no_hdf5_file_are_refused_in_one_line(path, content, signed):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" * signed + content)
    with pytest.raises(CorruptFileError, match=r"(is not an HDF5 file|cannot be read: ).*") as refusal:
        open_checked(path)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_file_truncated_at_any_length_is_refused(path):
    with h5py.File(path, "w") as file:
        file["group/numbers"] = np.arange(500.0)
        file.attrs["name"] = "value"
    whole = path.read_bytes()
    open_checked(path).close()
    for length in [*range(0, 100, 5), *range(100, len(whole), 83), len(whole) - 1]:
        path.write_bytes(whole[:length])
        expected = "is not an HDF5 file" if length < 8 else "cannot be read: "
        with pytest.raises(CorruptFileError, match=expected):
            open_checked(path)


def test_a_file_that_is_not_there_is_named(path):
    with pytest.raises(NotAvailableError, match=f"{str(path)!r} is not there; give an .h5 file") as refusal:
        open_checked(path)
    assert refusal.value.exit_code == 3


def test_a_folder_is_told_apart_from_a_file(path):
    path.mkdir()
    with pytest.raises(NotAvailableError, match=f"{str(path)!r} is a folder; give an .h5 file"):
        open_checked(str(path))


def test_a_pipe_is_refused_without_waiting_for_its_other_end(path):
    os.mkfifo(path)
    with pytest.raises(NotAvailableError, match=r"give an \.h5 file"):
        open_checked(path)


def test_a_name_too_long_for_the_file_system_is_told_in_a_sentence():
    with pytest.raises(NotAvailableError, match="File name too long"):
        open_checked("x" * 300 + ".h5")


def open_as_nobody(path: Path) -> str:
    """What a user without rights is told of a file."""
    script = """
import os, sys
from cache.errors import NotAvailableError
from cache.safe_open import open_checked
if os.getuid() == 0:
    os.setuid(65534)
try:
    open_checked(sys.argv[1])
except NotAvailableError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    return done.stdout or done.stderr.splitlines()[-1]


@pytest.fixture
def public_folder():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(stat.S_IRWXU)


def test_a_file_without_read_permission_is_told_in_a_sentence(public_folder):
    file = public_folder / "a.h5"
    file.touch(0o000)
    assert open_as_nobody(file) == f"cannot read {str(file)!r}: Permission denied\n"


def test_a_file_in_a_folder_without_permission_is_told_in_a_sentence(public_folder):
    (public_folder / "a.h5").touch()
    public_folder.chmod(0o000)
    if os.getuid() != 0:
        public_folder.chmod(0o600)
    assert open_as_nobody(public_folder / "a.h5") == f"cannot read {str(public_folder / 'a.h5')!r}: Permission denied\n"


def test_the_file_is_closed_after_the_block_and_after_an_error_in_it(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
    before = open_files()
    with safe_open(path) as file:
        assert file["x"][:].tolist() == [0, 1, 2]
    assert not file
    with pytest.raises(CorruptFileError, match=r"cannot be read: .*doesn't exist"), safe_open(path) as file:
        file["y"]
    assert open_files() == before


def test_the_file_cannot_be_written_through_it(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
    content = path.read_bytes()
    with pytest.raises(CorruptFileError, match="cannot be read"), safe_open(path) as file:
        file["x"][:] = 7.0
    assert path.read_bytes() == content


def test_a_file_that_the_user_has_open_in_h5py_opens(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
    with h5py.File(path, "r") as plain, safe_open(path) as file:
        assert file["x"][:].tolist() == plain["x"][:].tolist()


def test_a_file_that_we_have_open_opens_in_the_users_h5py(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
    with open_checked(path) as file, h5py.File(path, "r") as plain:
        assert file["x"][:].tolist() == plain["x"][:].tolist()


def test_an_attribute_is_read_as_text_of_whatever_kind_it_is(path):
    with h5py.File(path, "w") as file:
        file.attrs["fixed"] = np.bytes_("één".encode())
        file.attrs["varying"] = "één"
        file.attrs["number"] = 3
    with safe_open(path) as file:
        assert [read_attribute(file, name) for name in ("fixed", "varying", "number")] == ["één", "één", "3"]
        with pytest.raises(KeyError, match="missing"):
            read_attribute(file, "missing")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("truncated file"), "truncated file"),
        (KeyError("no object 'x'"), "no object 'x"),
        (IndexError("list index out of range"), "list index out of range"),
        (RuntimeError("first line\nsecond line"), "first line"),
        (TypeError(), "TypeError"),
        (ValueError("bad shape"), "bad shape"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte"),
        (RecursionError("too deep"), "too deep"),
    ],
)
def test_what_h5py_raises_on_damage_becomes_one_sentence_with_the_files_name(error, told):
    expected = rf"^some\.h5 cannot be read: .*{re.escape(told)}.*$"
    with pytest.raises(CorruptFileError, match=expected) as refusal, reading("some.h5"):
        raise error
    assert "second" not in str(refusal.value)
    assert refusal.value.__cause__ is error


@pytest.mark.parametrize("error", [InputError("your query"), NotAvailableError("gone"), KeyboardInterrupt()])
def test_errors_that_are_not_damage_pass_unchanged(error):
    with pytest.raises(type(error)) as passed, reading("some.h5"):
        raise error
    assert passed.value is error
