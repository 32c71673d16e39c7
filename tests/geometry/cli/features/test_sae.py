"""`geometry sae info` says what an SAE is and how it does; `geometry steer --sae` steers along what it writes."""

import json
import os
import subprocess
import sys
import time

import pandas as pd
import pytest
from rich.cells import cell_len

from cache import ActivationStore
from probes import feature_direction, generate, steer
from probes.sae.load import load_sae
from probes.sae.quality import sae_quality
from tests.probes.sae.saved import SITE, perfect_tensors, random_tensors, save


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return save(tmp_path_factory.mktemp("sae") / "whole", metadata={"model_name": "tiny-gpt2"})


def test_without_a_store_it_says_what_an_sae_is(run_here, sae, tmp_path):
    code, out, err = run_here("sae", "info", sae)
    assert (code, err) == (0, "")
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert said == {
        "name": str(sae),
        "architecture": "standard",
        "form": "relu",
        "features": "66",
        "width": "33",
        "site": SITE.name,
        "model": "tiny-gpt2",
        "bos": "True",
    }
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("architecture", "tensors", "config", "said"),
    [
        ("topk", random_tensors(), {"k": 7}, {"form": "topk", "k": 7}),
        ("jumprelu", random_tensors(threshold=0.1), {}, {"form": "jumprelu"}),
        (
            "transcoder",
            random_tensors(),
            {"d_out": 33, "apply_b_dec_to_input": False, "metadata": {"hook_name_out": "blocks.1.hook_mlp_out"}},
            {"form": "relu", "writes": "blocks.1.hook_mlp_out", "width written": 33},
        ),
    ],
)
def test_json_says_the_form_and_its_parameters(run_here, tmp_path, architecture, tensors, config, said):
    save(tmp_path / "one", tensors, architecture, **config)
    code, out, err = run_here("sae", "info", tmp_path / "one", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert said.items() <= facts.items()
    assert facts["quality"] == []


def test_with_a_store_and_the_model_it_says_how_an_sae_does(run_here, place, sae, gpt2, tmp_path):
    asked = ("sae", "info", sae, "--store", place.store, "--model", place.model, "--prompts", 12)
    code, out, err = run_here(*asked, "--json")
    assert code == 0, err
    said = json.loads(out)
    with ActivationStore.open(place.store) as store:
        quality = sae_quality(load_sae(sae, store=store), store, model=gpt2, n_prompts=12)
    pd.testing.assert_frame_equal(pd.DataFrame(said["quality"]), quality.table, atol=1e-6, check_dtype=False)
    assert said["faults"] == []
    folder = tmp_path / "here" / "figures" / "a-sae"
    assert err.splitlines()[-2:] == ["figures/a-sae/sae.json", "figures/a-sae/quality.csv"]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "quality.csv"), quality.table, rtol=1e-4, check_dtype=False)
    assert json.loads((folder / "sae.json").read_text()).items() <= said.items()


def test_a_table_fits_and_quiet_says_nothing(run_here, place, sae, monkeypatch):
    monkeypatch.setenv("COLUMNS", "52")
    code, out, _ = run_here("sae", "info", sae, "--store", place.store, "--where", "is_last", "--by", "frame")
    assert code == 0
    table = out.partition("\n\n")[2].splitlines()
    assert max(map(cell_len, table)) <= 52
    assert [line.split()[0] for line in table if "66" in line or "33" in line][-1:] == ["all"]
    assert run_here("sae", "info", sae, "--store", place.store, "--quiet", "--out", "x") == (0, "", "")


