"""Opening files that anybody may have made: a sealed file opens; what is another, or not whole, is told apart."""

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

from cache.errors import CorruptFileError, FingerprintError, InputError, NotAvailableError
from cache.sealed.opening import data_offset, open_beside, open_checked, read_attribute, reading, safe_open
from tests.cache.resealing import MAGIC, end_of_hdf5, resealed, sealed_around
from tests.cache.sealed_files import open_files


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.h5"


# --- what passes


def test_numbers_and_fixed_strings_are_read_as_text(path):
    def fill(file):
        file.attrs["fixed"] = np.bytes_("één".encode())
        file.attrs["number"] = 3

    sealed_around(path, fill)
    with safe_open(path) as file:
        assert [read_attribute(file, name) for name in ("fixed", "number")] == ["één", "3"]
        with pytest.raises(KeyError, match="missing"):
            read_attribute(file, "missing")


def plain_arrays() -> st.SearchStrategy[np.ndarray]:
    shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    types = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u1", "u8", "S1", "S7"])
    return st.builds(
        lambda shape, dtype: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype), shapes, types
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.dictionaries(st.sampled_from(["a", "g/b", "g/h/c", "g/h/k/d", "é ü"]), plain_arrays(), max_size=5))
def test_numbers_and_fixed_strings_of_any_shape_come_back_as_they_are(path, arrays):
    sealed_around(path, lambda file: file.update(arrays))
    with safe_open(path) as file:
        for name, array in arrays.items():
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name][()], array)
            raw = path.read_bytes()[data_offset(file[name]) :][: array.nbytes]
            assert raw == array.tobytes() or not array.size


# --- files that are not ours, or not whole


@pytest.fixture
def no_hdf5(monkeypatch):
    """HDF5 is given nothing to read."""
    monkeypatch.setattr(
        "cache.sealed.opening.h5py.File", lambda *arguments, **options: pytest.fail("HDF5 read the file")
    )


SIGNATURE = b"\x89HDF\r\n\x1a\n"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", SIGNATURE, SIGNATURE + bytes(5) + b"\x08", MAGIC]))
def test_bytes_that_are_no_sealed_file_are_refused_in_one_line_and_never_reach_hdf5(path, no_hdf5, content, start):
    path.write_bytes(start + content)
    with pytest.raises(CorruptFileError) as refusal:
        open_checked(path)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{path} ")


def plain_hdf5(path, **options):
    with h5py.File(path, "w", **options) as file:
        file["x"] = np.arange(3.0)


def sealed(path) -> bytes:
    sealed_around(path, lambda file: file.update(x=np.arange(3.0)))
    return path.read_bytes()


def of_version(version):
    return lambda path: path.write_bytes(sealed(path).replace(MAGIC, MAGIC.replace(b"2", version), 1))


