"""An SAE's quality on a store, set by set, against plain formulas; and what it is warned of."""

import warnings

import numpy as np
import pytest
import torch

from cache import Hook, load_dataset, plan_recording
from cache.errors import FingerprintError, InputError
from probes.sae.load import load_sae, load_transcoder
from probes.sae.quality import ALL, CONTROLS, sae_quality
from tests.probes.sae.saved import SITE, perfect_tensors, save
from tests.probes.sae_training.stores import make_store as planted_store
from tests.probes.sweeps import small_store
from tests.recordings import recorded

MEASURED = ["explained_variance", "without_largest", "median_dimension", "l0", "dead"]


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("quality")) as store:
        yield store


def of_site(store, width, hook=SITE):
    x = store.load(hook, "position > 0")
    axes = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False).Vh[:width]
    both = torch.cat([axes, -axes])
    return {"W_enc": both.T.contiguous(), "W_dec": both, "b_enc": torch.zeros(2 * width), "b_dec": x.mean(dim=0)}


@pytest.fixture
def half(store, tmp_path):
    """An SAE of the first principal components."""
    return load_sae(save(tmp_path / "half", of_site(store, 8)), store=store)


def test_the_table_is_what_plain_formulas_give(store, half):
    table = sae_quality(half, store).table.set_index("set")
    assert list(table.index) == [*store.families, CONTROLS, ALL]
    for name in table.index:
        mine = "family.str.startswith('control:')" if name == CONTROLS else f"family == {name!r}"
        where = "position > 0" + ("" if name == ALL else f" and {mine}")
        x = store.load(SITE, where).double()
        features = half.encode(x)
        error = (x - half.decode(features)).square()
        spread = (x - x.mean(dim=0)).square()
        rest = spread.sum(dim=0).argsort()[:-3]
        share = {
            "explained_variance": 1 - error.sum() / spread.sum(),
            "without_largest": 1 - error[:, rest].sum() / spread[:, rest].sum(),
            "median_dimension": (1 - error.sum(dim=0) / spread.sum(dim=0)).median(),
            "l0": (features != 0).sum(dim=1).double().mean(),
            "dead": (~(features != 0).any(dim=0)).double().mean(),
        }
        assert table.loc[name, "n_rows"] == len(x)
        for column in MEASURED:
            assert table.loc[name, column] == pytest.approx(float(share[column]), abs=1e-4), (name, column)


def test_blocks_of_rows_give_the_same(store, half, monkeypatch):
    whole = sae_quality(half, store).table
    monkeypatch.setattr("probes.sae.quality._AT_ONCE", 16 * 20)
    np.testing.assert_allclose(sae_quality(half, store).table[MEASURED], whole[MEASURED], rtol=1e-6)


def test_rows_and_sets_are_chosen(store, half):
    chosen = sae_quality(half, store, "is_last and family == 'digits'", by="frame").table
    assert chosen["set"].tolist() == ["quote", "list", ALL]
    frames = store.select("is_last and family == 'digits'")["frame"]
    assert chosen["n_rows"].tolist() == [*(sum(frames == one) for one in ("quote", "list")), len(frames)]
    with pytest.raises(InputError, match=r"^by is a column of prompts \(.*family, .*\); got 'colour'$"):
        sae_quality(half, store, by="colour")
    with pytest.raises(InputError, match=r"^no row is chosen to see how an SAE does on it$"):
        sae_quality(half, store, "position < 0")
    with pytest.raises(InputError, match=r"^n_prompts must be 1 or more and floor a number of at most 1; got 0 "):
        sae_quality(half, store, n_prompts=0)


