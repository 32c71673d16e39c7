"""The commands that measure a store, run as a user types them: files, tables, and one line for what is wrong."""

import json

import pandas as pd
import pytest

from cache import ActivationStore, Hook, SequenceDesign, load_dataset, plan_recording, record
from cache.families.family import FAMILIES
from geometry.cli import main
from geometry.results.result import LayerResult
from tests.variants import some
from tests.views import arrays_of

DESIGN = SequenceDesign(families=(FAMILIES["digits"],), frames=("quote", "list"), lengths=(3,), templates=3)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return go


@pytest.fixture(scope="module")
def stores(loaded, tmp_path_factory):
    """The same prompts of two families and two controls, recorded from two models."""
    folder = tmp_path_factory.mktemp("analysis")
    prompts = load_dataset("digits,numwords,letters,control:0-1", DESIGN)
    paths = {}
    for name in ("gpt2", "llama"):
        paths[name] = folder / f"{name}.h5"
        plan = plan_recording(loaded[name], prompts, sites="resid,heads,neurons", positions="members")
        record(loaded[name], plan, paths[name])
    return paths


FILES = {
    "pca": {"scatter", "explained_variance", "spectra", "loadings"},
    "svd": {"scatter", "explained_variance", "spectra", "loadings"},
    "nmf": {"scatter", "loadings"},
    "demix": {"demixed"},
    "umap": {"scatter"},
    "compare": {"matched_cosine", "shared_share", "retrieval"},
}
TABLES = {"pca": {"loadings.csv", "rows.csv"}, "svd": {"loadings.csv", "rows.csv"}, "nmf": {"loadings.csv", "rows.csv"}}
TABLES |= {"demix": set(), "umap": {"rows.csv"}, "compare": {"summary.csv"}}


@pytest.mark.parametrize("command", some(FILES, "pca", "demix", "compare"))  # the others draw as pca does
def test_every_command_writes_figures_tables_and_parameters(run, stores, circles, monkeypatch, tmp_path, command):
    layers = ("--layers", "1,2")
    code, out, err = run(command, stores["gpt2"], "--out", "figures/f", "--seed", 5, *layers)
    assert (code, "resid_post" in out) == (0, True), err
    folder = tmp_path / "figures" / "f"
    figures = {f"{name}.{suffix}" for name in FILES[command] for suffix in ("png", "svg", "txt")}
    wanted = figures | {"result.json", "result.nc", "table.csv"} | TABLES[command]
    assert {path.name for path in folder.iterdir()} == wanted
    described = json.loads((folder / "result.json").read_text())
    with ActivationStore.open(stores["gpt2"]) as store:
        assert described["source"] == store.fingerprint
    assert described["parameters"]["seed"] == 5
    assert described["name"] == command
    assert described["versions"]["scikit-learn"]
    table = pd.read_csv(folder / "table.csv")
    assert table["layer"].unique().tolist() == [1, 2]
    assert {"n_members", "n_templates", "n_rows"} <= set(table.columns)
    saved = LayerResult.load(folder)
    assert {name: list(axes) for name, (axes, _) in arrays_of(saved).items()} == {
        name: axes for name, axes in described["axes"].items() if axes
    }
    monkeypatch.setattr("geometry.report._pictures", lambda _, formats: dict.fromkeys(formats, b""))
    code, out, err = run(command, stores["gpt2"], "--out", "figures/f", "--seed", 5, *layers, "--json", "--quiet")
    assert (code, err, len(json.loads(out))) == (0, "", len(table))


def test_without_an_out_folder_each_command_has_its_own(run, stores, no_pictures, tmp_path):
    assert run("demix", stores["gpt2"], "--layers", "2", "--quiet")[0] == 0
    assert run("compare", stores["gpt2"], "--layers", "2", "--measure", "cka", "--quiet")[0] == 0
    assert run("compare", stores["gpt2"], "--between", "layers", "--quiet")[0] == 0
    assert run("compare", stores["gpt2"], stores["llama"], "--quiet")[0] == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"gpt2-demix", "gpt2-compare", "gpt2-layers", "gpt2-llama"}


def test_the_summary_says_what_it_cannot_decide(run, stores, no_pictures):
    code, out, err = run("compare", stores["gpt2"], "--families", "digits,numwords", "--layers", "2")
    assert code == 0
    assert "2 control families: a verdict takes 19; record control:0-19 with the others" in " ".join(err.split())
    assert "matched_cosine of matched members" in out
    words = " ".join(out.replace("│", " ").split())
    assert "undecided (n controls = 2: record control:0-19)" in words or "undecided (reliability at most" in words
    assert "95 %" in out


def test_components_say_which_tokens_they_promote_unless_told_to_do_without(run, stores, no_pictures, tmp_path):
    assert run("pca", stores["gpt2"], "--layers", "2", "--out", "a", "--quiet")[0] == 0
    assert run("pca", stores["gpt2"], "--layers", "2", "--out", "b", "--model", "none", "--quiet")[0] == 0
    with_tokens, without = (pd.read_csv(tmp_path / name / "loadings.csv") for name in "ab")
    assert {"promotes", "suppresses"} <= set(with_tokens.columns)
    assert "promotes" not in without
    pd.testing.assert_frame_equal(with_tokens[without.columns.tolist()], without)


def test_a_store_whose_model_is_gone_is_compared_without_the_readout(run, stores, no_pictures, tmp_path, monkeypatch):
    from geometry.cli.console import recorded_model

    def gone(*_, **__):
        raise recorded_model.GeometryError("no model folder 'x'")

    monkeypatch.setattr(recorded_model, "load_model_aloud", gone)
    code, _, err = run("compare", stores["gpt2"], "--layers", "2", "--out", "a")
    assert code == 0
    assert "without the model (no model folder 'x'): no tokens, no readout control" in err
    assert set(pd.read_csv(tmp_path / "a" / "table.csv")["variant"]) == {"plain"}


