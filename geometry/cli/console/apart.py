"""Reading a file of unknown origin in a process of its own: whatever it does to HDF5, this program goes on."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache.errors import CorruptFileError, GeometryError


def read_apart(
    task: str, file: Path, *options: str, on_step: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """The answer of one of the tasks of `geometry.cli.console.apart_tasks` on a file, worked out by a child process.

    Args:
        task: the task's name.
        file: the file.
        options: further words for the task.
        on_step: called with how many steps are done, and how many there are.

    Raises:
        CorruptFileError: the file crashed the child, or took more time or memory than a store of its size.
        GeometryError: the child's own refusal.
    """
    # -P: a folder or module named cache where the user happens to be is not ours
    command = [sys.executable, "-P", "-m", "geometry.cli.console.apart_tasks", task, str(file), *options]
    answer: dict[str, Any] = {}
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as child,
    ):
        try:
            for line in child.stdout or ():
                answer = json.loads(line) if line.endswith("\n") else {}  # else it died while it spoke
                if "step" in answer:
                    on_step(*answer["step"])
        finally:
            child.kill()
        if "error" in answer:
            raise _error(str(answer["error"]), str(answer["message"]))
        if "result" in answer:
            return dict(answer["result"])
        complaints.seek(0)
        raise _death(file, child.wait(), complaints.read())


def _error(name: str, message: str) -> GeometryError:
    kinds = {kind.__name__: kind for kind in GeometryError.__subclasses__()}
    return kinds.get(name, GeometryError)(message)


def _death(file: Path, code: int, complaint: str) -> Exception:
    if code == -signal.SIGXCPU:
        return CorruptFileError(f"{file} takes longer to read than a store of its size can; do not open it")
    if code < 0:
        return CorruptFileError(f"{file} ends the process that reads it (signal {-code}); do not open it")
    return RuntimeError(f"reading {file} failed:\n{complaint}")
