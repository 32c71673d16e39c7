"""SAEs trained on a store: planted features are found, sae-lens opens them, and a stop changes nothing."""

import json
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from cache.errors import CorruptFileError, FingerprintError, LockedError, NotAvailableError, StoppedError
from cache.sealed.lock import writer_lock
from probes.sae_training import train as module
from probes.sae_training.plan import ARCHITECTURES, plan_training
from probes.sae_training.train import train_saes
from tests.probes.sae_training.stores import HOOK, make_store
from tests.variants import some

HOOKS = [HOOK, ("resid_post", 2)]
SMALL = {"width": 32, "k": 3, "steps": 12, "batch_size": 64, "frames": ("lines",)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store, features = make_store(tmp_path_factory.mktemp("train") / "store.h5", n_tokens=400)
    with store:
        yield store, features


@pytest.fixture
def store(made):
    return made[0]


def opened(folder):
    from sae_lens import SAE

    return SAE.load_from_disk(str(folder))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("architecture", some(ARCHITECTURES, "batchtopk"))
def test_planted_features_are_found_whatever_the_architecture(made, tmp_path, architecture):
    store, features = made
    plan = plan_training(store, [HOOK], architecture=architecture, width=32, k=2, steps=400, batch_size=128, lr=1e-2)
    (folder,) = train_saes(store, plan, tmp_path / "saes")
    sae = opened(folder)
    x = store.load(HOOK)[plan.split(store).rows("documents")]
    with torch.no_grad():
        codes = sae.encode(x)
        left = (sae.decode(codes) - x).square().sum() / (x - x.mean(dim=0)).square().sum()
    cosines = np.abs(features @ (sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True)).detach().numpy().T).max(axis=1)
    assert (cosines > 0.9).mean() >= 0.9, np.sort(cosines)
    assert left < (0.25 if architecture == "topk" else 0.1)  # some rows have more than k features
    assert 1.4 < float((codes != 0).float().sum(dim=1).mean()) < 2.8


def test_sites_and_seeds_are_trained_in_one_reading(store, tmp_path):
    plan = plan_training(store, HOOKS, seeds=(0, 7), **SMALL)
    folders = train_saes(store, plan, tmp_path / "saes")
    assert [str(folder.relative_to(tmp_path / "saes")) for folder in folders] == [
        f"blocks.{layer}.hook_resid_post/seed-{seed}" for layer in (1, 2) for seed in (0, 7)
    ]
    kept = {path.name for path in (tmp_path / "saes").iterdir()}
    told = {"training.json", "split.json", "curve.csv", "left_out.csv", "stability.csv"}
    assert kept == told | {"blocks.1.hook_resid_post", "blocks.2.hook_resid_post"}
    stable = pd.read_csv(tmp_path / "saes" / "stability.csv")
    assert stable.loc[stable["band"] == "all", "n_features"].tolist() == [32, 32]
    assert (stable["first"].str[-6:] == "seed-0").all()
    curve = pd.read_csv(tmp_path / "saes" / "curve.csv")
    assert curve["sae"].nunique() == 4
    assert set(curve.columns) == {"sae", "step", "explained_variance", "l0", "dead"}
    assert json.loads((tmp_path / "saes" / "split.json").read_text())["left_out"]["frames"] == ["lines"]
    weights = [opened(folder).W_dec for folder in folders]
    assert all(not torch.equal(one, other) for one, other in pairwise(weights))
    alone = train_saes(store, plan_training(store, HOOKS[:1], seeds=(0, 7), **SMALL), tmp_path / "alone")
    assert torch.equal(opened(alone[1]).W_dec, weights[1])


def test_what_is_saved_says_where_it_is_from(store, tmp_path):
    (folder,) = train_saes(store, plan_training(store, [HOOK], **SMALL), tmp_path / "saes")
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.1.hook_resid_post"
    assert metadata["store_fingerprint"] == store.fingerprint
    assert json.loads((tmp_path / "saes" / "training.json").read_text())["store"] == store.fingerprint


