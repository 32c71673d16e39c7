"""Disks and limits without room: a sentence and exit code 7, nothing left or nothing lost, and no death by signal."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from random import Random

import pytest

from cache import verify_store
from tests.fork_server import HELD_AT
from tests.fork_server import server as fork_server
from tests.recordings import Reference, acknowledged, names_in, plan_of

linux_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can mount a small disk"
)


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@contextmanager
def small_disk(folder, mebibytes):
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder, seconds):
    """Take every byte that is or becomes free in a folder's file system, for so many seconds."""
    handle = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError):
            while os.write(handle, bytes(1 << 20)):
                pass
        time.sleep(0.001)
    os.close(handle)


@linux_root
@pytest.mark.slow
def test_a_store_larger_than_the_disk_is_refused_before_the_first_forward_pass(server, tmp_path):
    with small_disk(tmp_path / "disk", 24) as disk:
        log = tmp_path / "log"
        ended = server.run("record", disk, path="a.h5", size="large", log=str(log))
        assert ended["code"] == 7
        need, have = re.search(r"need ([\d,]+) bytes, have ([\d,]+)$", ended["err"].strip()).groups()
        assert int(need.replace(",", "")) > int(have.replace(",", ""))
        assert abs(int(have.replace(",", "")) - shutil.disk_usage(disk).free) <= 8192  # the lock takes a page
        assert log.read_text() == ""
        assert names_in(disk) == []


@pytest.fixture(scope="module")
def fitting(server, gpt2, tmp_path_factory):
    folder, seconds = tmp_path_factory.mktemp("fitting"), []

    def make(number):
        ended = server.run("record", folder, path=f"{number}.h5", size="fitting", log=str(folder / "log"))
        assert ended["code"] == 0
        seconds.append(ended["seconds"])
        return folder / f"{number}.h5"

    made = Reference(make, plan_of(gpt2, "fitting"))
    assert (folder / "log").read_text().count("forward") == len(seconds) * len(made.blocks)
    made.seconds = min(seconds)
    return made


@linux_root
@pytest.mark.slow
def test_a_disk_filled_by_another_meanwhile_ends_in_a_sentence_and_the_same_bytes_later(server, fitting, tmp_path):
    random, codes = Random(8), []
    for number in range(40):
        with small_disk(tmp_path / str(number), 24) as disk:
            log = tmp_path / f"{number}.log"
            pid = server.start("record", disk, path="a.h5", size="fitting", log=str(log))
            time.sleep(random.uniform(0, 0.25 if number % 2 else 1) * fitting.seconds)  # often while it is created
            fill(disk, 0.2)
            ended = server.result(pid)
            codes.append(ended["code"])
            assert ended["code"] in (0, 7), ended["err"][-2000:]
            assert ended["code"] == 0 or re.match(r"NoSpaceError: [^\n]+\n$", ended["err"])
            (disk / "ballast").unlink()
            assert names_in(disk) in ([], ["a.h5"])
            assert fitting.state(disk / "a.h5", acknowledged(log)) in ("absent", "sound")
            assert server.run("record", disk, path="a.h5", size="fitting")["code"] == 0
            assert fitting.same(disk / "a.h5")
            assert names_in(disk) == ["a.h5"]
    print(f"\nR5: 40 disks filled while recording: {codes.count(7)} told (7), {codes.count(0)} done (0)")  # noqa: T201
    assert set(codes) == {0, 7}


@pytest.mark.parametrize("limit", [300_000, 1_000_000])
def test_a_limit_on_file_size_is_told_by_the_command_which_leaves_nothing(server, model_folders, tmp_path, limit):
    folder = tmp_path / "store"
    folder.mkdir()
    command = ["cache", "--model", model_folders["gpt2"], "--dataset", "digits", "--out", "a.h5"]
    ended = server.command(folder, *command, file_limit=limit)
    assert ended["code"] == 7, ended["err"]
    assert re.match(r"error: .*needs? [\d,]+ bytes", ended["err"].splitlines()[-1])
    assert "Traceback" not in ended["err"]
    assert names_in(folder) == []
    assert server.command(folder, *command)["code"] == 0
    assert verify_store(folder / "a.h5").damage == ()


def test_a_limit_on_file_size_met_while_going_on_loses_nothing(server, fitting, tmp_path):
    folder, log = tmp_path / "store", tmp_path / "log"
    folder.mkdir()
    options = {"path": "a.h5", "size": "fitting", "log": str(log)}
    hold = tmp_path / "hold"
    hold.touch()
    killed = server.start("record", folder, hold=str(hold), **options)
    while acknowledged(log) < HELD_AT:
        time.sleep(0.005)
    server.result(killed, after=0)
    ended = server.run("record", folder, file_limit=1_000_000, **options)
    assert (ended["code"], ended["err"].count("\n")) == (7, 1), ended["err"]
    assert fitting.state(folder / "a.h5", HELD_AT) == "sound"
    assert names_in(folder) == ["a.h5"]
    assert server.run("record", folder, **options)["code"] == 0
    assert fitting.same(folder / "a.h5")
