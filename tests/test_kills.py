"""Recordings killed at random moments: nothing reported done is lost, and going on ends in the same bytes."""

import signal
import time
from collections import Counter
from random import Random

import h5py
import pytest

from tests.fork_server import server as fork_server
from tests.recordings import Reference, acknowledged, names_in, plan_of


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture(scope="module")
def reference(server, gpt2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    seconds = []

    def make(number):
        path = folder / f"{number}.h5"
        ended = server.run("record", folder, path=str(path))
        assert ended["code"] == 0, ended["err"]
        seconds.append(ended["seconds"])
        return path

    made = Reference(make, plan_of(gpt2))
    made.seconds = min(seconds)
    assert len(made.blocks) == 60
    return made


def kill_once(server, reference, folder, random, number=1):
    """The `number`th killed run; None if it was done before the blow. Each may end with a block not yet reported."""
    path, log = folder / "store" / "a.h5", folder / "log"
    left = 1 - acknowledged(log) / len(reference.blocks)
    after = random.uniform(0, reference.seconds * left)
    ended = server.run("record", path.parent, path=str(path), log=str(log), after=after)
    if ended["code"] == 0:
        return None
    assert ended["code"] == -signal.SIGKILL, ended["err"]
    return reference.state(path, acknowledged(log), acknowledged(log) + number)


def trial(server, reference, folder, n_kills, random):
    """States after each kill, and whether going on ended in the same bytes with nothing left beside them."""
    store = folder / "store"
    store.mkdir(parents=True)
    states = [kill_once(server, reference, folder, random, number) for number in range(1, n_kills + 1)]
    at_kill = acknowledged(folder / "log")
    ended = server.run("record", store, path=str(store / "a.h5"), log=str(folder / "log"))
    identical = ended["code"] == 0 and reference.same(store / "a.h5") and names_in(store) == ["a.h5"]
    return [state for state in states if state], at_kill, identical


def kill_trials(server, reference, folder, n_trials, n_kills, seed):
    random, states, at_kill, same = Random(seed), Counter(), set(), []
    for number in range(n_trials):
        kills = random.choice((2, 3)) if number % 2 else 1
        seen, when, identical = trial(server, reference, folder / str(number), kills, random)
        states.update(seen)
        at_kill.add(when)
        same.append(identical)
    while states.total() < n_kills:  # some runs were done before the blow
        number += 1
        seen, when, identical = trial(server, reference, folder / str(number), 1, random)
        states.update(seen)
        at_kill.add(when)
        same.append(identical)
    return states, at_kill, same


def test_a_recording_killed_at_any_moment_loses_nothing_reported_and_goes_on_to_the_same_bytes(
    server, reference, tmp_path
):
    states, _, same = kill_trials(server, reference, tmp_path, 4, 6, seed=5)
    assert set(states) <= {"absent", "sound"}
    assert all(same)


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing_reported_and_every_resume_is_byte_identical(server, reference, tmp_path):
    begun = time.monotonic()
    states, at_kill, same = kill_trials(server, reference, tmp_path, 200, 200, seed=1)
    print(  # noqa: T201  # figures for the closing note
        f"\nR1: {states.total()} kills in {len(same)} recordings: {dict(states)}; {sum(same)}/{len(same)} resumes "
        f"byte-identical; at {len(at_kill)} different numbers of blocks; {time.monotonic() - begun:.0f} s"
    )
    assert set(states) == {"absent", "sound"}
    assert all(same)
    assert len(at_kill) > 40


def naive_state(path):
    try:
        with h5py.File(path) as file:
            return "readable" if len(file) else "empty"
    except (OSError, RuntimeError):
        return "unreadable"


@pytest.mark.slow
def test_a_growing_hdf5_file_does_not_survive_the_same_kills(server, reference, tmp_path):
    random, states = Random(2), Counter()
    arguments = {"source": str(reference.path), "log": str(tmp_path / "log")}
    whole = [server.run("naive", tmp_path, path=str(tmp_path / "whole.h5"), **arguments) for _ in range(3)]
    assert (whole[0]["code"], naive_state(tmp_path / "whole.h5")) == (0, "readable"), whole[0]["err"]
    seconds = min(run["seconds"] for run in whole)
    while states.total() < 50:
        path = tmp_path / f"{states.total()}.h5"
        ended = server.run("naive", tmp_path, path=str(path), after=random.uniform(0.1, 0.9) * seconds, **arguments)
        if ended["code"] == -signal.SIGKILL:  # else it was done before the blow
            states[naive_state(path)] += 1
    print(f"\nR1 control, 50 kills of a growing h5py writer: {dict(states)}")  # noqa: T201
    assert states["unreadable"] >= 25
