"""Paths that cannot be a store's are told before any work, and nothing but a store is ever replaced."""

import os
import sys

import pytest

from cache import plan_recording, record
from cache.errors import CorruptFileError, InputError, LockedError, NotAvailableError
from cache.sealed.lock import writer_lock
from cache.sealed.path import check_path, check_replaceable, prepare_path
from geometry.cli import main


def test_the_folder_of_a_new_store_is_made_and_the_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare_path("new/deeper/a.h5") == tmp_path / "new" / "deeper" / "a.h5"
    assert (tmp_path / "new" / "deeper").is_dir()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.mkdir(), r"is a folder; give a file name"),
        (lambda path: path.symlink_to(path.with_name("target")), r"is a symbolic link; give a file name"),
        (os.mkfifo, r"is a device; give a file name"),
    ],
)
def test_what_is_there_and_is_no_file_is_refused(tmp_path, make, told):
    make(tmp_path / "a.h5")
    with pytest.raises(InputError, match=told):
        prepare_path(tmp_path / "a.h5")
    with pytest.raises(InputError, match=told):
        check_path(tmp_path / "a.h5", overwrite=True)


def test_a_name_that_leaves_no_room_for_the_locks_is_refused(tmp_path):
    prepare_path(tmp_path / ("x" * 250))
    with pytest.raises(InputError, match="is too long by 1 bytes; give a shorter one"):
        prepare_path(tmp_path / ("x" * 251))
    with pytest.raises(NotAvailableError, match="File name too long"):
        prepare_path(tmp_path / ("y" * 300) / "a.h5")


def test_only_hdf5_and_empty_files_are_replaced(gpt2, tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("my thesis")
    plan = plan_recording(gpt2, ["one"], sites="resid_post")
    for replace in (
        lambda: check_replaceable(path),
        lambda: check_path(path, overwrite=True),
        lambda: record(gpt2, plan, path, overwrite=True),
    ):
        with pytest.raises(InputError, match=r"thesis\.txt' is no store, and is not replaced"):
            replace()
    assert path.read_text() == "my thesis"
    path.write_text("")
    record(gpt2, plan, path, overwrite=True)
    path.write_bytes(path.read_bytes()[:-100])  # a damaged store can be recorded anew
    record(gpt2, plan, path, overwrite=True)


def test_what_can_be_told_without_a_model_is_told_before_one_is_loaded(gpt2, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.h5"
    record(gpt2, plan_recording(gpt2, ["one"], sites="resid_post"), path)
    whole = path.read_bytes()
    monkeypatch.setattr("geometry.cli.record.cache.load_model_aloud", lambda *_, **__: pytest.fail("loaded a model"))
    monkeypatch.setattr(sys, "argv", ["geometry"])
    path.write_bytes(whole[:-1])
    with pytest.raises(SystemExit) as left:
        main(["cache", "--model", "smollm2-135m", "--out", str(path)])
    assert left.value.code == 4
    assert "copy it again or record it anew with --overwrite" in capsys.readouterr().err
    with writer_lock(path), pytest.raises(SystemExit) as left:
        main(["cache", "--model", "smollm2-135m", "--out", str(path)])
    assert left.value.code == 6


def test_looking_changes_nothing(gpt2, tmp_path):
    path = tmp_path / "a.h5"
    check_path(path, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    record(gpt2, plan_recording(gpt2, ["one"], sites="resid_post"), path)
    whole = path.read_bytes()
    check_path(path, overwrite=True)
    check_path(path, overwrite=False)
    with writer_lock(path), pytest.raises(LockedError):
        check_path(path, overwrite=False)
    path.write_bytes(whole[:-1])
    with pytest.raises(CorruptFileError):
        check_path(path, overwrite=False)
    assert path.read_bytes() == whole[:-1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