def test_the_bias_begins_at_the_mean_of_what_trains(store, tmp_path):
    plan = plan_training(store, [HOOK], **(SMALL | {"lr": 1e-9}))
    (folder,) = train_saes(store, plan, tmp_path / "saes")
    split = plan.split(store)
    rows = np.concatenate([split.rows("text"), split.rows("sequences")])
    assert (opened(folder).b_dec - store.load(HOOK)[rows].mean(dim=0)).abs().max() < 0.2  # around 5


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
def test_after_few_steps_too_as_many_features_are_active_as_in_training(store, tmp_path, architecture):
    plan = plan_training(store, [HOOK], architecture=architecture, **(SMALL | {"steps": 120}))
    (folder,) = train_saes(store, plan, tmp_path / "saes")
    x = store.load(HOOK)[plan.split(store).rows("text")]
    with torch.no_grad():
        assert 2 < float((opened(folder).encode(x) != 0).float().sum(dim=1).mean()) < 4  # k is 3


@pytest.mark.parametrize("stops", [(1,), (5, 7), (3, 11)])
def test_broken_off_it_ends_in_the_same_saes(store, tmp_path, monkeypatch, stops):
    monkeypatch.setattr(module, "EVERY", 4)
    plan = plan_training(store, HOOKS, seeds=(0, 1), **SMALL)
    whole = train_saes(store, plan, tmp_path / "whole")
    steps = []
    for stop in stops:
        with pytest.raises(StoppedError, match=f"stopped after {stop} of 12 steps"):
            train_saes(
                store,
                plan,
                tmp_path / "parts",
                on_step=lambda n, _: steps.append(n),
                should_stop=lambda at=stop: len(steps) + 1 >= at,
            )
    parts = train_saes(store, plan, tmp_path / "parts", on_step=lambda n, _: steps.append(n))
    assert steps == list(range(1, 13))  # none is made twice
    for here, there in zip(parts, whole, strict=True):
        assert contents(here) == contents(there)
    for name in ("curve.csv", "split.json", "training.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_killed_between_checkpoints_it_goes_on_from_the_last_one(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 4)
    plan = plan_training(store, [HOOK], **SMALL)

    def killed(step, _):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_saes(store, plan, tmp_path / "saes", on_step=killed)
    steps = []
    (here,) = train_saes(store, plan, tmp_path / "saes", on_step=lambda n, _: steps.append(n))
    assert steps == list(range(5, 13))
    (there,) = train_saes(store, plan, tmp_path / "whole")
    assert contents(here) == contents(there)


def test_finished_saes_are_left_alone_and_other_plans_refused(store, tmp_path):
    plan = plan_training(store, [HOOK], **SMALL)
    (folder,) = train_saes(store, plan, tmp_path / "saes")
    before = (folder / "cfg.json").stat().st_mtime_ns
    steps = []
    train_saes(store, plan, tmp_path / "saes", on_step=lambda n, _: steps.append(n))
    assert steps == []
    assert (folder / "cfg.json").stat().st_mtime_ns == before
    with pytest.raises(FingerprintError, match=r"trained otherwise: k \(3, now 4\)"):
        train_saes(store, plan_training(store, [HOOK], **(SMALL | {"k": 4})), tmp_path / "saes")


def test_one_trains_at_a_time_and_damage_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 4)
    plan, out = plan_training(store, [HOOK], **SMALL), tmp_path / "saes"
    with pytest.raises(StoppedError):
        train_saes(store, plan, out, should_stop=lambda: True)
    with writer_lock(out / "training"), pytest.raises(LockedError):
        train_saes(store, plan, out)
    (kept,) = out.glob("step-1/*/seed-0/sae.safetensors")
    kept.write_bytes(kept.read_bytes()[:40])
    with pytest.raises(CorruptFileError, match="step-1 is damaged; remove it to begin anew"):
        train_saes(store, plan, out)
    (out / "training.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"training.json is damaged"):
        train_saes(store, plan, out)


def test_without_sae_lens_it_says_how_to_get_it(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(NotAvailableError, match=r"not installed: pip install 'representation-geometry\[sae\]'"):
        train_saes(store, plan_training(store, [HOOK], **SMALL), tmp_path / "saes")
    assert not (tmp_path / "saes").exists()


def test_saes_made_by_other_versions_are_left_alone(store, tmp_path, monkeypatch):
    plan = plan_training(store, [HOOK], **SMALL)
    train_saes(store, plan, tmp_path / "saes")
    noted = json.loads((tmp_path / "saes" / "training.json").read_text())
    assert set(noted["versions"]) == {"sae-lens", "torch"}
    noted["versions"]["torch"] = "1.0"
    (tmp_path / "saes" / "training.json").write_text(json.dumps(noted))
    train_saes(store, plan, tmp_path / "saes", on_step=lambda *_: pytest.fail("trained again"))
