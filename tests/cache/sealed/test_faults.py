"""Failures of the operating system itself, put into a real process at its n-th call (strace), for every n.

Unlike a replaced `os.pwrite`, this reaches what libraries write too: HDF5 ends a process by a signal when a disk is
full, which no test inside the process would survive to see.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cache.sealed_files import create_and_fill, truly_committed

ROOT = Path(__file__).parents[3]
RUN = """
import sys
from pathlib import Path
from cache.errors import GeometryError
from tests.cache.sealed_files import create_and_fill
try:
    create_and_fill(Path(sys.argv[1]))
except GeometryError as error:
    print(error)
    sys.exit(error.exit_code)
"""
CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "fallocate", "ftruncate")


def traceable() -> bool:
    strace = shutil.which("strace")
    return bool(strace) and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not traceable(), reason="needs strace, and the right to trace"),
]


def run_with(path: Path, call: str, failure: str, number: int) -> tuple[int, str, bool]:
    """Exit code, what was said, and whether the failure came to pass."""
    trace = path.with_name("trace")
    # only calls on the store's own files are touched; Python and the loader make others
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{failure}:when={number}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", RUN, str(path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    injected = "(INJECTED)" in trace.read_text()
    trace.unlink()
    return done.returncode, done.stdout + done.stderr, injected


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    create_and_fill(path)
    return path.read_bytes()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("failure", "code"), [("ENOSPC", 7), ("EDQUOT", 7), ("EIO", 3)])
def test_a_failure_at_any_call_is_told_in_a_sentence_and_the_next_run_ends_in_the_same_bytes(
    tmp_path, whole, call, failure, code
):
    path = tmp_path / "a.h5"
    failed = 0
    for number in range(1, 100):
        left, said, injected = run_with(path, call, f"error={failure}", number)
        assert left >= 0, f"ended by signal {-left}: {said}"
        if not injected:
            break
        harmless = call == "fsync" and number == 2  # of the folder: not every file system can
        assert left == (0 if harmless else code), said
        assert harmless or said.count("\n") == 1, said
        if path.exists():
            blocks = truly_committed(path)
            assert blocks == list(range(len(blocks)))
        create_and_fill(path)
        assert path.read_bytes() == whole
        assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
        path.unlink()
        failed += 1
    assert failed >= {"pwrite64": 20, "fdatasync": 9}.get(call, 1)


@pytest.mark.parametrize("call", [call for call in CALLS if call != "rename"])  # which no signal interrupts
def test_a_call_that_a_signal_interrupts_is_made_again(tmp_path, whole, call):
    path = tmp_path / "a.h5"
    for number in (1, 2, 5):
        code, said, injected = run_with(path, call, "error=EINTR", number)
        if injected:
            assert (code, said) == (0, "")
            assert path.read_bytes() == whole
        path.unlink()


def test_writes_that_take_only_a_part_are_gone_on_with(tmp_path, whole):
    path = tmp_path / "a.h5"
    for number in range(1, 12):
        # the kernel is told to have written 0 bytes: none of them are there, and all of them are still to be written
        code, said, injected = run_with(path, "pwrite64", "retval=0", number)
        assert injected
        assert (code, said) == (0, "")
        assert path.read_bytes() == whole
        path.unlink()
