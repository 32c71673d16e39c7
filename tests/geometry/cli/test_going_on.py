"""Commands of experiments stopped in the middle: the same command goes on, and ends in the same files."""

import json
import signal
import time

import pytest

from cache import SequenceDesign, load_dataset, plan_recording, record
from cache.families.family import FAMILIES
from tests.fork_server import server as fork_server

N_SITES = 2
COMMANDS = {
    "sweep": ("--from", "digits", "--to", "numwords", "--alphas", "1,2", "--positions", "last"),
    "transfer": ("--families", "digits,numwords", "--contexts", "2"),
    "erase": ("--families", "digits,numwords", "--contexts", "2", "--nulls", "19", "--rank", "2"),
    "query": ("--families", "digits", "--contexts", "2"),
    "cosines": ("--families", "digits,numwords,months"),
    "probe": ("--target", "number,family", "--permutations", "1"),
}


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    """Increasing prompts, and for `query` decreasing ones, at the last token."""
    design = SequenceDesign(
        (FAMILIES["digits"],), ("quote", "list"), ("increasing", "decreasing"), (1,), starts=(2, 3, 4, 5), templates=2
    )
    prompts = load_dataset("digits,numwords,months,control:0-1", design)
    path = tmp_path_factory.mktemp("going-on") / "a.h5"
    record(gpt2, plan_recording(gpt2, prompts, sites="resid", positions="last"), path)
    return path


@pytest.fixture(scope="module")
def whole(server, store, tmp_path_factory):
    """The files of each command, run without being stopped."""
    made = {}

    def of(command):
        if command not in made:
            folder = tmp_path_factory.mktemp(f"whole-{command}")
            ended = server.command(folder, *arguments(command, store))
            assert ended["code"] == 0, ended["err"]
            made[command] = contents(folder / "out")
        return made[command]

    return of


def arguments(command, store, *, layers="1,2"):
    rows = () if command in ("transfer", "erase", "query") else ("--where", "is_last and kind == 'increasing'")
    return [command, str(store), "--layers", layers, *rows, "--out", "out", *COMMANDS[command]]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopped(server, folder, argv, number, *, n_kept=1):
    """Start a command, wait until it has kept so many sites, and send it a signal."""
    hold = folder / "hold"
    hold.touch()
    pid = server.start("held", folder, argv=argv, n_kept=n_kept, hold=str(hold))
    deadline = time.monotonic() + 120
    while not (folder / "hold.there").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    ended = server.result(pid, after=0, number=number)
    hold.unlink()
    (folder / "hold.there").unlink()
    return ended


STOPPED = [("transfer", signal.SIGINT)]
EVERY_WAY = [(command, number) for command in COMMANDS for number in (signal.SIGINT, signal.SIGKILL)]


@pytest.mark.parametrize(
    ("command", "number"),
    [*STOPPED, *(pytest.param(*one, marks=pytest.mark.slow) for one in EVERY_WAY if one not in STOPPED)],
)
def test_a_stopped_command_goes_on_and_ends_in_the_same_files(server, store, whole, tmp_path, command, number):
    argv = arguments(command, store)
    ended = stopped(server, tmp_path, argv, number)
    total = f"{N_SITES * 2} layers (2 passes)" if command == "sweep" else f"{N_SITES} layers"
    if number == signal.SIGINT:
        sentence = f"interrupted; 1 of {total} are kept in out, and the same command goes on from there"
        assert (ended["code"], ended["err"].splitlines()[-1]) == (130, sentence)
    else:
        assert ended["code"] == -signal.SIGKILL
    assert len(list((tmp_path / "out").glob("unfinished-*/*.npz"))) == 1
    ended = server.command(tmp_path, *argv)
    assert ended["code"] == 0, ended["err"]
    assert "1 finished before and kept in out are not computed again" in ended["err"]
    assert contents(tmp_path / "out") == whole(command)


@pytest.mark.slow
def test_a_sweep_goes_on_in_its_second_pass_too(server, store, whole, tmp_path):
    argv = arguments("sweep", store)
    assert stopped(server, tmp_path, argv, signal.SIGKILL, n_kept=N_SITES + 1)["code"] == -signal.SIGKILL
    ended = server.command(tmp_path, *argv)
    assert f"{N_SITES} finished before and kept in out are not computed again" in ended["err"]
    assert "1 finished before and kept in out are not computed again" in ended["err"]
    assert contents(tmp_path / "out") == whole("sweep")


@pytest.mark.slow
def test_another_configuration_begins_anew_and_says_so(server, store, tmp_path):
    stopped(server, tmp_path, arguments("transfer", store), signal.SIGKILL)
    ended = server.command(tmp_path, *arguments("transfer", store), "--nulls", "25")
    assert "what was kept in out is of another run, which differs in n_null; all is computed anew" in ended["err"]
    assert "finished before" not in ended["err"]
    assert not list((tmp_path / "out").glob("unfinished-*"))
    assert json.loads((tmp_path / "out" / "result.json").read_text())["parameters"]["n_null"] == 25
