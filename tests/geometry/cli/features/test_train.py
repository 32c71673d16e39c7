"""`geometry sae train`: several sites and seeds in one go, gone on with where it was stopped."""

import json

import pandas as pd
import pytest

from probes.sae.load import load_sae
from probes.sae_training import train as training
from tests.probes.sae_training.stores import make_store

HOOKS = "blocks.1.hook_resid_post,blocks.2.hook_resid_post"
SMALL = ("--width", "32", "--k", "3", "--steps", "12", "--batch-size", "64", "--leave-out-frames", "lines")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened, _ = make_store(tmp_path_factory.mktemp("train") / "planted.h5", n_tokens=400)
    opened.close()
    return opened.paths[0]


def test_sites_and_seeds_are_trained_and_said(run_here, store, tmp_path):
    code, out, err = run_here("sae", "train", store, "--hook", HOOKS, "--seeds", "2", *SMALL)
    assert code == 0, err
    assert out.splitlines()[0] == "the last batch of training"
    assert out.count("seed-1") == 2 + 2 * 3
    assert "what was left out of training" in out
    folder = tmp_path / "here" / "saes" / "planted"
    assert "4 SAEs of 32 features, 12 batches of 51 of text, 13 of sequences -> saes/planted" in err
    assert "rows: " in err
    assert "next: geometry sae info saes/planted/blocks.1.hook_resid_post/seed-0 --store" in err
    assert load_sae(folder / "blocks.2.hook_resid_post" / "seed-1").directions.shape == (32, 24)
    assert pd.read_csv(folder / "curve.csv")["sae"].nunique() == 4
    again = run_here("sae", "train", store, "--hook", HOOKS, "--seeds", "2", *SMALL, "--json")
    assert again[0] == 0
    said = json.loads(again[1])
    assert len(said["folders"]) == 4
    assert [one["part"] for one in said["left_out"][:3]] == ["documents", "templates", "frames"]
    other = run_here("sae", "train", store, "--hook", HOOKS, "--seeds", "3", *SMALL)
    assert other[0] == 5
    assert other[2].splitlines()[-1].startswith("error: saes/planted holds SAEs trained otherwise: seeds ([0, 1], now")


def test_what_was_trained_is_tried_on_what_was_left_out(run_here, store):
    assert run_here("sae", "train", store, "--hook", HOOKS, *SMALL, "--quiet")[::2] == (0, "")
    folder = "saes/planted/blocks.1.hook_resid_post/seed-0"
    code, out, err = run_here("sae", "info", folder, "--store", store, "--where", "frame == 'lines'", "--json")
    assert code == 0, err
    assert json.loads(out)["quality"]


def test_stopped_it_says_how_to_go_on(run_here, store, monkeypatch):
    step = training.Run.step
    sent = []

    def stopped(self, x):
        import os
        import signal

        if not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        return step(self, x)

    monkeypatch.setattr(training.Run, "step", stopped)
    code, _, err = run_here("sae", "train", store, "--hook", HOOKS, *SMALL)
    assert code == 130
    assert "stopped after 1 of 12 steps; nothing is lost; go on with: geometry sae train" in err
    assert run_here("sae", "train", store, "--hook", HOOKS, *SMALL)[0] == 0


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        (("--hook", "blocks.9.hook_resid_post"), 2, "blocks.9.hook_resid_post"),
        (("--k", "90"), 2, "k is at most the width, 32; got 90"),
        (("--leave-out-frames", "verse"), 2, "no prompt has the frame 'verse'"),
        (("--seeds", "0"), 2, "seeds must be one or more"),
    ],
)
def test_bad_options_are_one_sentence(run_here, store, changed, code, told):
    found, _, err = run_here("sae", "train", store, "--hook", HOOKS, *SMALL, *changed)
    assert found == code
    assert told in err.splitlines()[-1]


def test_another_architecture_is_recorded_and_trained_on_by_the_same_commands(run_here, model_folders, tmp_path):
    texts = tmp_path / "texts.jsonl"
    lines = [{"id": f"d{i}", "text": ",".join(str((i * j) % 10) for j in range(1, 60))} for i in range(8)]
    texts.write_text("\n".join(map(json.dumps, lines)))
    sites = ("--frame", "quote,list", "--length", "3", "--sites", "resid_post", "--layers", "1", "--window", "20")
    asked = ("cache", "--model", model_folders["gpt2"], "--dataset", f"text:{texts},digits,numwords", *sites)
    code, _, err = run_here(*asked, "--out", "gpt2.h5")
    assert code == 0, err
    hook = ("--hook", "blocks.1.hook_resid_post", "--leave-out-frames", "list", "--leave-out-templates", "1")
    sizes = ("--width", "66", "--k", "8", "--steps", "300", "--batch-size", "64", "--architecture", "topk")
    code, out, err = run_here("sae", "train", "gpt2.h5", *hook, *sizes, "--json")
    assert code == 0, err
    said = pd.DataFrame(json.loads(out)["left_out"]).set_index("part")
    assert said.index.tolist() == ["documents", "templates", "frames"]
    assert (said["explained_variance"] > 0.3).all()
    assert said["index_variance"].notna().tolist() == [False, True, True]
    assert json.loads(out)["last"][0]["explained_variance"] > 0.8
