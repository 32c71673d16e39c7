"""Every command, run in this process in a folder of its own."""

import sys
from pathlib import Path
from typing import Any

import pytest

from geometry.cli import main
from geometry.cli.console import apart_tasks
from tests.geometry.cli.every_command import Place, make_place


@pytest.fixture(scope="module", autouse=True)
def loaded_once(a_model_is_loaded_once) -> None:
    """Commands load a model once; loading has tests of its own."""


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at in this process; that a child tells the same has tests of its own (`test_apart`)."""

    def read_here(task: str, file: Path, *options: str, on_step: Any = None) -> Any:
        monkeypatch.setattr(apart_tasks, "_say", lambda answer: on_step(*answer["step"]))
        return apart_tasks.TASKS[task](Path(file), *options)

    monkeypatch.setattr("geometry.cli.record.store.read_apart", read_here)


@pytest.fixture(scope="session")
def place(gpt2, model_folders, tmp_path_factory) -> Place:
    return make_place(gpt2, tmp_path_factory.mktemp("place"), model_folders["gpt2"])


@pytest.fixture
def run_here(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives exit code, standard output and standard error."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def go(*arguments: object) -> tuple[int, str, str]:
        argv = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["geometry", *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(argv)
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return go