def test_with_the_model_a_complete_sae_costs_nothing_and_half_of_one_something(store, gpt2, half, tmp_path):
    whole = load_sae(save(tmp_path / "whole"), store=store)
    table = sae_quality(whole, store, model=gpt2, n_prompts=30).table
    assert table["n_prompts"].tolist() == [10, 10, 10, 0, 30]
    table = table[table["n_prompts"] > 0]
    np.testing.assert_allclose(table["spliced_loss"], table["loss"], rtol=1e-3)
    np.testing.assert_allclose(table["loss_recovered"], 1, atol=1e-2)
    np.testing.assert_array_equal(table["spliced_accuracy"], table["accuracy"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        less = sae_quality(half, store, model=gpt2, n_prompts=30).table
    assert (less["spliced_loss"] - less["loss"]).abs().min() > 1e-3
    assert less.loc[less["set"] == CONTROLS, ["accuracy", "loss", "loss_recovered"]].isna().all(axis=None)


def test_what_is_below_the_floor_is_warned_of_and_kept(store, half):
    said = r"explains 0\.\d\d of the variance of blocks.1.hook_resid_post, less than 0.999: is it this model's, and of"
    with pytest.warns(UserWarning, match=said):
        quality = sae_quality(half, store, floor=0.999)
    assert len(quality.faults) == 1
    assert sae_quality(half, store).faults == ()


def test_a_task_that_is_lost_is_warned_of(store, half, gpt2, monkeypatch):
    from probes.edits.splicing import Spliced

    def lost(model, basis, prompts):
        n = len(prompts)
        right = np.stack([np.ones(n), np.arange(n) % 4 == 0])
        return Spliced(np.full(n, 5), np.ones((3, n)), right)

    monkeypatch.setattr("probes.sae.quality.splice_effects", lost)
    said = r"in its place the model continues 0\.2\d of prompts rightly, and 1.00 without: less than 0.5 of it"
    with pytest.warns(UserWarning, match=said):
        sae_quality(half, store, model=gpt2)


def test_prompts_without_families_are_sets_by_their_group_or_one(gpt2, tmp_path):
    lines = [{"text": f"{i % 10},{i % 7}", "group": "ab"[i % 2]} for i in range(20)]
    for prompts, sets in (
        (load_dataset(lines), ["a", "b", ALL]),
        (load_dataset([{"text": "1,2"}, {"text": "3,4"}]), [ALL]),
    ):
        with recorded(gpt2, plan_recording(gpt2, prompts, sites="resid"), tmp_path / f"{len(sets)}.h5") as store:
            sae = load_sae(save(tmp_path / "sae"), store=store)
            table = sae_quality(sae, store, model=gpt2).table
            assert table["set"].tolist() == sets
            assert table["accuracy"].isna().all()


def test_another_model_or_a_transcoder_is_refused_where_the_model_is_asked(store, half, loaded, gpt2, tmp_path):
    with pytest.raises(FingerprintError, match="comes from other weights than"):
        sae_quality(half, store, model=loaded["llama"])
    eye = perfect_tensors()
    folder = save(
        tmp_path / "t",
        eye,
        "transcoder",
        d_out=33,
        apply_b_dec_to_input=False,
        metadata={"hook_name_out": Hook("resid_post", 2).name},
    )
    both = load_transcoder(folder, store=store)
    with pytest.raises(InputError, match="is a transcoder, whose reconstruction is of another site; leave model out"):
        sae_quality(both, store, model=gpt2, floor=-9)
    x, y = store.load(SITE, "position > 0"), store.load(Hook("resid_post", 2), "position > 0")
    found = sae_quality(both, store, floor=-99).table["explained_variance"].iloc[-1]
    assert found == pytest.approx(float(1 - (y - x).square().sum() / (y - y.mean(dim=0)).square().sum()), abs=1e-4)


def test_rows_without_a_family_are_a_set_beside_families(tmp_path):
    store, _ = planted_store(tmp_path / "store.h5")
    with store:
        sae = load_sae(save(tmp_path / "half", of_site(store, 12), metadata={"prepend_bos": None}), store=store)
        table = sae_quality(sae, store).table.set_index("set")
        assert list(table.index) == ["own", "digits", ALL]
        assert table.loc[ALL, "n_rows"] == table.loc[["own", "digits"], "n_rows"].sum()
