"""`geometry sae extract`: features in a file of their own, gone on with where it was stopped, and told by `info`."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from cache import ActivationStore, plan_recording, record
from geometry.cli.console import apart_tasks
from geometry.cli.console.apart import read_apart
from probes.sae.load import load_sae
from probes.sae_features import extract as extracting
from probes.sae_features import plan as planning
from probes.sae_features.features import open_features
from tests.probes.sae.saved import SITE, random_tensors, save


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return save(tmp_path_factory.mktemp("sae") / "whole", metadata={"model_name": "tiny-gpt2"})


def test_a_store_and_an_sae_are_all_it_needs(run_here, place, sae, tmp_path):
    code, out, err = run_here("sae", "extract", place.store, "--sae", sae)
    assert (code, out) == (0, ""), err
    path = f"features/a-{SITE.name}-whole.h5"
    with ActivationStore.open(place.store) as store, open_features(tmp_path / "here" / path) as features:
        n_rows = len(store.rows)
        found = load_sae(sae, store=store).encode(store.load(SITE))
        assert torch.equal(torch.from_numpy(features.to_csr().toarray()), found)
        assert features.file.command.startswith("geometry sae extract ")
    assert err.splitlines() == [
        f"66 features of {sae} at {SITE.name}, {n_rows} rows, read twice: active features are counted first -> {path}",
        f"64 of 66 features are active at any of {n_rows} rows, 33.0 a row, at most 33: "
        f"{(tmp_path / 'here' / path).stat().st_size / 1000:.1f} kB",
        f"next: geometry info {path}",
    ]
    again = run_here("sae", "extract", place.store, "--sae", sae)
    assert again[:2] == (0, "")
    assert again[2].splitlines()[0] == f"{path} is complete: nothing to do (geometry info {path})"


def test_features_and_rows_are_chosen_and_json_says_what_came(run_here, place, sae):
    asked = ("--features", "3,17", "--where", "is_last", "--out", "f.h5")
    code, out, err = run_here("sae", "extract", place.store, "--sae", sae, *asked, "--json")
    assert code == 0, err
    with ActivationStore.open(place.store) as store, open_features("f.h5") as features:
        x = load_sae(sae, store=store).encode(store.load(SITE, "is_last"))[:, [3, 17]]
        torch.testing.assert_close(features.columns([3, 17]), x)
    said = json.loads(out)
    assert said | {"bytes": 0, "active a row": 0} == {
        "file": "f.h5",
        "bytes": 0,
        "sae": str(sae),
        "site": SITE.name,
        "rows": len(x),
        "features": 2,
        "ever active": int((x != 0).any(dim=0).sum()),
        "active a row": 0,
        "slots": int((x != 0).sum(dim=1).max()),
    }
    assert said["active a row"] == pytest.approx(float((x != 0).sum(dim=1).double().mean()), abs=1e-3)
    code, out, err = run_here("sae", "extract", place.store, "--sae", sae, "--out", "f.h5")
    assert (code, out) == (5, "")
    assert (
        err
        == "error: f.h5 was extracted with another rows, features; choose another --out, or --overwrite\n".replace(
            "f.h5 was", f"{os.path.realpath('f.h5')} was"
        )
    )
    assert run_here("sae", "extract", place.store, "--sae", sae, "--out", "f.h5", "--overwrite", "--quiet") == (
        0,
        "",
        "",
    )


def test_stopped_it_says_how_to_go_on_and_goes_on(run_here, place, sae, monkeypatch):
    monkeypatch.setattr(planning, "_AT_ONCE", 66 * 50)
    write, sent = extracting._write, []

    def interrupted(*one):
        if len(sent) < 2:
            sent.append(os.kill(os.getpid(), signal.SIGINT) if sent else 0)
        return write(*one)

    monkeypatch.setattr(extracting, "_write", interrupted)
    asked = ("sae", "extract", place.store, "--sae", sae, "--out", "f.h5")
    code, out, err = run_here(*asked, "--overwrite")
    assert (code, out) == (130, "")
    told = f"blocks; nothing is lost; go on with: geometry sae extract {place.store} --sae {sae} --out f.h5"
    assert err.splitlines()[-1].startswith("stopped after 2 of ")
    assert err.splitlines()[-1].endswith(told)
    said = json.loads(run_here("info", "f.h5", "--json")[1])
    assert (said["complete"], said["rows"]) == (False, 100)
    assert said["command"].startswith("geometry sae extract ")
    assert "False; the command below goes on" in run_here("info", "f.h5")[1]
    assert run_here(*asked)[0] == 0
    with open_features("f.h5") as features:
        assert features.complete


def test_info_and_verify_say_what_it_is_in_a_process_of_their_own(run_here, place, sae):
    assert run_here("sae", "extract", place.store, "--sae", sae, "--out", "f.h5", "--quiet") == (0, "", "")
    code, out, err = run_here("info", "f.h5", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said == read_apart("facts", Path("f.h5")) == apart_tasks.facts(Path("f.h5"))
    with ActivationStore.open(place.store) as store:
        assert said["store"] == store.fingerprint
    assert said["holds"].startswith("features of an SAE; ")
    assert (said["sae"], said["site"], said["model"]) == (str(sae), SITE.name, str(place.model))
    assert (said["features"], said["extracted"], said["slots"], said["where"]) == (66, 66, 33, "all")
    assert "holds         features of an SAE" in run_here("info", "f.h5")[1]
    assert run_here("verify", "f.h5")[:2] == (0, "f.h5: all checksums agree, 1 blocks\n")
    code, _, err = run_here("pca", "f.h5")
    assert (code, err) == (
        4,
        "error: f.h5 is a file of SAE features, not an activation store; geometry cache makes them\n",
    )


def test_first_tokens_that_need_more_room_than_others_are_told(run_here, gpt2, tmp_path):
    plan = plan_recording(gpt2, ["1,2,3,", "one two"], sites="resid")
    with record(gpt2, plan, tmp_path / "a.h5") as store:
        x, first = store.load(SITE).double(), torch.from_numpy((store.rows["position"] <= 0).to_numpy())
    assert len(x) < 33  # so that one direction tells first tokens from others
    reads = (torch.linalg.pinv(x) @ first.double()).float()[:, None].repeat(1, 40)
    tensors = {"W_enc": reads, "b_enc": torch.full((40,), -0.5), "W_dec": torch.ones(40, 33), "b_dec": torch.zeros(33)}
    sae = save(tmp_path / "sae", tensors)
    asked = ("sae", "extract", tmp_path / "a.h5", "--sae", sae)
    code, _, err = run_here(*asked)
    assert code == 0
    told = "after the first token of a text at most 0 are active: --where 'position > 0' leaves BOS and it out, and "
    assert err.splitlines()[-1].startswith(told)
    assert "after the first token" not in run_here(*asked, "--where", "position > 0", "--out", "b.h5")[2]


def test_an_sae_that_does_not_explain_the_rows_is_warned_of(run_here, place, tmp_path):
    save(tmp_path / "wrong", random_tensors())
    code, _, err = run_here("sae", "extract", place.store, "--sae", tmp_path / "wrong")
    assert code == 0
    assert "warning: " in err
    assert "of the variance of blocks.1.hook_resid_post in a.h5; is it this model's, and of this site?" in err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--features", "3,x"), 2, "--features takes numbers such as 3,17; got '3,x'"),
        (("--features", "66"), 2, "features of this SAE are numbered 0 to 65; got 66"),
        (("--where", "position < -3"), 2, "no row is chosen to extract features of"),
        (("--sae", "nowhere"), 2, "no folder and no release 'nowhere'; near it are"),
        (("--out", "."), 2, ""),
        (("--sae-id", "one"), 2, ""),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run_here, place, sae, options, code, said):
    got, out, err = run_here("sae", "extract", place.store, "--sae", sae, *options)
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith(f"error: {said}")


def test_another_model_s_sae_is_refused_unless_it_is_said_to_be_the_same(run_here, place, tmp_path):
    asked = ("sae", "extract", place.store, "--sae", save(tmp_path / "one", metadata={"model_name": "pythia-70m"}))
    code, _, err = run_here(*asked)
    assert (code, err.count("\n")) == (2, 1)
    assert "was trained on pythia-70m, and a.h5 is of" in err
    assert run_here(*asked, "--called", "pythia-70m", "--quiet")[0] == 0
