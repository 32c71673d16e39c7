"""Files are written whole or not at all, whatever stops the writing, and each failure is one sentence."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cache.errors import GeometryError, InputError, NoSpaceError, NotAvailableError
from cache.whole_files import check_file, check_folder, prepare_place, storage_error, write_whole
from tests.fork_server import NOBODY, ROOT


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_what_is_read_and_nothing_else_is_there(tmp_path):
    path = write_whole(tmp_path / "new" / "folder" / "a.csv", "zwölf\r\n")
    assert path.read_bytes() == "zwölf\r\n".encode()
    write_whole(str(path), b"\0\xff")
    assert path.read_bytes() == b"\0\xff"
    assert names_in(path.parent) == ["a.csv"]


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["x" * 255, "-x", "with space\n", "ünïcödé-数字", "b\udcffd", "a.tmp"])
def test_an_odd_name_is_a_name_like_any_other(tmp_path, name):
    check_file(tmp_path / name)
    write_whole(tmp_path / name, "1")
    assert names_in(tmp_path) == [name]


# --- whatever stops it


@pytest.mark.parametrize("failing", ["open", "fdopen", "replace"])
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), NoSpaceError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), NoSpaceError),
        (OSError(errno.EROFS, "Read-only file system"), NotAvailableError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
    ],
)
def test_an_earlier_file_stays_and_nothing_is_left(tmp_path, monkeypatch, failing, failure, kind):
    write_whole(tmp_path / "a.csv", "earlier")

    def fails(*_, **__):
        raise failure

    monkeypatch.setattr(os, failing, fails)
    for name in ("a.csv", "new.csv"):
        with pytest.raises(kind) as told:
            write_whole(tmp_path / name, "later")
        assert not isinstance(told.value, GeometryError) or name in str(told.value)
    monkeypatch.undo()
    assert names_in(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "earlier"


def test_a_limit_met_in_the_middle_of_a_file_leaves_none_of_it(tmp_path):
    write_whole(tmp_path / "a.bin", b"earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(NoSpaceError, match=r"no room to write '.*a\.bin' \(File too large\)"):
            write_whole(tmp_path / "a.bin", bytes(6000))
        with pytest.raises(NoSpaceError):
            write_whole(tmp_path / "b.bin", bytes(6000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        for look in (check_file, check_folder):
            with pytest.raises(NoSpaceError, match="File too large"):
                look(tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names_in(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"earlier"


# --- places that take no file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.mkdir(), r"is a folder; give a file name"),
        (lambda path: path.symlink_to(path.with_name("target")), r"is a symbolic link; give a file name"),
        (os.mkfifo, r"is a device; give a file name"),
    ],
)
@pytest.mark.parametrize("write", [lambda path: write_whole(path, ""), check_file, prepare_place])
def test_what_is_there_and_is_no_file_is_refused(tmp_path, make, told, write):
    make(tmp_path / "a.csv")
    with pytest.raises(InputError, match=told):
        write(tmp_path / "a.csv")
    assert names_in(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("write", [lambda path: write_whole(path, ""), check_file])
@pytest.mark.parametrize(
    ("place", "kind", "told"),
    [
        ("x" * 256, InputError, r"the file name 'x{20}'\.\.\. is too long by 1 bytes; give a shorter one"),
        ("a\0b", InputError, r"a path cannot hold a zero byte; got "),
        ("y" * 300 + "/a.csv", NotAvailableError, "File name too long"),
        ("file/a.csv", NotAvailableError, r"cannot make the folder '.*file': (Not a directory|File exists)"),
        ("file/b/a.csv", NotAvailableError, r"cannot make the folder '.*file/b': Not a directory"),
        ("loop/a.csv", NotAvailableError, "Too many levels of symbolic links|File exists"),
        ("nowhere/a.csv", NotAvailableError, "No such file or directory|File exists|Not a directory"),
    ],
)
def test_a_place_that_takes_no_file_is_one_sentence_before_and_while_it_is_written(tmp_path, write, place, kind, told):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    with pytest.raises(kind, match=told) as error:
        write(f"{tmp_path}/{place}")
    assert "\n" not in str(error.value)
    assert names_in(tmp_path) == ["file", "loop", "nowhere"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_file_system_that_makes_no_files_is_told():
    for look in (check_file, check_folder, lambda path: write_whole(path, "")):
        with pytest.raises(NotAvailableError, match=r"cannot (make|write in) the folder '/proc"):
            look("/proc/1/new/a.csv")


@pytest.mark.parametrize("look", [check_file, check_folder])
def test_looking_changes_nothing(tmp_path, look):
    look(tmp_path / "deep" / "er")
    look(str(tmp_path / "a"))
    assert names_in(tmp_path) == []


def test_a_folder_or_a_link_to_one_is_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for folder in (tmp_path, tmp_path / "link", tmp_path / "link" / "new"):
        check_folder(folder)
    write_whole(tmp_path / "link" / "a.csv", "1")
    assert names_in(tmp_path / "real") == ["a.csv"]


AS_NOBODY = """
import os, sys
from cache.errors import GeometryError
from cache.whole_files import check_file, write_whole
if os.geteuid() == 0:
    os.setuid(int(sys.argv[1]))
