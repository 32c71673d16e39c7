"""`geometry probe`, run on a store: files, tables, and one line for what is wrong."""

import json

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cache import ActivationStore, SequenceDesign, load_dataset, plan_recording, record
from cache.errors import InputError
from cache.families.family import FAMILIES
from geometry.cli.intervene.probe import probe
from geometry.results.result import LayerResult

ALL = ["family-member", "family-template", "member-template", "number-member", "number-template"]
ALL += ["angle-member", "angle-template"]


@pytest.fixture(scope="module")
def file(gpt2, tmp_path_factory):
    design = SequenceDesign((FAMILIES["digits"],), frames=("quote",), lengths=(2,), starts=(1, 2, 3, 4), templates=3)
    path = tmp_path_factory.mktemp("probe") / "a.h5"
    prompts = load_dataset("digits,months,control:0", design)
    record(gpt2, plan_recording(gpt2, prompts, sites="resid", positions="last"), path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in an empty folder; gives its result, and raises what it raised."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(probe)

    def go(*arguments: object):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return go


def test_every_probe_that_makes_sense_is_run_and_written_into_one_folder(run, file, tmp_path):
    done = run(file, "--layers", "1,2", "--seed", 5, "--permutations", 3)
    assert (done.exit_code, "linear probes of resid_post: 24 rows, 4 members, 3 templates" in done.stdout) == (0, True)
    assert "4 members in common: no errors; they take 5" in done.stderr
    assert "rows: is_last" in done.stderr
    folder = tmp_path / "figures" / "a-probe"
    names = {path.name for path in folder.iterdir()}
    assert names == {"result.nc", "result.json", "table.csv", "probes.png", "probes.svg", "probes.txt"}
    table = pd.read_csv(folder / "table.csv")
    assert (table["target"] + "-" + table["leave_out"]).drop_duplicates().tolist() == ALL
    assert table["layer"].tolist() == [1, 2] * 7
    described = json.loads((folder / "result.json").read_text())
    with ActivationStore.open(file) as store:
        assert described["source"] == store.fingerprint
    assert described["parameters"]["seed"] == 5
    assert described["parameters"]["n_permutations"] == 3
    assert [f"{one['target']}-{one['leave_out']}" for one in described["parameters"]["probes"]] == ALL
    assert LayerResult.load(folder).values("null").shape == (2, 7, 3)


def test_what_is_asked_for_alone_is_run_and_printed_as_json(run, file, no_pictures, tmp_path):
    choices = ("--target", "member,number", "--leave-out", "member", "--layers", "2", "--permutations", 2)
    done = run(file, *choices, "--out", "here", "--json", "--quiet", "--strict", "--families", "months")
    lines = json.loads(done.stdout)
    assert done.stderr == ""
    assert [(line["target"], line["leave_out"], line["layer"]) for line in lines] == [("number", "member", 2)]
    assert json.loads((tmp_path / "here" / "result.json").read_text())["parameters"]["strict"] is True


def test_the_period_is_passed_on(run, file, no_pictures, tmp_path):
    run(file, "--target", "angle", "--layers", "2", "--permutations", 2, "--period", 9, "--out", "here", "--quiet")
    probes = json.loads((tmp_path / "here" / "result.json").read_text())["parameters"]["probes"]
    assert [one["period"] for one in probes] == [9, 9]


def test_a_single_family_is_not_asked_for_its_name(run, file, no_pictures):
    done = run(file, "--families", "digits", "--layers", "2", "--permutations", 2, "--json", "--quiet")
    assert [f"{line['target']}-{line['leave_out']}" for line in json.loads(done.stdout)] == ALL[2:]


def test_the_same_command_writes_the_same_bytes(run, file, tmp_path):
    for folder in ("one", "two"):
        run(file, "--target", "number", "--layers", "2", "--permutations", 2, "--out", folder, "--quiet")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (("--target", "member", "--leave-out", "member"), "a probe cannot name a member that it never saw"),
        (("--target", "size"), "no target 'size'; there are family, member, number, angle"),
        (("--leave-out", "row"), "no groups 'row' to leave out; there are member, template"),
        (("--leave-out", ","), "--leave-out takes member, template or both; got none"),
        (("--target", "family", "--families", "digits"), "a family probe tells 2 families or more apart; got digits"),
        (("--families", ","), "--families takes names such as digits,numwords; got none"),
        (("--permutations", "0"), "the null takes 1 to 10,000 permutations; got 0"),
        (("--layers", "9"), "the store has resid_post at layers 0, 1, 2; got '9'"),
        (("--site", "z"), "the store has no 'z'"),
    ],
)
def test_what_cannot_be_probed_is_told(run, file, choices, message):
    with pytest.raises(InputError, match=message):
        run(file, *choices, "--quiet")
