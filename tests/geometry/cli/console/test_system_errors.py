"""Failures of the operating system that nothing expected: one sentence, the right exit code."""

import errno
import os
import sys

import numpy as np
import pytest
import torch

from geometry.cli import main
from geometry.cli.console.system_errors import is_memory_error, system_error


def failing(code, *names):
    return OSError(code, os.strerror(code), *names)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (failing(errno.ENOSPC), 7, "no room to write to standard output or a temporary file (No space left on device)"),
        (failing(errno.EDQUOT, "/x/a"), 7, "no room to write '/x/a' (Disk quota exceeded)"),
        (failing(errno.EACCES, b"/x/a"), 3, "the system refused '/x/a': Permission denied"),
        (failing(errno.EMFILE), 3, "the system refused what was asked of it: Too many open files"),
        (OSError("of no\nknown kind"), 3, "the system refused what was asked of it: of no known kind"),
    ],
)
def test_an_error_is_a_sentence_and_a_code(error, code, told):
    assert (system_error(error).exit_code, str(system_error(error))) == (code, told)


def test_refused_memory_is_known_whoever_asked_for_it():
    for ask in (lambda: np.empty(1 << 60, np.uint8), lambda: torch.empty(1 << 60, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as refused:
            ask()
        assert is_memory_error(refused.value)
    assert not is_memory_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (failing(errno.ENOSPC), 7, "error: no room to write to standard output or a temporary file (No space left on"),
        (MemoryError(), 7, "error: memory does not suffice; fewer rows (--where), layers or tokens at once take less"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_a_command_that_meets_one_ends_in_a_line(monkeypatch, capsys, error, code, told):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("cache.prompts.datasets.load_dataset", fails)
    with pytest.raises(SystemExit) as left:
        main(["prompts"])
    err = capsys.readouterr().err
    assert (left.value.code, err.startswith(told), err.count("\n")) == (code, True, bool(told))


def test_a_fault_of_ours_is_shown_whole(monkeypatch):
    monkeypatch.setattr("cache.prompts.datasets.load_dataset", lambda *_: {}["none"])
    with pytest.raises(KeyError):
        main(["prompts"])
    assert sys.stdout is not None
