"""`scripts/sae_study.py` tells of SAEs beside what is simpler, on a small store."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign, make_prompts
from probes.sae_training.plan import plan_training
from probes.sae_training.train import train_saes
from tests.recordings import recorded

ROOT = Path(__file__).parents[1]
SIMPLE = ["dimensions", "sae seed 0", "sae seed 1", "untrained", "pca-4", "nmf-4"]


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import sae_study
    finally:
        sys.path.pop(0)
    return sae_study


@pytest.fixture(scope="module")
def made(gpt2, tmp_path_factory):
    """A store with neurons too, and SAEs of it."""
    folder = tmp_path_factory.mktemp("study")
    families = tuple(FAMILIES[name] for name in ("digits", "numwords", "months"))
    design = SequenceDesign(families, ("quote", "list"), lengths=(3,), starts=(1, 2, 3, 4, 5), templates=3)
    sites = "blocks.1.hook_resid_post,blocks.1.mlp.hook_post"
    with recorded(gpt2, make_prompts(design), folder / "store.h5", sites=sites) as store:
        sizes = {"width": 40, "k": 4, "steps": 10, "batch_size": 32, "seeds": (0, 1)}
        train_saes(store, plan_training(store, [("resid_post", 1)], frames=("list",), **sizes), folder / "saes")
    return folder


def test_every_basis_is_told_of(script, made, monkeypatch, capsys):
    store, saes, out = made / "store.h5", made / "saes", made / "out"
    more = ["--neurons", store, "--shuffled", store, saes, "--where", "is_last and frame == 'quote'"]
    monkeypatch.setattr(sys, "argv", list(map(str, ["sae_study.py", store, saes, out, *more])))
    with pytest.warns(UserWarning, match="explains"):  # ten steps teach little
        script.main()
    bases = [*SIMPLE, "neurons", "shuffled model"]
    assert capsys.readouterr().out.splitlines() == [f"layer 1: {name}" for name in bases]
    tables = {name: pd.read_csv(out / f"{name}.csv") for name in ("explained", "probes", "tuning")}
    assert tables["explained"].groupby("basis", sort=False).size().to_dict() == dict.fromkeys(
        [*SIMPLE[1:], "shuffled model"], 2
    )
    used = tables["probes"].groupby(["basis", "target"])["k"].apply(list)
    assert used["pca-4", "family"] == [1, 2]  # five of four components cannot be used
    assert used["sae seed 0", "number"] == [1, 2, 5]
    assert tables["tuning"].groupby("basis")["family"].apply(list)["neurons"] == ["digits", "numwords", "months"]
    trained = pd.read_csv(saes / "left_out.csv")
    mine = tables["explained"][tables["explained"]["basis"] == "sae seed 1"]
    assert mine["explained_variance"].to_list() == pytest.approx(trained["explained_variance"].to_list()[2:], abs=1e-4)
