"""Names and places for a store: odd ones work, impossible ones are one sentence, and nothing else is touched."""

import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cache import verify_store
from tests.fork_server import HELD_AT, NOBODY
from tests.fork_server import server as fork_server
from tests.recordings import acknowledged, names_in
from tests.variants import some

AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def run(server, model_folders, folder):
    """`geometry cache --out ...` in a folder of its own: exit code and what it said on standard error."""

    def run(out, *more):
        model = ["--model", model_folders["gpt2"], "--dataset", "digits", "--templates", 1]
        ended = server.command(folder, "cache", *model, "--out", out, *more)
        assert "Traceback" not in ended["err"], ended["err"]
        return ended["code"], ended["err"]

    return run


def is_one_sentence(said):
    """Whether the last line is an error, and the only one; the recording's size may be told before."""
    return [line for line in said.splitlines() if line.startswith("error: ")] == said.splitlines()[-1:]


ODD = [
    "with spaces in it.h5",
    " leading and trailing .h5 ",
    "ünïcödé-数字-🧪.h5",
    "quotes'\"`and$HOME;&|<>.h5",
    "[bold]markup[/bold] {braces} %s %(x)s.h5",
    "back\\slash*?~#!.h5",
    "./-x.h5",
    "./--out",
    ".hidden",
    "tab\tin it.h5.tmp",
    "a.h5.lock",
    "x" * 200 + ".h5",
    "deep/er/folders/a.h5",
    "./../work/a.h5",
]


