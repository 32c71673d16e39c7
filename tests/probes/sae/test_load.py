"""An SAE is matched to the store or model that it is used with, and one wrongly loaded does not go unnoticed."""

import warnings
from pathlib import Path

import pytest
import torch

from cache import Hook, plan_recording
from cache.errors import FingerprintError, InputError, NotAvailableError
from probes.sae.load import load_sae, load_transcoder
from tests.probes.sae.saved import SITE, perfect_tensors, random_tensors, save
from tests.probes.sweeps import small_store
from tests.recordings import recorded

D = 33


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("sae")) as store:
        yield store


def of_site(store, hook, width=12):
    """An SAE that explains a site of a store by its principal components, each with either sign, and its mean."""
    x = store.load(hook, "position >= 0")
    mean = x.mean(dim=0)
    axes = torch.linalg.svd(x - mean, full_matrices=False).Vh[:width]
    both = torch.cat([axes, -axes])
    return {"W_enc": both.T.contiguous(), "W_dec": both, "b_enc": torch.zeros(2 * width), "b_dec": mean}


def test_with_a_store_it_knows_its_site_and_its_model(store, tmp_path, gpt2):
    sae = load_sae(save(tmp_path), store=store)
    assert (sae.hook, sae.weights) == (SITE, gpt2.weights)
    assert (load_sae(tmp_path).hook, load_sae(tmp_path).weights) == (SITE, "")
    assert load_sae(tmp_path, model=gpt2).weights == gpt2.weights


def test_the_stream_between_blocks_has_two_names(store, tmp_path, gpt2):
    folder = save(tmp_path, site=Hook("resid_pre", 2))
    assert load_sae(folder).hook == Hook("resid_pre", 2)
    assert load_sae(folder, store=store).hook == SITE  # which this store has, and the other it has not
    assert load_sae(folder, model=gpt2).hook == Hook("resid_pre", 2)


def test_another_model_is_refused_by_both_names_and_another_name_may_be_said(store, tmp_path):
    folder = save(tmp_path, metadata={"model_name": "pythia-70m"})
    wrong = (
        rf"^{tmp_path} was trained on pythia-70m, and sweep.h5 is of \S+tiny-gpt2; if both names are the same model's"
    )
    with pytest.raises(InputError, match=wrong):
        load_sae(folder, store=store)
    assert load_sae(folder, store=store, called="pythia-70m").weights == store.weights
    for name in ("tiny-gpt2", "somewhere/Tiny-GPT2"):
        load_sae(save(tmp_path, metadata={"model_name": name}), store=store)


def test_noted_weights_say_more_than_a_name(store, gpt2, tmp_path):
    load_sae(save(tmp_path, metadata={"model_name": "other", "model_weights": gpt2.weights}), store=store)
    with pytest.raises(FingerprintError, match=r"was trained on other weights than those of sweep.h5 \(abcdef01 and "):
        load_sae(save(tmp_path, metadata={"model_weights": "abcdef0123"}), store=store)


def test_another_rule_for_bos_is_refused(store, tmp_path):
    with pytest.raises(InputError, match=rf"^sweep.h5 has BOS before every text, and {tmp_path} has not; both need"):
        load_sae(save(tmp_path, metadata={"prepend_bos": False}), store=store)
    load_sae(save(tmp_path, metadata={"prepend_bos": None}), store=store)


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("blocks.7.hook_resid_post", "is of blocks.7.hook_resid_post, and sweep.h5 has no such site"),
        ("blocks.1.hook_mlp_out", "is of blocks.1.hook_mlp_out, and sweep.h5 has no such site"),
        ("blocks.1.ln2.hook_normalized", "is of blocks.1.ln2.hook_normalized, and sweep.h5 has no such site"),
        (None, "is of no site that its files name, and sweep.h5 has no such site"),
    ],
)
def test_another_site_is_refused(site, said, store, tmp_path):
    folder = save(tmp_path, metadata={"hook_name": site})
    assert load_sae(folder).origin.site == (site or "")
    with pytest.raises(InputError, match=rf"^{tmp_path} {said}$"):
        load_sae(folder, store=store)


def test_another_width_is_refused(store, gpt2, tmp_path):
    folder = save(tmp_path, perfect_tensors(30))
    for where in ({"store": store}, {"model": gpt2}):
        with pytest.raises(InputError, match=r"has width 30, and blocks\.1\.hook_resid_post of \S+ has 33"):
            load_sae(folder, **where)