os.chdir(sys.argv[2])
for path in ("closed/a.csv", "closed/new/a.csv", "mine.csv"):
    for write in (check_file, lambda path: write_whole(path, "")):
        try:
            write(path)
        except GeometryError as error:
            print(f"{type(error).__name__}: {error}")
"""


def test_without_the_right_to_write_each_place_is_told_and_a_protected_file_stays():
    """As nobody where the tests run as root; pytest's own folders are for their owner only."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o777)
        (folder / "closed").mkdir(mode=0o555)
        (folder / "mine.csv").write_text("precious")
        (folder / "mine.csv").chmod(0o444)
        command = [sys.executable, "-c", AS_NOBODY, str(NOBODY), made]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
        lines = done.stdout.splitlines()
        assert len(lines) == 6, done.stdout + done.stderr
        for line in lines[:4]:
            assert re.match(r"NotAvailableError: cannot (write|make).* '.*closed.*': Permission denied", line)
        for line in lines[4:]:
            assert re.match(r"NotAvailableError: cannot write 'mine\.csv': it may only be read", line)
        assert (folder / "mine.csv").read_text() == "precious"
        (folder / "closed").chmod(0o755)


# --- errors


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, NoSpaceError, r"no room to write '/x/a\.h5' \(No space left on device\)"),
        (errno.EDQUOT, NoSpaceError, r"no room to write '/x/a\.h5' \(Disk quota exceeded\)"),
        (errno.EFBIG, NoSpaceError, r"no room to write '/x/a\.h5' \(File too large\)"),
        (errno.EIO, NotAvailableError, r"cannot write '/x/a\.h5': Input/output error"),
        (errno.EROFS, NotAvailableError, r"cannot write '/x/a\.h5': Read-only file system"),
    ],
)
def test_failed_writes_are_told_apart_by_whether_space_is_missing(code, kind, message):
    for failure in (OSError(code, os.strerror(code)), Exception(f"Error: I/O: {os.strerror(code)} (os error {code})")):
        error = storage_error(failure, Path("/x/a.h5"))
        assert type(error) is kind
        assert re.fullmatch(message, str(error))
        needing = str(storage_error(failure, Path("/x/a.h5"), 1 << 20))
        assert needing.endswith("; the file needs 1,048,576 bytes") == (kind is NoSpaceError)


def test_a_failure_without_number_is_told_with_its_text():
    for failure in (OSError("Unable to create attribute"), RuntimeError("Unable to\ncreate attribute")):
        assert str(storage_error(failure, Path("a.h5"))) == "cannot write 'a.h5': Unable to create attribute"
    assert str(storage_error(ValueError(), Path("a.h5"))) == "cannot write 'a.h5': ValueError"
