"""What a command shows: tables that fit the width asked for, and figures with captions, by the names of its result."""

import inspect
import re

import pandas as pd
import pytest
from rich.cells import cell_len

from geometry.cli.app import app
from geometry.figures.plain import PlainFigure
from geometry.results.result import LayerResult
from tests.geometry.cli.every_command import COMMANDS
from tests.variants import some

OPTIONS = {one.callback.__name__: set(inspect.signature(one.callback).parameters) for one in app.registered_commands}
PRINTING = [name for name in COMMANDS if "full" in OPTIONS[name]]
DRAWING = [name for name in COMMANDS if "formats" in OPTIONS[name]]
OF_TABLES = {"loadings"}
"""Pictures of a table beside the result."""


def arguments(place, command):
    return [one for one in place.call(command) if one != "--quiet"] + (["--tokens", "1"] if command == "steer" else [])


def test_whatever_prints_a_table_prints_it_in_full_if_asked():
    assert set(COMMANDS) - set(PRINTING) == {"cache", "direction", "info", "verify"}
    assert set(PRINTING) >= set(DRAWING)


@pytest.mark.parametrize("command", some(PRINTING, "prompts", "models", "steer", "pca", "compare", "sweep", "query"))
def test_tables_fit_and_figures_have_captions(run_here, place, circles, no_pictures, monkeypatch, tmp_path, command):
    monkeypatch.setenv("COLUMNS", "44")
    to_draw = ["--out", "out", "--format", "png"] if command in DRAWING else []
    code, out, err = run_here(*arguments(place, command), *to_draw)
    assert code == 0, err
    assert max(map(cell_len, out.splitlines())) <= 44
    assert "---" in out
    if to_draw:
        check_figures(command, tmp_path / "here" / "out", arguments(place, command)[1:])


def check_figures(command, folder, words):
    names = {path.stem for path in folder.rglob("*.png")}
    captions = {path.stem: path.read_text() for path in folder.rglob("*.txt")}
    assert names
    assert captions.keys() == names
    for name, text in captions.items():
        check_caption(name, text, command, words)
    pictures = LayerResult.load(folder).pictures()
    assert pictures.keys() | OF_TABLES == names | OF_TABLES
    assert all(isinstance(draw(), PlainFigure) for draw in pictures.values())


def check_caption(name, text, command, words):
    """What is drawn, of how many, and how it was made."""
    said, made = text.split("\n\n")
    assert re.match(r"[A-Z].{80,}\.$", said), name
    assert "nan" not in said.split()
    assert name == "loadings" or re.search(r"\d members|\d answers", said), said
    lines = made.strip().split("\n")
    assert [line.split(": ")[0] for line in lines] == ["Parameters", "Store", "Command", "Made with"]
    assert "site resid_post" in lines[0]
    assert ("seed 0" in lines[0]) == ("seed" in OPTIONS[command])
    assert lines[2] == " ".join(["Command: geometry", command, *map(str, words), "--format png"])


@pytest.mark.parametrize("command", some(PRINTING, "cosines", "prompts"))
def test_full_and_a_pipe_leave_nothing_out(run_here, place, circles, no_pictures, monkeypatch, command):
    words = []
    for columns, more in (("100", ["--full"]), ("", [])):
        monkeypatch.setenv("COLUMNS", columns)
        code, out, err = run_here(*arguments(place, command), *more)
        assert code == 0, err
        words.append({one for one in out.split() if one.strip("-")})
    assert words[0] == words[1]
    assert "--full" not in words[0]


@pytest.mark.parametrize("command", some(COMMANDS, "cache", "info", "verify", "prompts", "models", "pca", "direction"))
def test_quietly_nothing_is_said(run_here, place, circles, no_pictures, no_child, command):
    assert run_here(*arguments(place, command), "--quiet") == (0, "", "")


def test_layers_are_shown_in_steps_with_the_best_one_and_all_if_asked(run_here, place, monkeypatch, no_pictures):
    monkeypatch.setenv("COLUMNS", "80")
    command = ["nmf", place.store, "--model", "none", "--components", "8", "--out", "out"]
    printed = [run_here(*command, *more)[1] for more in ([], ["--full"])]
    shown, full = ([line.split()[0] for line in out.splitlines() if line.split()[0].isdecimal()] for out in printed)
    table = pd.read_csv("out/table.csv")
    best = str(table.loc[table["explained_variance_ratio"].idxmax(), "layer"])
    assert set(shown) == {"1", "2", best} - {"-1"}
    assert (set(full), len(full)) == ({"0", "1", "2"}, 3 * 8)
    assert "every 2nd of 4 layers and the last, and the largest explained (layer" in printed[0]


def test_a_store_s_families_are_set_in_the_width_and_what_is_copied_is_not_divided(
    run_here, place, no_child, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "40")
    lines = run_here("info", place.store)[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("families"))
    assert lines[first].endswith(",")
    assert max(map(cell_len, lines[first : first + 2])) <= 40
    assert sum(str(place.store) in line for line in lines) >= 1
