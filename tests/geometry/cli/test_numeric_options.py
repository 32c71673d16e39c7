"""No number that can be typed ends a command in anything but success or one sentence."""

import inspect
import typing

import pytest

from geometry.cli.app import app
from tests.geometry.cli.every_command import COMMANDS

ODD = ("-1", "0", "100000000000000000000", "nan", "")
ACCEPTED = {0, 2}


def numeric_options(callback) -> dict[str, object]:
    """The options of a command that take a number, with their defaults."""
    hints = typing.get_type_hints(callback, include_extras=True)
    parameters = inspect.signature(callback).parameters
    found = {}
    for name in parameters:
        hint = hints[name]
        kind, *described = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if {kind, *typing.get_args(kind)} & {int, float}:
            named = [text for one in described for text in one.param_decls or () if text.startswith("--")]
            found[named[0] if named else f"--{name.replace('_', '-')}"] = parameters[name].default
    return found


OPTIONS = {command.callback.__name__: numeric_options(command.callback) for command in app.registered_commands}
PAIRS = [(command, option) for command, options in OPTIONS.items() for option in options]
WRITTEN_OUT = [  # numbers inside of texts
    ("cache", "--length"),
    ("cache", "--starts"),
    ("cache", "--layers"),
    ("prompts", "--length"),
    ("pca", "--layers"),
    ("steer", "--positions"),
    ("sweep", "--alphas"),
]


def test_the_options_are_found():
    assert OPTIONS.keys() == set(COMMANDS)
    assert OPTIONS["nmf"] == {"--components": 5, "--seed": 0}
    assert OPTIONS["steer"] == {"--layer": None, "--feature": None, "--alpha": 1.0, "--tokens": 12, "--top": 5}
    assert "--layer" in OPTIONS["direction"]
    assert len(PAIRS) > 30


IN_SUITE = {"cache", "pca", "compare", "steer"}


@pytest.mark.parametrize(
    ("command", "option"),
    [pytest.param(*one, marks=[pytest.mark.slow] * (one[0] not in IN_SUITE)) for one in PAIRS + WRITTEN_OUT],
)
def test_an_odd_number_is_taken_or_refused_in_one_sentence(run_here, place, no_pictures, command, option):
    refused = 0
    for odd in ODD if option in OPTIONS[command] else ODD[2:]:
        if odd == str(OPTIONS[command].get(option)):
            continue
        code, out, err = run_here(*place.call(command), f"{option}={odd}")
        assert code in ACCEPTED, (odd, err)
        if code:
            assert (out, err.count("\n"), err.startswith("error: ")) == ("", 1, True), (odd, err)
        refused += code == 2
    assert refused >= 2


@pytest.mark.parametrize("command", [name for name in COMMANDS if "--seed" in OPTIONS[name]])
def test_a_seed_out_of_bounds_is_told_by_every_command(run_here, place, command):
    for seed in (-1, 2**32):
        told = f"error: seed must be a whole number from 0 to 4294967295; got {seed}\n"
        assert run_here(*place.call(command), "--seed", seed) == (2, "", told)
