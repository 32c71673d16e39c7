"""A curve trains every combination once, measures all on the same rows, and goes on where it was stopped."""

import pandas as pd
import pytest

from cache.errors import InputError, StoppedError
from probes.sae_curve.curve import Curve, training_curve
from probes.sae_training.plan import plan_training
from probes.sae_training.train import train_saes
from tests.probes.sae_training.stores import HOOK, make_store

VARIED = Curve(tokens=(120, None), widths=(16, 32), sequences=(0.25,))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store, _ = make_store(tmp_path_factory.mktemp("curve") / "store.h5")
    with store:
        yield store


def plan_of(store, **more):
    return plan_training(store, [HOOK], **{"k": 3, "steps": 4, "batch_size": 32, "frames": ("lines",)} | more)


def test_every_combination_is_trained_and_measured_on_the_same_rows(store, tmp_path):
    seen = []
    table = training_curve(store, plan_of(store), VARIED, tmp_path, on_step=lambda *told: seen.append(told[:2]))
    assert seen == [(point, step) for point in range(4) for step in range(1, 5)]
    assert len(table) == 4 * 3
    assert (table.groupby("part")["n_rows"].nunique() == 1).all()
    assert sorted(table["width"].unique()) == [16, 32]
    assert table["tokens"].nunique() == 2
    assert table["tokens"].min() <= 120
    assert (table["seconds"] > 0).all()
    assert pd.read_csv(tmp_path / "curve.csv")["index_variance"].isna().all()  # these prompts show no members
    alone = train_saes(store, plan_of(store, width=32, tokens=120, sequences=0.25), tmp_path / "alone")[0]
    same = tmp_path / "width-32_sequences-0.25_tokens-120" / alone.relative_to(tmp_path / "alone")
    assert (alone / "sae_weights.safetensors").read_bytes() == (same / "sae_weights.safetensors").read_bytes()


def test_a_stopped_curve_goes_on_and_what_is_done_is_kept(store, tmp_path):
    seen = []

    def stop():
        return len(seen) == 6

    def noted(*told):
        seen.append(told[:2])

    with pytest.raises(StoppedError):
        training_curve(store, plan_of(store), VARIED, tmp_path, on_step=noted, should_stop=stop)
    training_curve(store, plan_of(store), VARIED, tmp_path, on_step=noted)
    assert seen == [(point, step) for point in range(4) for step in range(1, 5)]


def test_what_cannot_be_varied_or_measured_is_told_before_anything_is_trained(store, tmp_path):
    with pytest.raises(InputError, match="one of them names none"):
        training_curve(store, plan_of(store), Curve(widths=()), tmp_path)
    with pytest.raises(InputError, match="k is at most the width, 2; got 3"):
        training_curve(store, plan_of(store), Curve(widths=(2, 64)), tmp_path)
    with pytest.raises(InputError, match="nothing is left out to measure SAEs on"):
        training_curve(store, plan_of(store, frames=(), documents=0, templates=0), Curve(widths=(16,)), tmp_path / "a")
    assert not any(path.name.startswith("width-2_") for path in tmp_path.iterdir())
