"""Writers and readers of one file at once: one writes, the others are told, or see its finished blocks."""

import socket
import time

import pytest

from cache import ActivationStore
from tests.fork_server import HELD_AT
from tests.fork_server import server as fork_server
from tests.recordings import Reference, acknowledged, names_in, plan_of


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture(scope="module")
def reference(server, gpt2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")

    def make(number):
        assert server.run("record", folder, path=str(folder / f"{number}.h5"))["code"] == 0
        return folder / f"{number}.h5"

    return Reference(make, plan_of(gpt2))


@pytest.fixture
def start(server, tmp_path):
    """Begin a recording in another process; returns its pid when `n_blocks` are done."""

    def start(n_blocks, **options):
        (tmp_path / "store").mkdir()
        log = tmp_path / "log"
        pid = server.start("record", tmp_path / "store", path="a.h5", log=str(log), **options)
        await_blocks(log, n_blocks)
        return pid

    return start


def await_blocks(log, n_blocks):
    """Wait until a writer has done so many blocks, or has plainly hung."""
    until = time.monotonic() + 300
    while acknowledged(log) < n_blocks and time.monotonic() < until:
        time.sleep(0.005)


def test_fifty_of_fifty_second_writers_are_refused_by_name_and_leave_the_first_alone(
    server, reference, start, model_folders, tmp_path
):
    hold, store = tmp_path / "hold", tmp_path / "store" / "a.h5"
    hold.touch()
    first = start(HELD_AT, hold=str(hold))
    before = store.read_bytes()
    command = ["cache", "--model", model_folders["gpt2"], "--out", "a.h5"]
    for number in range(50):
        if number % 5:
            refused = server.run("record", store.parent, path="a.h5")
        else:  # the command looks at the configuration first
            refused = server.command(store.parent, *command, "--overwrite")
        expected = f"a.h5 is being written by process {first} on {socket.gethostname()}; wait for it or stop it"
        assert (refused["code"], refused["err"].splitlines()[-1].split(": ", 1)[1]) == (6, expected)
    assert store.read_bytes() == before
    hold.unlink()
    ended = server.result(first)
    assert ended["code"] == 0, ended["err"]
    assert reference.same(store)
    assert names_in(store.parent) == ["a.h5"]


def test_fifty_readers_during_the_write_see_whole_finished_blocks_with_the_right_values(
    server, reference, start, tmp_path
):
    leash, log = tmp_path / "leash", tmp_path / "log"
    leash.write_bytes(bytes(2))
    first = start(1, leash=str(leash))
    states, shown = [], set()
    for number in range(1, 51):
        await_blocks(log, number)
        leash.write_bytes(bytes(number + 2))  # the writer works on one or two blocks while this reader reads
        at_least = acknowledged(log)
        with ActivationStore.open(tmp_path / "store" / "a.h5") as part:
            shown.add(len(part.rows))
        states.append(reference.state(tmp_path / "store" / "a.h5", at_least, at_most=at_least + 3))
    leash.unlink()
    assert server.result(first)["code"] == 0
    assert set(states) == {"sound"}
    assert len(shown) > 15  # a reader sees two blocks at most that were not there when it began
    assert reference.same(tmp_path / "store" / "a.h5")


def test_a_reader_that_has_the_file_open_does_not_hinder_the_writer_and_keeps_what_it_saw(
    server, reference, start, tmp_path
):
    hold, store = tmp_path / "hold", tmp_path / "store" / "a.h5"
    hold.touch()
    first = start(HELD_AT, hold=str(hold))
    with ActivationStore.open(store) as part:
        rows = len(part.rows)
        before = part[part.hooks[-1]]
        hold.unlink()
        assert server.result(first)["code"] == 0
        assert part[part.hooks[-1]].equal(before)
        assert len(before) == rows < len(reference.rows)
        assert store.stat().st_size == reference.path.stat().st_size
    assert reference.same(store)
