"""What every command prints fits the width that is asked for, and nothing is printed quietly."""

import inspect

import pandas as pd
import pytest
from rich.cells import cell_len

from geometry.cli.app import app
from tests.geometry.cli.every_command import COMMANDS
from tests.variants import some

TAKEN = {one.callback.__name__: set(inspect.signature(one.callback).parameters) for one in app.registered_commands}
PRINTING = [name for name in COMMANDS if "full" in TAKEN[name]]


def arguments(place, command):
    return [one for one in place.call(command) if one != "--quiet"] + (["--tokens", "1"] if command == "steer" else [])


def test_whatever_prints_a_table_prints_it_in_full_if_asked():
    assert set(COMMANDS) - set(PRINTING) == {"cache", "direction", "info", "verify"}


@pytest.mark.parametrize("command", PRINTING)
def test_a_table_is_as_wide_as_columns_say(run_here, place, circles, no_pictures, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "44")
    code, out, err = run_here(*arguments(place, command))
    assert code == 0, err
    assert max(map(cell_len, out.splitlines())) <= 44
    assert "---" in out


@pytest.mark.parametrize("command", some(PRINTING, "cosines", "prompts", "transfer"))
def test_full_and_a_pipe_leave_nothing_out(run_here, place, circles, no_pictures, monkeypatch, command):
    words = []
    for columns, more in (("100", ["--full"]), ("", [])):
        monkeypatch.setenv("COLUMNS", columns)
        code, out, err = run_here(*arguments(place, command), *more)
        assert code == 0, err
        words.append({one for one in out.split() if one.strip("-")})
    assert words[0] == words[1]
    assert "--full" not in words[0]


@pytest.mark.parametrize("command", COMMANDS)
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
