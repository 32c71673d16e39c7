"""Every command, run in this process in a folder of its own."""

import sys

import pytest

from geometry.cli import main
from tests.geometry.cli.every_command import Place, make_place


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
