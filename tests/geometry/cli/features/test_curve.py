"""`geometry sae curve`: what is varied, the table, the picture, and what cannot be."""

import json

import pandas as pd
import pytest

from tests.probes.sae_training.stores import make_store

SMALL = ("--hook", "blocks.1.hook_resid_post", "--k", "3", "--steps", "3", "--batch-size", "32")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened, _ = make_store(tmp_path_factory.mktemp("curve") / "planted.h5")
    opened.close()
    return opened.paths[0]


def test_a_curve_is_trained_told_and_drawn(run_here, store, tmp_path):
    varied = ("--widths", "16,32", "--tokens", "100,all", "--leave-out-frames", "lines")
    code, out, err = run_here("sae", "curve", store, *SMALL, *varied, "--full")
    assert code == 0, err
    assert "4 points, 4 SAEs, 3 steps each -> saes/planted-curve" in err
    assert out.splitlines()[0] == "what was left out of training"
    folder = tmp_path / "here" / "saes" / "planted-curve"
    assert {path.name for path in folder.glob("curve.*")} == {"curve.csv", "curve.png", "curve.svg", "curve.txt"}
    caption = (folder / "curve.txt").read_text()
    assert "Command: geometry sae curve" in caption
    assert "architecture batchtopk" in caption
    assert "width" not in caption.split("Parameters:")[1].split("\n")[0]
    assert len(pd.read_csv(folder / "curve.csv")) == 4 * 3
    again = run_here("sae", "curve", store, *SMALL, *varied, "--json")
    assert {one["width"] for one in json.loads(again[1])} == {16, 32}


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        (("--widths", "many"), "--tokens and --widths are whole numbers (tokens also: all)"),
        (("--tokens", ""), "one of them names none"),
        (("--widths", "2"), "k is at most the width, 2; got 3"),
        (("--sequences", "2"), "sequences is a share of a batch, 0 to 1; got 2.0"),
    ],
)
def test_what_cannot_be_varied_is_told(run_here, store, varied, message):
    code, _, err = run_here("sae", "curve", store, *SMALL, *varied)
    assert code == 2
    assert message in err.splitlines()[-1]