@pytest.mark.parametrize("out", some(ODD, *ODD[2:5], "./--out", "deep/er/folders/a.h5"))
def test_an_odd_name_is_a_name_like_any_other(server, run, folder, out):
    code, err = run(out)
    assert code == 0, err
    made = [path for path in folder.rglob("*") if path.is_file()]
    assert made == [Path(os.path.normpath(folder / out))]
    assert verify_store(made[0]).damage == ()
    assert server.command(folder, "info", out)["code"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_is_a_name_or_one_sentence(run, folder):
    code, err = run("b\udcffd.h5")
    assert code == 0 or (code in (2, 3) and is_one_sentence(err))
    assert names_in(folder) == (["b\udcffd.h5"] if code == 0 else [])


@pytest.mark.parametrize(
    "out", ["x" * 252 + ".h5", "ü" * 126 + ".h5", "x" * 300 + ".h5", "y" * 300 + "/a.h5", "z" * 5000]
)
def test_a_name_too_long_for_the_file_system_is_one_sentence(run, folder, out):
    code, err = run(out)
    assert code in (2, 3), err
    assert is_one_sentence(err)
    assert names_in(folder) == []


@pytest.mark.parametrize("out", [".", "sub", "sub/", ""])
def test_a_folder_is_no_place_for_a_file(run, folder, out):
    (folder / "sub").mkdir()
    code, err = run(out)
    assert code in (2, 3), err
    assert is_one_sentence(err)
    assert names_in(folder) == ["sub"]
    assert names_in(folder / "sub") == []


def test_a_path_below_a_file_is_one_sentence(run, folder):
    (folder / "file").write_text("mine")
    code, err = run("file/a.h5")
    assert (code, is_one_sentence(err)) == (3, True), err
    assert (folder / "file").read_text() == "mine"


def test_a_folder_that_is_a_link_to_a_folder_is_a_folder(run, folder, tmp_path):
    (tmp_path / "real").mkdir()
    (folder / "link").symlink_to(tmp_path / "real")
    assert run("link/a.h5")[0] == 0
    assert names_in(tmp_path / "real") == ["a.h5"]


@pytest.mark.parametrize(
    ("target", "more"),
    [("victim", ()), ("victim", ("--overwrite",)), ("nowhere", ("--overwrite",)), ("link.h5", ())],
)
def test_a_link_under_the_stores_name_is_refused_and_its_target_untouched(run, folder, target, more):
    (folder / "victim").write_text("precious")
    (folder / "link.h5").symlink_to(target)
    code, err = run("link.h5", *more)
    assert code in (2, 3), err
    assert is_one_sentence(err)
    assert names_in(folder) == ["link.h5", "victim"]
    assert (folder / "link.h5").is_symlink()
    assert (folder / "victim").read_text() == "precious"


@pytest.mark.parametrize(("suffix", "target"), [(".tmp", "victim"), (".lock", "victim"), (".lock", "nowhere")])
def test_a_link_under_a_temporary_name_is_not_followed(run, folder, suffix, target):
    (folder / "victim").write_text("precious")
    (folder / f"a.h5{suffix}").symlink_to(target)
    code, err = run("a.h5")
    assert code == 0 or (code == 3 and is_one_sentence(err)), err
    assert (folder / "victim").read_text() == "precious"
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("suffix", [".tmp", ".lock"])
def test_a_folder_under_a_temporary_name_is_one_sentence_and_stays(run, folder, suffix):
    (folder / f"a.h5{suffix}").mkdir()
    (folder / f"a.h5{suffix}" / "mine").write_text("precious")
    code, err = run("a.h5")
    assert code == 3, err
    assert is_one_sentence(err)
    assert (folder / f"a.h5{suffix}" / "mine").read_text() == "precious"
    assert names_in(folder) == [f"a.h5{suffix}"]


def test_a_file_of_mine_under_the_stores_name_is_refused_and_untouched(run, folder):
    (folder / "notes.txt").write_text("mine")
    code, err = run("notes.txt")
    assert (code, is_one_sentence(err)) == (4, True), err
    assert (folder / "notes.txt").read_text() == "mine"
    assert names_in(folder) == ["notes.txt"]


def test_a_pipe_under_the_stores_name_is_one_sentence_and_nothing_waits(run, folder):
    os.mkfifo(folder / "pipe")
    code, err = run("pipe")
    assert code in (2, 3, 4), err
    assert is_one_sentence(err)
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


def test_a_relative_and_an_absolute_path_are_the_same_store(run, folder):
    assert run("a.h5")[0] == 0
    before = (folder / "a.h5").read_bytes()
    assert "nothing to do" in run(folder / "a.h5")[1]
    assert "nothing to do" in run(folder / ".." / "work" / "a.h5")[1]
    assert (folder / "a.h5").read_bytes() == before


# --- without the rights: as nobody where the tests run as root


@pytest.fixture
def open_folder():
    """A folder that every user can come to; pytest's own are for their owner only."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        (Path(made) / "work").mkdir()
        yield Path(made) / "work"
        (Path(made) / "work").chmod(0o755)


@pytest.fixture
def as_nobody(server, model_folders, open_folder):
    shutil.copytree(model_folders["gpt2"], open_folder.parent / "model")
    for path in [open_folder.parent / "model", *(open_folder.parent / "model").iterdir()]:
        path.chmod(0o755)

    def as_nobody(out="a.h5", *more):
        model = ["--model", open_folder.parent / "model", "--dataset", "digits", "--templates", 1]
        uid = NOBODY if AS_ROOT else None
        ended = server.command(open_folder, "cache", *model, "--out", out, *more, uid=uid)
        assert "Traceback" not in ended["err"], ended["err"]
        return ended["code"], ended["err"]

    return as_nobody


@pytest.mark.parametrize("out", ["a.h5", "new/a.h5"])
def test_a_folder_that_may_not_be_written_is_one_sentence(as_nobody, open_folder, out):
    open_folder.chmod(0o555)
    code, err = as_nobody(out)
    assert code == 3, err
    assert is_one_sentence(err)
    assert names_in(open_folder) == []


def test_a_broken_off_store_that_may_not_be_written_is_one_sentence_and_unchanged(server, open_folder, tmp_path):
    open_folder.chmod(0o777)
    hold, log, store = tmp_path / "hold", tmp_path / "log", open_folder / "a.h5"
    hold.touch()
    pid = server.start("record", open_folder, path="a.h5", log=str(log), hold=str(hold))
    while acknowledged(log) < HELD_AT:
        time.sleep(0.005)
    server.result(pid, after=0)
    before = store.read_bytes()
    store.chmod(0o444)
    ended = server.run("record", open_folder, path="a.h5", uid=NOBODY if AS_ROOT else None)
    assert (ended["code"], ended["err"].count("\n")) == (3, 1), ended["err"]
    assert store.read_bytes() == before


def test_a_complete_store_that_may_not_be_written_is_left_as_it_is(as_nobody, open_folder):
    open_folder.chmod(0o777)
    assert as_nobody()[0] == 0
    before = (open_folder / "a.h5").read_bytes()
    (open_folder / "a.h5").chmod(0o444)
    open_folder.chmod(0o555)
    code, err = as_nobody()
    assert (code, "nothing to do" in err) == (0, True), err
    assert (open_folder / "a.h5").read_bytes() == before