def test_with_its_model_the_readout_is_removed(run, stores, no_pictures, tmp_path):
    assert run("compare", stores["llama"], "--layers", "2", "--out", "a", "--quiet")[0] == 0
    assert set(pd.read_csv(tmp_path / "a" / "table.csv")["variant"]) == {"plain", "readout removed"}


def test_another_model_than_the_one_recorded_is_refused(run, stores, model_folders, tmp_path):
    code, _, err = run("compare", stores["gpt2"], "--model", model_folders["llama"], "--out", "a", "--quiet")
    assert code == 5
    assert "comes from other weights than" in err
    assert not (tmp_path / "a").exists()


def test_heads_are_compared_without_the_readout(run, stores, no_pictures, tmp_path):
    assert run("compare", stores["gpt2"], "--site", "z", "--layers", "2", "--out", "a", "--quiet")[0] == 0
    assert set(pd.read_csv(tmp_path / "a" / "table.csv")["variant"]) == {"plain"}


def test_layers_of_two_models_are_compared_on_their_common_prompts(run, stores, tmp_path):
    code, out, err = run("compare", stores["gpt2"], stores["llama"], "--measure", "cka,procrustes", "--out", "a")
    assert code == 0, err
    assert "cka of resid_post" in out
    for name in ("cka", "procrustes"):
        table = pd.read_csv(tmp_path / "a" / name / "table.csv")
        assert len(table) == 16
        assert table["value"].between(0, 1).sum() >= 9
        assert (tmp_path / "a" / name / "grid.svg").exists()


def test_layers_by_several_measures_are_told_apart_as_json(run, stores, no_pictures):
    code, out, err = run("compare", stores["gpt2"], "--between", "layers", "--measure", "cka,procrustes", "--json")
    assert code == 0, err
    lines = json.loads(out)
    assert {line["measure"] for line in lines} == {"cka", "procrustes"}
    assert len(lines) == 2 * 4 * 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pca", "--site", "resid_mid"], 2, "the store has no 'resid_mid'; it has resid_pre, z, mlp_post, resid_post"),
        (["pca", "--where", "famly == 'digits'"], 2, "no query \"famly == 'digits'\": name 'famly' is not defined"),
        (["pca", "--where", "family == 'days'"], 2, "no row fits"),
        (["svd", "--layers", "7"], 2, "the store has resid_post at layers 0, 1, 2; got '7'"),
        (["svd", "--components", "500"], 2, "at most"),
        (["pca", "--components", "0"], 2, "at most"),
        (["nmf", "--components", "0"], 2, "at most"),
        (["umap", "--where", "prompt == 0 and is_last"], 2, "UMAP needs 5 rows and 2 neighbours; got 1 and 15"),
        (["demix", "--families", "digits"], 2, "demix needs 2 families that are not controls; got 1"),
        (["demix", "--families", "digits,days"], 2, "the store has no family 'days'; it has digits, numwords, letters"),
        (["demix", "--families", ","], 2, "--families takes names such as digits,numwords; got none"),
        (["compare", "--families", "digits,days"], 2, "the store has no family 'days'; it has digits"),
        (["compare", "--families", "digits"], 2, "a comparison needs two families"),
        (["compare", "--measure", "cosine"], 2, "no measure 'cosine'; there are matched_cosine"),
        (["compare", "--between", "heads"], 2, "--between takes families or layers; got 'heads'"),
        (["compare", "--between", "layers", "--measure", "rsa"], 2, "no measure 'rsa' between layers; there are cka"),
        (["compare", "--between", "layers", "--families", "digits"], 2, "--families goes with --between families"),
        (["compare", "--where", "is_last and frame == 'list'"], 2, "digits and numwords have 1 context in common"),
        (
            ["compare", "--where", "family != 'numwords'"],
            2,
            "no chosen row is of numwords; choose other rows or families",
        ),
        (["compare", "nothing.h5"], 3, "'nothing.h5' is not there"),
        (["compare", "--model", "./nothing"], 3, "no model folder './nothing'"),
    ],
)
def test_what_the_store_does_not_have_is_refused_in_one_line(run, stores, tmp_path, arguments, code, message):
    command, *rest = arguments
    got, out, err = run(command, stores["gpt2"], *rest, "--out", "figures/f", "--quiet")
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "figures").exists()


def test_each_label_has_a_scatter_in_its_colours(run, stores, circles, tmp_path):
    code, _, err = run("umap", stores["gpt2"], *"--color family,frame --layers 1 --format png --out f".split())
    assert code == 0, err
    assert {path.stem for path in (tmp_path / "f").glob("*.png")} == {"scatter", "scatter-frame"}
    assert "in the colour of their frame" in (tmp_path / "f" / "scatter-frame.txt").read_text()


def test_heads_are_drawn_as_heads(run, stores, tmp_path):
    code, _, err = run("pca", stores["gpt2"], "--site", "z", "--format", "png", "--out", "figures/z")
    assert code == 0, err
    with ActivationStore.open(stores["gpt2"]) as store:
        n_heads = store.width(Hook("z", 0)) // store.width(Hook("z", 0, head=0))
    assert f"in each of {n_heads} heads" in (tmp_path / "figures" / "z" / "heads.txt").read_text()
    assert (tmp_path / "figures" / "z" / "heads.png").is_file()