NO_HDF5 = "is not an HDF5 file, or its first bytes are damaged"
NOT_OURS = "is HDF5 but not a file that this geometry wrote, or was cut off or changed by another program"
OTHERS = {
    "empty": (lambda path: path.touch(), NO_HDF5),
    "text": (lambda path: path.write_text("text"), NO_HDF5),
    "signature": (lambda path: path.write_bytes(SIGNATURE), NO_HDF5),
    "HDF5": (plain_hdf5, NOT_OURS),
    "HDF5 under a user block": (lambda path: plain_hdf5(path, userblock_size=512), NO_HDF5),
    "new HDF5": (lambda path: plain_hdf5(path, libver="latest"), NOT_OURS),
    "version of bytes": (of_version(b"\xff"), NOT_OURS),
    "version of nothing": (of_version(b""), NOT_OURS),
    "line end damaged": (lambda path: path.write_bytes(sealed(path).replace(MAGIC, MAGIC[:-1] + b"\0")), NOT_OURS),
    "version 1": (of_version(b"1"), "has format version 1; this geometry reads 2"),
    "version 3": (of_version(b"3"), "has format version 3; this geometry reads 2"),
    "version 10": (of_version(b"10"), "has format version 10; this geometry reads 2"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_each_kind_of_file_without_our_footer_is_told_apart_and_never_reaches_hdf5(path, kind, request):
    write, message = OTHERS[kind]
    write(path)
    request.getfixturevalue("no_hdf5")
    before = open_files()
    with pytest.raises(FingerprintError if "format version" in message else CorruptFileError) as refusal:
        open_checked(path)
    assert str(refusal.value) == f"{path} {message}"
    assert open_files() == before


def test_a_truncated_or_extended_file_is_told_with_its_bytes_and_never_reaches_hdf5(path, request):
    def fill(file):
        file["group/numbers"] = np.arange(500.0)
        file.attrs["name"] = np.bytes_("value")

    sealed_around(path, fill)
    whole = path.read_bytes()
    end = end_of_hdf5(whole)
    open_checked(path).close()
    request.getfixturevalue("no_hdf5")
    before = open_files()
    for length in [*range(60), *range(60, end, 83), *range(end - 1, len(whole))]:
        path.write_bytes(whole[:length])
        told = f"is cut off: it has {length:,} of {end:,} bytes; copy it again or record it anew with --overwrite"
        told = NO_HDF5 if length < 48 else told if length < end else NOT_OURS
        with pytest.raises(CorruptFileError, match=rf"^{re.escape(f'{path} {told}')}( with --overwrite)?$"):
            open_checked(path)
    for more in (1, 64, 5000):
        path.write_bytes(whole + bytes(more))
        told = f"has {len(whole) + more:,} bytes where it had {len(whole):,}; copy it again or record it anew"
        with pytest.raises(CorruptFileError, match=rf"^{re.escape(f'{path} {told}')}( with --overwrite)?$"):
            open_checked(path)
    assert open_files() == before


def test_what_h5py_changes_in_a_sealed_file_is_refused_without_hdf5_reading_it(path, request):
    whole = sealed(path)
    with h5py.File(path, "r+") as file:
        file["x"][1] = 7
    changed = path.read_bytes()
    request.getfixturevalue("no_hdf5")
    for content, told in (
        (changed, NOT_OURS),
        (changed[: end_of_hdf5(whole)] + whole[end_of_hdf5(whole) :], "is damaged outside its activations (in its"),
    ):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=rf"^{re.escape(f'{path} {told}')}"):
            open_checked(path)


def test_a_valid_footer_behind_what_is_no_hdf5_is_refused_in_one_line(path):
    whole = sealed(path)
    random = np.random.default_rng(0)
    for kept in (48, 60, 100, end_of_hdf5(whole) - 1):
        hdf5 = whole[:40] + kept.to_bytes(8, "little") + random.bytes(kept)[48:]
        path.write_bytes(resealed(hdf5, []))
        with pytest.raises(CorruptFileError, match=rf"^{re.escape(str(path))} cannot be read: .*") as refusal:
            open_checked(path)
        assert "\n" not in str(refusal.value)


def test_a_file_replaced_while_it_is_opened_is_told_and_nothing_stays_open(path, monkeypatch):
    other = path.with_name("other.h5")
    sealed_around(path, lambda file: file.update(x=np.zeros(3)))
    sealed_around(other, lambda file: file.update(x=np.ones(3)))
    before = open_files()

    def swapped(place):
        os.replace(other, place)
        return h5py.File(place, "r")

    with monkeypatch.context() as patch:
        patch.setattr("cache.sealed.opening._open_shared", swapped)
        with pytest.raises(CorruptFileError, match=r"a\.h5 was replaced while it was opened; try again"):
            open_checked(path)
    assert open_files() == before
    with safe_open(path) as file:
        assert file["x"][:].tolist() == [1, 1, 1]


def test_a_second_handle_is_of_the_same_file_or_none(path):
    sealed_around(path, lambda file: file.update(x=np.zeros(3)))
    before = open_files()
    with open_checked(path) as file:
        handle = open_beside(file)
        assert os.path.samestat(os.fstat(handle), path.stat())
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(handle, b"x")
        os.close(handle)
        moved = path.rename(path.with_name("moved.h5"))
        with pytest.raises(NotAvailableError, match=r"a\.h5' is not there"):
            open_beside(file)
        path.write_bytes(moved.read_bytes())
        with pytest.raises(CorruptFileError, match=r"a\.h5 was replaced while it was opened; try again"):
            open_beside(file)
    assert open_files() == before


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
from cache.sealed.opening import open_checked
if os.getuid() == 0:
    os.setuid(65534)
try:
    open_checked(sys.argv[1])
except NotAvailableError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
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
    sealed_around(path, lambda file: file.update(x=np.arange(3.0)))
    before = open_files()
    with safe_open(path) as file:
        assert file["x"][:].tolist() == [0, 1, 2]
    assert not file
    with pytest.raises(CorruptFileError, match=r"cannot be read: .*doesn't exist"), safe_open(path) as file:
        file["y"]
    assert open_files() == before


def test_the_file_cannot_be_written_through_it(path):
    sealed_around(path, lambda file: file.update(x=np.arange(3.0)))
    content = path.read_bytes()
    with pytest.raises(CorruptFileError, match="cannot be read"), safe_open(path) as file:
        file["x"][:] = 7.0
    assert path.read_bytes() == content


def test_a_file_that_the_user_has_open_in_h5py_opens(path):
    sealed_around(path, lambda file: file.update(x=np.arange(3.0)))
    with h5py.File(path, "r") as plain, safe_open(path) as file:
        assert file["x"][:].tolist() == plain["x"][:].tolist()


def test_a_file_that_we_have_open_opens_in_the_users_h5py(path):
    sealed_around(path, lambda file: file.update(x=np.arange(3.0)))
    with open_checked(path) as file, h5py.File(path, "r") as plain:
        assert file["x"][:].tolist() == plain["x"][:].tolist()


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
