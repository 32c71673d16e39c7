"""`sweep`, `transfer` and `erase` with an SAE: at its site, its lines beside all others, and what is told otherwise."""

import json

import pandas as pd
import pytest

from tests.probes.sae.saved import SITE, perfect_tensors, random_tensors, save

STEPS = ("--from", "digits", "--to", "numwords", "--alphas", "1,3", "--positions", "last")
COMMANDS = {"sweep": STEPS, "transfer": ("--contexts", 2), "erase": ("--contexts", 2)}


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return save(tmp_path_factory.mktemp("sae") / "whole", metadata={"model_name": "tiny-gpt2"})


@pytest.mark.parametrize("command", ["transfer", "erase"])
def test_codes_are_read_through_an_sae_beside_the_plain_ones(run_here, place, sae, no_pictures, tmp_path, command):
    code, out, err = run_here(command, place.store, "--sae", sae, *COMMANDS[command], "--out", "x", "--full")
    assert code == 0, err
    folder = tmp_path / "here" / "x"
    for name in ("summary", "pairs"):
        table = pd.read_csv(folder / f"{name}.csv")
        assert table["method"].tolist() == ["mean", "sae"] * (len(table) // 2)
        assert (table["layer"] == 1).all()
        plain, read = (table[table["method"] == one].drop(columns="method") for one in ("mean", "sae"))
        pd.testing.assert_frame_equal(plain.reset_index(drop=True), read.reset_index(drop=True), atol=1e-5)
    assert {"result.nc", "table.csv"} <= {path.name for path in (folder / "sae").iterdir()}
    assert "66 features of blocks.1.hook_resid_post carry" in " ".join(err.split()).replace(
        json.loads((folder / "sae" / "result.json").read_text())["parameters"]["basis"],
        "66 features of blocks.1.hook_resid_post",
    )
    assert "basis" not in json.loads((folder / "result.json").read_text())["parameters"]
    assert [line.split()[1:3] for line in out.splitlines() if line.split()[1:2] == ["digits"]][:2] == [
        ["digits", "mean"],
        ["digits", "sae"],
    ]


def test_json_says_which_lines_are_of_the_sae(run_here, place, sae, no_pictures):
    asked = ("transfer", place.store, *COMMANDS["transfer"], "--json", "--quiet")
    code, out, err = run_here(*asked, "--sae", sae)
    assert (code, err) == (0, "")
    both = pd.DataFrame(json.loads(out))
    assert both["method"].value_counts().to_dict() == {"mean": len(both) // 2, "sae": len(both) // 2}
    alone = pd.DataFrame(json.loads(run_here(*asked, "--layers", 1)[1]))
    pd.testing.assert_frame_equal(both[both["method"] == "mean"][list(alone)].reset_index(drop=True), alone)
    assert "method" not in alone


def test_an_sae_without_the_index_transfers_nothing(run_here, place, no_pictures, tmp_path):
    tensors = perfect_tensors()
    save(tmp_path / "dead", tensors | {"b_enc": tensors["b_enc"] - 1e6})
    code, out, err = run_here("transfer", place.store, *COMMANDS["transfer"], "--sae", tmp_path / "dead", "--json")
    assert code == 0, err
    table = pd.DataFrame(json.loads(out))
    read, plain = (table[table["method"] == one] for one in ("sae", "mean"))
    assert (read["success"] == 0).all()
    assert read["effect"].abs().max() < 1e-6 < plain["effect"].abs().max()
    assert err.startswith("warning: ")
    assert "of the variance of blocks.1.hook_resid_post" in " ".join(err.split())


@pytest.mark.parametrize("few", [(), ("--features", 4)])
def test_a_sweep_has_the_difference_of_features_and_others_in_their_place(run_here, place, sae, tmp_path, few):
    code, out, err = run_here("sweep", place.store, *STEPS, "--sae", sae, *few, "--out", "x", "--full")
    assert code == 0, err
    folder = tmp_path / "here" / "x"
    summary = pd.read_csv(folder / "summary.csv").set_index("method")
    assert {"mean_difference", "feature_difference", "random_features", "random"} <= set(summary.index)
    assert (summary["layer"] == 1).all()
    if not few:
        same = ["success", "old_rank", "worst_answer"]
        assert summary.loc["feature_difference", same].equals(summary.loc["mean_difference", same])
    parameters = json.loads((folder / "result.json").read_text())["parameters"]
    assert parameters["basis"].startswith("66 features of blocks.1.hook_resid_post (sha256 ")
    assert parameters["n_features"] == (4 if few else None)
    caption = (folder / "success.txt").read_text()
    assert "difference of features, other features in their place" in " ".join(caption.split())
    assert f"{4 if few else 'all'} of them that differ most" in " ".join(caption.split())
    assert "feature_difference" in out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("options", [("--layers", 1), ("--layers", "all"), ("--site", SITE.name)])
def test_the_site_may_be_named_too(run_here, place, sae, no_pictures, command, options):
    code, _, err = run_here(command, place.store, *COMMANDS[command], "--sae", sae, *options)
    assert code == 0, err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layers", 2), "reads blocks.1.hook_resid_post alone, and --layers 2 asks for others; leave it out"),
        (("--layers", "0-1"), "reads blocks.1.hook_resid_post alone, and --layers 0-1 asks for others; leave it out"),
        (
            ("--site", "blocks.2.hook_resid_post"),
            "reads blocks.1.hook_resid_post alone, and --site blocks.2.hook_resid_post asks for others; leave it out",
        ),
        (("--sae-id", "x"), "is a folder with one SAE; an id such as 'x' names one of a release"),
    ],
)
def test_another_site_than_the_sae_s_is_told(run_here, place, sae, command, options, said):
    code, out, err = run_here(command, place.store, *COMMANDS[command], "--sae", sae, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err == f"error: {sae} {said}\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"metadata": {"model_name": "pythia-70m"}}, 2, "was trained on pythia-70m, and a.h5 is of"),
        ({"metadata": {"hook_name": "blocks.7.hook_resid_post"}}, 2, "is of blocks.7.hook_resid_post, and a.h5 has no"),
        ({"metadata": {"prepend_bos": False}}, 2, "has BOS before every text"),
        ({"tensors": random_tensors(d=20)}, 2, "has width 20, and blocks.1.hook_resid_post of a.h5 has 33"),
    ],
)
def test_an_sae_of_another_model_or_site_is_refused(run_here, place, tmp_path, command, config, code, said):
    save(tmp_path / "one", **config)
    asked = (command, place.store, *COMMANDS[command], "--sae", tmp_path / "one")
    got, out, err = run_here(*asked)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert said in err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_of_no_sae_is_told(run_here, place, command):
    asked = (command, place.store, *COMMANDS[command])
    said = "error: --sae-id says which SAE of a release; give the release with --sae\n"
    assert run_here(*asked, "--sae-id", "x") == (2, "", said)
    code, out, err = run_here(*asked, "--sae", "./nowhere")
    assert (code, out, err.count("\n")) == (3, "", 1)
    if command == "sweep":
        said = "error: --features says how many of an SAE's features are used; give it with --sae\n"
        assert run_here(*asked, "--features", 3) == (2, "", said)


def test_too_many_features_are_told(run_here, place, sae):
    code, out, err = run_here("sweep", place.store, *STEPS, "--sae", sae, "--features", 67)
    assert (code, out, err) == (2, "", "error: the basis has 66 features; of these 1 or more count, got 67\n")
