"""`geometry query` and `cosines`: files, a short table, JSON, and what is told where something is missing."""

import json

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cache import SequenceDesign, load_dataset, plan_recording, record
from cache.errors import InputError, NotAvailableError
from cache.families.family import FAMILIES
from geometry.cli.intervene.cosines import cosines
from geometry.cli.intervene.query import query
from geometry.results.result import LayerResult

APP = typer.Typer()
for command in (query, cosines):
    APP.command()(command)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder; gives standard output and standard error, and raises what it raised."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> tuple[str, str]:
        done = CliRunner().invoke(APP, [str(argument) for argument in arguments])
        if done.exception is not None:
            raise done.exception
        return done.stdout, done.stderr

    return go


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    design = SequenceDesign(
        (FAMILIES["digits"],), ("quote", "list"), ("increasing", "decreasing"), (1,), starts=(2, 3, 4, 5), templates=2
    )
    prompts = load_dataset("digits,numwords,months,control:0-1", design)
    path = tmp_path_factory.mktemp("query") / "small.h5"
    record(gpt2, plan_recording(gpt2, prompts, sites="resid", positions="last"), path)
    return path


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_query_writes_a_picture_and_shares_beside_the_models_own_accuracy(run, store, tmp_path):
    out, err = run("query", store, "--families", "digits,months", "--layers", "1,2", "--contexts", 2, "--seed", 3)
    folder = tmp_path / "figures" / "small-query"
    assert names_in(folder) == {"result.nc", "result.json", "table.csv", "by_layer.png", "by_layer.svg", "by_layer.txt"}
    assert "last member or answer at resid_post: 2 contexts edited" in out
    assert str(folder.relative_to(tmp_path) / "table.csv") in err
    table = pd.read_csv(folder / "table.csv")
    assert {"as_last", "as_answer", "unchanged", "donor_accuracy", "as_last_ci_low"} <= set(table.columns)
    assert table[["layer", "family", "kind"]].to_numpy().tolist() == [
        [layer, family, "decreasing"] for layer in (1, 2) for family in ("digits", "months")
    ]
    result = LayerResult.load(folder)
    assert result.values("as_last").shape == (2, 2, 1)
    assert result.parameters["seed"] == 3


def test_query_spreads_its_layers_and_prints_json(run, store, no_pictures):
    out, err = run("query", store, "--families", "digits", "--json", "--quiet", "--kinds", "decreasing")
    assert err == ""
    assert [line["layer"] for line in json.loads(out)] == [0, 1, 2]


def test_cosines_stand_beside_reliabilities_and_a_direction_between_controls(run, store, tmp_path):
    rows = ("--where", "is_last and kind == 'increasing'")
    out, err = run("cosines", store, "--families", "digits,numwords,months", "--layers", "1,2", *rows)
    folder = tmp_path / "figures" / "small-cosines"
    assert names_in(folder) == {"result.nc", "result.json", "table.csv", "cosines.png", "cosines.svg", "cosines.txt"}
    parameters = json.loads((folder / "result.json").read_text())["parameters"]
    directions = ["digits -> numwords", "digits -> months", "numwords -> months", "control:0 -> control:1"]
    assert parameters["pairs"] == directions
    assert parameters["compositions"] == ["digits -> numwords -> months"]
    table = pd.read_csv(folder / "table.csv")
    assert len(table) == 2 * (10 + 1)
    own = table[(table["first"] == table["second"]) & (table["layer"] == 1)]
    assert own["first"].tolist() == directions
    assert "cosines of mean_difference directions at resid_post, by layer: 4 members, 3 templates" in " ".join(
        out.split()
    )
    assert "rows: is_last and kind == 'increasing'" in err
    assert "no direction between controls" not in err


def test_a_store_without_two_controls_beside_the_families_is_told(run, store, no_pictures):
    families = "digits,numwords,control:0"
    _, err = run("cosines", store, "--families", families, "--layers", "2", "--method", "lda", "--json")
    assert "no direction between controls beside them: record control:0-1" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("query", "--kinds", "wrap"), "such as decreasing and step:2; the store has increasing, decreasing, got wrap"),
        (("query", "--site", "z"), "the store has no 'z'; it has resid_pre, resid_post"),
        (("query", "--families", ","), "--families takes names such as digits,numwords; got none"),
        (("query", "--layers", "9"), "the store has resid_post at layers 0, 1, 2; got '9'"),
        (("cosines", "--families", "digits"), "a direction leads from one family to another; got 1: it has digits, "),
        (("cosines", "--families", "digits,roman"), "no family or group 'roman'"),
        (("cosines", "--method", "mean"), "no method 'mean'; known are mean_difference"),
    ],
)
def test_what_is_wrong_is_told(run, store, arguments, message):
    with pytest.raises(InputError, match=message):
        run(arguments[0], store, *arguments[1:])


def test_query_needs_the_model_recorded(run, store):
    with pytest.raises(NotAvailableError):
        run("query", store, "--model", "/no/such/folder")
