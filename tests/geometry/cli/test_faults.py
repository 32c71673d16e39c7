"""Whatever stops a command, it ends in a documented code and one line, and nothing half-written is left."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from geometry.cli.app import app
from geometry.results.result import LayerResult
from tests.geometry.cli.every_command import COMMANDS

OPTIONS = {command.callback.__name__: command.callback.__annotations__ for command in app.registered_commands}
WRITING = [name for name in COMMANDS if "out" in OPTIONS[name]]
READING = [name for name in COMMANDS if "file" in OPTIONS[name]]
FILES = {"cache": "a.h5", "prompts": "p.csv", "direction": "d.safetensors"}
LAST = {"cache": ".h5", "prompts": ".csv", "direction": ".safetensors"}  # what is written last; else a picture

pytestmark = pytest.mark.usefixtures("no_child")


PNG_END = b"IEND\xaeB`\x82"


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def whole(path):
    """Whether a file has an end: none is cut off in the middle."""
    content = path.read_bytes()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return bool(arrays.files)
    if path.suffix == ".nc":
        return bool(LayerResult.load(path).dataset.sizes)
    if path.suffix == ".png":
        return content.endswith(PNG_END)
    return content.endswith(b"\n")


def test_every_command_is_tried():
    assert set(COMMANDS) - set(WRITING) == {"models", "info", "verify", "steer"}
    assert set(COMMANDS) - set(READING) == {"models", "cache", "prompts", "steer"}


FULL = (OSError(errno.ENOSPC, "No space left on device"), 7, "error: no")
IN_SUITE = ("cache", "prompts", "pca", "sweep")  # the others write as these do
CTRL_C = (KeyboardInterrupt(), 130, "interrupted")


@pytest.mark.parametrize(
    ("command", "failure", "code", "told"),
    [
        pytest.param(name, *FULL, marks=[pytest.mark.slow] * (name not in IN_SUITE), id=f"{name}-full")
        for name in WRITING
    ]
    + [pytest.param(name, *CTRL_C, id=f"{name}-interrupted") for name in (*FILES, "pca")],
)
def test_the_last_file_that_cannot_be_put_in_place_leaves_whole_files_alone(
    run_here, place, circles, tmp_path, monkeypatch, command, failure, code, told
):
    monkeypatch.setattr("geometry.report._pictures", lambda *_: {"png": PNG_END, "svg": b"<svg/>\n"})
    replace, last = os.replace, LAST.get(command, ".svg")

    def fails(source, target, **rest):
        if str(target).endswith(last):
            raise failure
        replace(source, target, **rest)

    monkeypatch.setattr(os, "replace", fails)
    got, out, err = run_here(*place.call(command), "--out", FILES.get(command, "results"))
    assert (got, out) == (code, ""), err
    assert err.startswith(told)
    assert err.count("\n") == 1
    left = files_in(tmp_path)
    assert not any(name.endswith((last, ".tmp", ".lock")) for name in left)
    assert all(whole(path) for path in left.values()), left
    assert (command in FILES) != bool(left)


@pytest.mark.parametrize("command", WRITING)
@pytest.mark.parametrize("folder", ["file/new", "/proc/1/new"])
def test_a_place_that_takes_no_file_is_told_before_the_work(run_here, place, tmp_path, monkeypatch, command, folder):
    (tmp_path / "here" / "file").write_text("mine")
    monkeypatch.setattr("cache.load_model", lambda *_, **__: pytest.fail("loaded a model"))
    monkeypatch.setattr("cache.store.store.ActivationStore.load", lambda *_, **__: pytest.fail("read activations"))
    got, out, err = run_here(*place.call(command), "--out", f"{folder}/{FILES.get(command, 'results')}")
    assert (got, out, err.count("\n")) == (3, "", 1), err
    assert err.startswith("error: cannot ")
    assert files_in(tmp_path) == {"here/file": tmp_path / "here" / "file"}


@pytest.mark.parametrize("command", READING)
def test_a_store_that_is_not_there_or_none_is_told(run_here, place, tmp_path, command):
    (tmp_path / "here" / "text.h5").write_text("nothing")
    apart = command in ("info", "verify")  # each in a process of its own, which takes seconds
    for name, code in {"text.h5": 4, **({} if apart else {"a\udcff.h5": 3, "x" * 300: 3})}.items():
        call = [name if word == str(place.store) else word for word in place.call(command)]
        got, out, err = run_here(*call)
        assert (got, out, err.count("\n"), err.startswith("error: ")) == (code, "", 1, True), err
    assert files_in(tmp_path).keys() == {"here/text.h5"}


REFUSED = {
    "site": ["z", "", "ünïcödé"],
    "families": [",", "", "digits,digit"],
    "where": ["1 +", "nothing == 1", "position > 999"],
    "layers": ["9", "two", ","],
}


@pytest.mark.parametrize(
    ("command", "option"),
    [(command, option) for command in READING for option in REFUSED if option in OPTIONS[command]],
)
def test_what_the_store_does_not_hold_is_told(run_here, place, circles, tmp_path, command, option):
    for text in REFUSED[option]:
        got, out, err = run_here(*place.call(command), f"--{option}={text}")
        assert (got, out, err.count("\n"), err.startswith("error: ")) == (2, "", 1, True), (text, got, err)
    assert files_in(tmp_path) == {}


DRAWING = [name for name in COMMANDS if "formats" in OPTIONS[name]]


def test_every_command_that_draws_takes_formats():
    assert set(WRITING) - set(DRAWING) == {"cache", "prompts", "direction"}


@pytest.mark.parametrize("command", DRAWING)
@pytest.mark.parametrize(("formats", "named"), [("gif", "gif"), (",", "none"), ("pdf,eps", "pdf, eps")])
def test_a_format_that_is_not_written_is_told_before_the_work(
    run_here, place, tmp_path, monkeypatch, command, formats, named
):
    monkeypatch.setattr("cache.store.store.ActivationStore.load", lambda *_, **__: pytest.fail("read activations"))
    got, out, err = run_here(*place.call(command), "--format", formats)
    assert (got, out, err) == (2, "", f"error: figures are written as png, svg, pdf; got {named}\n")
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("command", [name for name in COMMANDS if "layers_shown" in OPTIONS[name]])
@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ("0", "--layers-shown takes a number from 1, layers such as 0,4-7,-1, or all; got '0'"),
        ("few", "--layers-shown takes a number from 1, layers such as 0,4-7,-1, or all; got 'few'"),
        ("", "--layers-shown takes a number from 1, layers such as 0,4-7,-1, or all; got ''"),
        ("1,", "layers analysed are 2; got 1, to show"),
    ],
)
def test_layers_that_cannot_be_shown_are_told_before_the_work(
    run_here, place, tmp_path, monkeypatch, command, layers, told
):
    monkeypatch.setattr("cache.store.store.ActivationStore.load", lambda *_, **__: pytest.fail("read activations"))
    got, out, err = run_here(*place.call(command), "--layers-shown", layers)
    assert (got, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("command", [name for name in COMMANDS if "color" in OPTIONS[name]])
@pytest.mark.parametrize(
    ("color", "told"),
    [
        ("hue", "rows have no label 'hue'; they have "),
        (",", "--color takes labels of rows such as family,frame; got none"),
    ],
)
def test_what_rows_cannot_be_coloured_by_is_told_before_the_work(
    run_here, place, tmp_path, monkeypatch, command, color, told
):
    monkeypatch.setattr("cache.store.store.ActivationStore.load", lambda *_, **__: pytest.fail("read activations"))
    got, out, err = run_here(*place.call(command), "--color", color)
    assert (got, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert files_in(tmp_path) == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("command", ["prompts", "models", "info", "direction", "steer"])
def test_an_output_without_room_is_one_sentence(run_here, place, monkeypatch, command):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        got, _, err = run_here(*place.call(command), "--json")
    assert (got, err.count("\n"), err.startswith("error: no room to write to standard output")) == (7, 1, True), err
