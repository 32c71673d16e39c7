"""`geometry transfer` and `erase`: files, a short table, JSON, and what is told where the model is missing."""

import json

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cache import SequenceDesign, load_dataset, plan_recording, record
from cache.errors import FingerprintError, InputError, NotAvailableError
from cache.families.family import FAMILIES
from geometry.cli.intervene.transfer import erase, transfer

APP = typer.Typer()
for command in (transfer, erase):
    APP.command()(command)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> tuple[str, str]:
        done = CliRunner().invoke(APP, [str(argument) for argument in arguments])
        if done.exception is not None:
            raise done.exception
        return done.stdout, done.stderr

    return go


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    design = SequenceDesign((FAMILIES["digits"],), ("quote", "list"), lengths=(2,), starts=(1, 2, 3), templates=2)
    prompts = load_dataset("digits,months,days,control:0-1", design)
    path = tmp_path_factory.mktemp("cli") / "small.h5"
    record(gpt2, plan_recording(gpt2, prompts, sites="resid", positions="members"), path)
    return path


TABLES = {"result.nc", "result.json", "table.csv", "summary.csv", "pairs.csv"}


@pytest.mark.parametrize(
    ("command", "value", "sets"), [("transfer", "success", ["last", "members"]), ("erase", "left", ["last"])]
)
def test_a_command_writes_matrices_curves_and_tables(run, store, tmp_path, command, value, sets):
    out, err = run(command, store, "--layers", "2", "--positions", ",".join(sets), "--contexts", 2, "--seed", 3)
    folder = tmp_path / "figures" / f"small-{command}"
    names = {f"{name}-{positions}" for name in ("matrix", "by_layer") for positions in sets}
    files = {f"{name}.{suffix}" for name in names for suffix in ("png", "svg", "txt")}
    assert {path.name for path in folder.iterdir()} == files | {
        "result.nc",
        "result.json",
        "table.csv",
        "summary.csv",
        "pairs.csv",
    }
    assert f"own {value}" in out
    assert "2 contexts edited" in out
    assert str(folder.relative_to(tmp_path) / "table.csv") in err
    parameters = json.loads((folder / "result.json").read_text())["parameters"]
    assert (parameters["seed"], parameters["positions"]) == (3, sets)
    table, short = pd.read_csv(folder / "table.csv"), pd.read_csv(folder / "summary.csv")
    line = short[(short["layer"] == 2) & (short["positions"] == "last") & (short["receiver"] == "months")].iloc[0]
    mine = table[(table["layer"] == 2) & (table["positions"] == "last") & (table["receiver"] == "months")]
    assert line[f"own {value}"] == mine[mine["donor"] == "months"][value].iloc[0]
    assert line["digits"] == mine[mine["donor"] == "digits"][value].iloc[0]
    controls = mine[mine["donor_kind"] == "control"][value]
    np.testing.assert_allclose([line["controls min"], line["controls max"]], [controls.min(), controls.max()])


def test_families_are_those_named_beside_the_controls(run, store, no_pictures):
    out, err = run("erase", store, "--families", "digits,days", "--layers", "1", "--rank", 2, "--json", "--quiet")
    table = pd.DataFrame(json.loads(out))
    assert err == ""
    assert list(dict.fromkeys(table["receiver"])) == ["digits", "days"]
    assert list(dict.fromkeys(table["donor"])) == ["digits", "days", "control:0", "control:1"]
    assert (table["rank"] == 2).all()


def test_layers_are_spread_unless_named_and_another_site_can_be_edited(run, store, no_pictures, tmp_path):
    out, _ = run("transfer", store, "--families", "digits", "--out", "here", "--json")
    assert sorted({line["layer"] for line in json.loads(out)}) == [0, 1, 2]
    assert (tmp_path / "here" / "table.csv").is_file()
    out, _ = run("transfer", store, "--families", "digits", "--site", "resid_pre", "--layers", "0", "--json")
    assert {line["hook"] for line in json.loads(out)} == {"blocks.0.hook_resid_pre"}


def test_without_the_model_recorded_there_is_no_edit(run, store, model_folders):
    with pytest.raises(NotAvailableError) as missing:
        run("transfer", store, "--model", "/no/such/folder")
    assert missing.value.exit_code == 3
    with pytest.raises(FingerprintError, match="comes from other weights"):
        run("erase", store, "--model", model_folders["llama"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--positions", ","), "--positions takes last, members, both; got none"),
        (("--positions", "first"), "no position set 'first'"),
        (("--site", "z"), "the store has no 'z'; it has resid_pre, resid_post"),
        (("--families", ","), "--families takes names such as digits,numwords; got none"),
        (("--families", "roman"), "the store has no family 'roman'"),
        (("--layers", "9"), "the store has resid_post at layers 0, 1, 2; got '9'"),
    ],
)
@pytest.mark.parametrize("command", ["transfer", "erase"])
def test_what_is_wrong_is_told(run, store, command, arguments, message):
    with pytest.raises(InputError, match=message):
        run(command, store, *arguments)
