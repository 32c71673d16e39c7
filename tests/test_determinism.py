"""The same recording is the same bytes, whenever, in whichever process and with however many threads it is made."""

import sys

import h5py
import pytest

from cache import record
from tests.fork_server import ROOT
from tests.fork_server import server as fork_server
from tests.recordings import Reference, plan_of


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("determinism")


@pytest.fixture(scope="module")
def reference(server, gpt2, folder):
    def make(number):
        assert server.run("record", folder, path=str(folder / f"{number}.h5"))["code"] == 0
        return folder / f"{number}.h5"

    return Reference(make, plan_of(gpt2))


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (item.dtype, item.shape, item[...].tobytes())})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_twice_the_same_recording_differs_in_the_time_of_its_creation_and_a_digest_at_most(reference, folder):
    first, second = datasets(folder / "0.h5"), datasets(folder / "1.h5")
    assert first.keys() == second.keys()
    differing = {name for name in first if first[name] != second[name]}
    assert {name.split("/")[0] for name in differing} <= set(first_parts(first)) - {"activations", "rows", "prompts"}
    assert {"activations", "rows", "prompts"} <= set(first_parts(first))
    assert 0 < reference.n_differing < 150


def first_parts(names):
    return {name.split("/")[0] for name in names}


def test_one_thread_or_two_give_the_same_bytes(server, reference, folder):
    assert server.run("record", folder, path=str(folder / "two.h5"), threads=2)["code"] == 0
    assert reference.same(folder / "two.h5")


def test_another_process_with_another_seed_of_its_hashes_gives_the_same_bytes(
    gpt2, model_folders, reference, folder, monkeypatch
):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "tests" / "fork_server.py"), str(model_folders["gpt2"])])
    record(gpt2, plan_of(gpt2), folder / "here.h5")
    assert reference.same(folder / "here.h5")