@pytest.mark.parametrize("what", ["random", "of another site"])
def test_an_sae_that_is_wrong_is_warned_of(run_here, place, tmp_path, what):
    with ActivationStore.open(place.store) as store:
        x = store.load(("resid_post", 2), "position >= 0")
    axes = (x - x.mean(dim=0)).svd().V[:, :25].T.contiguous()
    half = perfect_tensors(25)["W_dec"] @ axes
    other = {"W_enc": half.T.contiguous(), "W_dec": half, "b_enc": half.new_zeros(50), "b_dec": x.mean(dim=0)}
    save(tmp_path / "wrong", random_tensors() if what == "random" else other)
    code, out, err = run_here("sae", "info", tmp_path / "wrong", "--store", place.store, "--json")
    assert code == 0
    assert len(json.loads(out)["faults"]) == 1
    told = (
        "less than 0.5: is it this model's, and of" if what == "random" else "blocks.2.hook_resid_post: is it of that"
    )
    assert err.startswith("warning: ")
    assert told in err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            ("--where", "is_last"),
            2,
            "error: --model, --where, --by and --called say more of a store; give one with",
        ),
        (("--store", "nowhere.h5"), 3, "error: "),
        (("--store", "STORE", "--where", "position < 0"), 2, "error: no row is chosen to see how an SAE does on it"),
        (("--store", "STORE", "--by", "colour"), 2, "error: by is a column of prompts ("),
        (("--store", "STORE", "--prompts", "0"), 2, "error: n_prompts must be 1 or more"),
        (("--sae-id", "one"), 2, "error: "),
        (("--nothing",), 2, "error: No such option: --nothing; see geometry sae info --help"),
        (("--out", "/proc/1/new"), 3, "error: cannot "),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run_here, place, sae, options, code, said):
    words = [place.store if word == "STORE" else word for word in options]
    got, out, err = run_here("sae", "info", sae, *words)
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith(said)


def test_another_model_s_sae_is_refused_unless_it_is_said_to_be_the_same(run_here, place, tmp_path):
    save(tmp_path / "one", metadata={"model_name": "pythia-70m"})
    asked = ("sae", "info", tmp_path / "one", "--store", place.store)
    code, out, err = run_here(*asked)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "was trained on pythia-70m, and a.h5 is of" in err
    assert run_here(*asked, "--called", "pythia-70m", "--quiet")[0] == 0


def test_a_release_that_is_not_here_is_told_within_moments(tmp_path):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "geometry", "sae", "info", "gpt2-small-res-jb", "--sae-id", "blocks.6.hook_resid_pre"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
    assert "is not in the local Hugging Face cache" in done.stderr
    assert time.monotonic() - started < 20  # most of it python's own; what is asked of the network takes two seconds


def test_a_group_without_a_command_shows_its_help(run_here):
    code, out, _ = run_here("sae", "--help")
    assert code == 0
    assert "info" in out


def test_steer_goes_along_what_a_feature_writes(run_here, place, sae, gpt2):
    asked = ("steer", "--model", place.model, "--prompt", "1,2,3,", "--sae", sae, "--feature", 5)
    code, out, err = run_here(*asked, "--alpha", 40, "--tokens", 4, "--json")
    assert code == 0, err
    with steer(gpt2, feature_direction(load_sae(sae, model=gpt2), 5), 40):
        goes_on = generate(gpt2, "1,2,3,", 4)
    said = json.loads(out)
    assert said["after"]["continuation"] == gpt2.tokenizer.decode(goes_on)
    assert said["before"] != said["after"]
    assert "feature 5 at blocks.1.hook_resid_post" in run_here(*asked, "--tokens", 1)[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--feature", 66), "error: features of this basis are numbered 0 to 65; got 66\n"),
        ((), "error: --sae goes with --feature, and not with --basis: a folder or release, and a feature from 0\n"),
        (
            ("--feature", 1, "--basis", "x", "--layer", 1),
            "error: --sae goes with --feature, and not with --basis: ",
        ),
        (("--feature", 1, "--no-bos"), "error: "),
        (("--feature", 1, "--sae-id", "x"), "error: "),
    ],
)
def test_a_feature_that_cannot_be_steered_along_is_told(run_here, place, sae, options, said):
    code, out, err = run_here("steer", "--model", place.model, "--prompt", "1,2,", "--sae", sae, *options)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(said)
