"""Analyses stopped between two layers: the same command goes on, computes no finished layer again, and ends alike."""

import signal
import time
from contextlib import suppress

import pytest

from cache import load_dataset, plan_recording, record
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from tests.fork_server import server as fork_server

COMMANDS = {
    "compare": (["--model", "none", "--measure", "matched_cosine,cka"], 4),
    "nmf": (["--model", "none", "--components", "2"], 4),
    "compare --between layers": (["--measure", "cka"], 1 + 19 + 5),
}


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    """Two families, a control and five members at the embedding and three layers."""
    path = tmp_path_factory.mktemp("stopped") / "a.h5"
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=tuple(range(1, 6)), templates=3
    )
    prompts = load_dataset("digits,months,control:0", design)
    record(gpt2, plan_recording(gpt2, prompts, sites="resid"), path)
    return path


def arguments(command, store):
    name, *options = command.split()
    return [name, store, *options, *COMMANDS[command][0], "--out", "results", "--seed", "3"]


@pytest.fixture(
    scope="module",
    params=[pytest.param(command, marks=[pytest.mark.slow] * (command != "compare")) for command in COMMANDS],
)
def whole(request, server, store, tmp_path_factory):
    """A command, and the files that it writes undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    ended = server.command(folder, *arguments(request.param, store))
    assert ended["code"] == 0, ended["err"]
    return request.param, files_of(folder)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def break_off(server, folder, argv, number, hold_at=2):
    """Stop a command after so many sites; how it ended."""
    pid = server.start("command", folder, argv=[str(word) for word in argv], hold_at=hold_at)
    until = time.monotonic() + 120
    while not (folder / "held").exists() and time.monotonic() < until:
        time.sleep(0.02)
    ended = server.result(pid, after=0, number=number)
    with suppress(FileNotFoundError):
        (folder / "held").unlink()
    return ended


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_stopped_analysis_goes_on_to_the_same_bytes(server, store, whole, tmp_path, number):
    command, expected = whole
    argv = arguments(command, store)
    folder = tmp_path / "here"
    folder.mkdir()
    ended = break_off(server, folder, argv, number)
    if number == signal.SIGINT:
        (said,) = ended["err"].splitlines()
        finished = "1 of 4 layers are" if COMMANDS[command][1] == 4 else "what was finished is"
        assert said.startswith(f"interrupted; {finished} kept in results")
        assert said.endswith(", and the same command goes on from there")
        assert (ended["code"], ended["out"]) == (130, "")
    else:
        assert ended["code"] == -signal.SIGKILL
    assert [name for name in files_of(folder) if "unfinished-" not in name] == []
    ended = server.command(folder, *argv)
    assert ended["code"] == 0, ended["err"]
    assert "2 finished before and kept in results" in " ".join(ended["err"].split())
    assert "are not computed again" in ended["err"]
    assert files_of(folder) == expected
    assert list(folder.rglob("unfinished-*")) == []


@pytest.mark.slow
def test_the_same_command_with_another_seed_begins_anew(server, store, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    argv = arguments("nmf", store)
    break_off(server, folder, argv, signal.SIGKILL)
    other = [*argv[:-1], "4"]
    ended = server.command(folder, *other)
    assert ended["code"] == 0, ended["err"]
    assert "is of another run, which differs in seed; all is computed anew" in " ".join(ended["err"].split())
    (tmp_path / "fresh").mkdir()
    server.command(tmp_path / "fresh", *other)
    assert files_of(folder) == files_of(tmp_path / "fresh")
