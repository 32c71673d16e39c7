"""The writer's lock: one holder, however many ask and however they end."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cache.errors import LockedError, NoSpaceError, NotAvailableError
from cache.sealed.lock import writer_lock

HOLDER = """
import sys, pathlib
from cache.sealed.lock import writer_lock
with writer_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "a.h5"


@pytest.fixture
def other_process(store):
    """A process that holds the lock until its input ends or it is killed."""
    with python(HOLDER, store) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def is_free(path: Path) -> bool:
    try:
        with writer_lock(path):
            return True
    except LockedError:
        return False


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_lock_file_is_gone_after_the_block_and_after_an_error_in_it(store):
    before = open_files()
    with writer_lock(store):
        assert [path.name for path in store.parent.iterdir()] == ["a.h5.lock"]
    with pytest.raises(ZeroDivisionError), writer_lock(store):
        _ = 1 / 0
    assert list(store.parent.iterdir()) == []
    assert open_files() == before


def test_a_second_writer_in_the_same_process_is_refused_until_the_first_is_done(store):
    with writer_lock(store):
        expected = f"^a.h5 is being written by process {os.getpid()} on {re.escape(socket.gethostname())}; wait for it"
        with pytest.raises(LockedError, match=expected) as refusal, writer_lock(store):
            pass
        assert refusal.value.exit_code == 6
        assert not is_free(store), "a refused writer must not take the holder's lock away"
    assert is_free(store)


def test_a_writer_in_another_process_is_refused_and_told_who_holds_the_lock(store, other_process):
    expected = f"a.h5 is being written by process {other_process.pid} on {re.escape(socket.gethostname())}"
    with pytest.raises(LockedError, match=expected), writer_lock(store):
        pass
    other_process.communicate()
    assert is_free(store)


def test_another_file_in_the_same_folder_can_be_written_meanwhile(store, other_process):
    assert is_free(store.with_name("b.h5"))
    assert not is_free(store)


def test_a_killed_holder_leaves_a_free_lock_and_the_next_writer_tidies_up(store, other_process):
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert store.with_name("a.h5.lock").exists()
    with writer_lock(store):
        assert json.loads(store.with_name("a.h5.lock").read_text()) == {
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
    assert list(store.parent.iterdir()) == []


def test_the_lock_blocks_no_reader(store, other_process):
    store.write_bytes(b"content")
    with store.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert handle.read() == b"content"


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_holder(store):
    script = """
import os, pathlib, signal, sys
from cache.sealed.lock import writer_lock
running, told = os.pipe()
with writer_lock(pathlib.Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.write(told, b".")
        sys.stdin.read()
        os._exit(0)
    os.read(running, 1)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with python(script, store) as process:
        child = int(process.stdout.readline())
        assert process.wait() == -signal.SIGKILL
        assert Path(f"/proc/{child}").exists()
        assert is_free(store)
        process.stdin.close()


def test_a_program_started_meanwhile_does_not_keep_the_lock(store):
    with writer_lock(store):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert is_free(store)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_forked_child_that_leaves_the_block_does_not_release_its_parents_lock(store):
    script = """
import os, pathlib, sys
from cache.sealed.lock import writer_lock
with writer_lock(pathlib.Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    print("left", flush=True)
    sys.stdin.read()
"""
    with python(script, store) as process:
        assert process.stdout.readline() == "left\n"
        free = is_free(store)
        process.communicate()
    assert not free


def test_of_many_processes_that_want_the_lock_at_once_one_at_a_time_has_it(store):
    script = """
import os, pathlib, sys
from cache.errors import LockedError
from cache.sealed.lock import writer_lock
store = pathlib.Path(sys.argv[1])
inside, had = store.with_name("inside"), 0
print("ready", flush=True)
sys.stdin.readline()
while had < 100:
    try:
        with writer_lock(store):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if another is inside
            inside.unlink()
            had += 1
    except LockedError:
        pass
"""
    processes = [python(script, store) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert list(store.parent.iterdir()) == []


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"pid": "x", "host": "y"}', '{"pid": 3}', "\udcff"])
def test_an_unreadable_lock_file_still_refuses(store, text):
    lock = store.with_name("a.h5.lock")
    lock.write_bytes(text.encode(errors="surrogateescape"))
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match=r"a\.h5 is being written by another process; wait"), writer_lock(store):
            pass


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lock_file_unlinked_by_its_last_holder_is_not_mistaken_for_the_lock(store, monkeypatch, replaced):
    lock = store.with_name("a.h5.lock")
    flock, calls = fcntl.flock, []

    def unlinked_just_before(handle, operation):
        calls.append(operation)
        if len(calls) == 1:
            lock.unlink()
            if replaced:
                lock.touch()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", unlinked_just_before)
    before = open_files()
    with writer_lock(store):
        assert len(calls) == 2
        with lock.open() as rival, pytest.raises(BlockingIOError):
            flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert open_files() == before


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_file_system_without_locks_is_named_as_such(store, monkeypatch, code):
    def fail(handle, operation):
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    before = open_files()
    expected = rf"the file system of {str(store.parent)!r} has no locks \(No locks available\); record to a local disk"
    with pytest.raises(NotAvailableError, match=expected), writer_lock(store):
        pass
    assert open_files() == before


def test_a_failing_disk_is_not_mistaken_for_another_writer(store, monkeypatch):
    def fail(handle, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(NotAvailableError, match="Input/output error"), writer_lock(store):
        pass


def test_a_folder_that_is_not_there_is_named(store):
    expected = f"cannot write in {str(store.parent / 'no')!r}: No such file or directory"
    with pytest.raises(NotAvailableError, match=expected), writer_lock(store.parent / "no" / "a.h5"):
        pass


def test_a_folder_without_write_permission_is_named(store):
    script = """
import os, pathlib, sys
from cache.errors import NotAvailableError
from cache.sealed.lock import writer_lock
store = pathlib.Path(sys.argv[1])
store.parent.chmod(0o555)
if os.getuid() == 0:
    os.setuid(65534)
try:
    with writer_lock(store):
        pass
except NotAvailableError as error:
    print(error)
"""
    with python(script, store) as process:
        said = process.communicate()[0]
    store.parent.chmod(0o755)
    assert said == f"cannot write in {str(store.parent)!r}: Permission denied\n"


def test_a_symbolic_link_under_the_locks_name_is_not_followed(store):
    victim = store.with_name("victim")
    victim.write_text("precious")
    store.with_name("a.h5.lock").symlink_to(victim)
    with pytest.raises(NotAvailableError, match="cannot write in"), writer_lock(store):
        pass
    assert victim.read_text() == "precious"


def fail_for_lack_of_space(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_on_a_full_disk_the_lock_holds_without_saying_whose_it_is(store, monkeypatch, call):
    monkeypatch.setattr(os, call, fail_for_lack_of_space)
    refused = pytest.raises(LockedError, match=r"a\.h5 is being written by another process")
    with writer_lock(store), refused, writer_lock(store):
        pass
    assert list(store.parent.iterdir()) == []


def test_a_disk_too_full_for_a_lock_file_is_told_as_no_space(store, monkeypatch):
    monkeypatch.setattr(os, "open", fail_for_lack_of_space)
    with pytest.raises(NoSpaceError, match="No space left on device"), writer_lock(store):
        pass