def test_heads_are_side_by_side_or_one(gpt2, tmp_path):
    with recorded(gpt2, plan_recording(gpt2, ["1,2,3", "one,two"], sites="z"), tmp_path / "z.h5") as store:
        whole = save(tmp_path / "whole", site=Hook("z", 1))
        assert load_sae(whole, store=store).hook == Hook("z", 1)
        one = save(tmp_path / "one", perfect_tensors(11), site=Hook("z", 1), metadata={"hook_head_index": 2})
        assert load_sae(one, store=store).hook == Hook("z", 1, head=2)
        assert load_sae(one, model=gpt2).hook == Hook("z", 1, head=2)


def test_activations_of_centred_weights_are_warned_of(store, tmp_path):
    folder = save(tmp_path, metadata={"model_from_pretrained_kwargs": {"center_writing_weights": True}})
    with pytest.warns(UserWarning, match=r"was trained where the model's writing weights were centred, and sweep.h5"):
        load_sae(folder, store=store)


def wrong_ways(store):
    """Tensors of an SAE that is right, and of the same wrongly loaded."""
    right = of_site(store, SITE)
    other = torch.randperm(len(right["W_dec"]), generator=torch.Generator().manual_seed(0))
    axes = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1)))[0].contiguous()
    square = {"W_enc": axes, "W_dec": axes.clone(), "b_enc": torch.full((D,), 100.0), "b_dec": -100 * axes.sum(dim=0)}
    return {
        "right": right,
        "permuted": right | {"W_dec": right["W_dec"][other]},
        "of random weights": random_tensors(D, 24),
        "without its mean": right | {"b_dec": 50 + torch.zeros(D)},
        "transposed": square,  # wide as its activations, so that its shapes tell nothing
    }


@pytest.mark.parametrize("name", ["permuted", "of random weights", "without its mean", "transposed"])
def test_a_wrongly_loaded_sae_is_warned_of(name, store, tmp_path):
    tensors = wrong_ways(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_sae(save(tmp_path / "right", tensors["right"]), store=store)
    said = r"explains -?\d+\.\d\d of the variance of blocks.1.hook_resid_post in sweep.h5; is it this model's, and of"
    with pytest.warns(UserWarning, match=said):
        load_sae(save(tmp_path / "wrong", tensors[name], apply_b_dec_to_input=name != "transposed"), store=store)


def test_an_sae_of_another_site_is_warned_of_even_where_it_explains_much(store, tmp_path):
    folder = save(tmp_path, of_site(store, Hook("resid_post", 2), width=20))
    said = (
        r"explains \S+ of the variance of blocks.1.hook_resid_post in sweep.h5, and \S+ of blocks.2.hook_resid_post: "
    )
    with pytest.warns(UserWarning, match=said):
        load_sae(folder, store=store)


def test_what_is_no_sae_is_told(tmp_path, store):
    with pytest.raises(
        InputError, match=r"^an SAE is a folder, a release of sae-lens's, or an SAE of its classes; got i"
    ):
        load_sae(3)
    with pytest.raises(InputError, match=r"is a folder with one SAE; an id such as 'a' names one of a release$"):
        load_sae(save(tmp_path), "a")
    for missing in ("/nowhere/at/all", Path("nowhere")):
        with pytest.raises(
            NotAvailableError, match=r"^no folder '\S*nowhere\S*'; an SAE's folder has cfg.json and sae_w"
        ):
            load_sae(missing)


def transcoder(folder, d_out=D, **metadata):
    tensors = random_tensors(D, 24) | {"W_dec": torch.randn(24, d_out), "b_dec": torch.zeros(d_out)}
    metadata = {"hook_name_out": "blocks.2.hook_resid_post", **metadata}
    return save(folder, tensors, "transcoder", d_out=d_out, apply_b_dec_to_input=False, metadata=metadata)


def test_transcoders_and_saes_are_not_mistaken_for_each_other(store, tmp_path):
    found = load_transcoder(transcoder(tmp_path / "t"), store=store)
    assert (found.reads, found.writes, found.weights) == (SITE, Hook("resid_post", 2), store.weights)
    with pytest.raises(InputError, match=r"is a transcoder, which reads one site and writes another; load_transcoder"):
        load_sae(tmp_path / "t", store=store)
    with pytest.raises(InputError, match=r"is an SAE, which reads and writes one site; load_sae"):
        load_transcoder(save(tmp_path / "s"))
    with pytest.raises(InputError, match=r"has width 7, and blocks\.2\.hook_resid_post of sweep.h5 has 33"):
        load_transcoder(transcoder(tmp_path / "t", 7), store=store)
