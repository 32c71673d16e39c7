"""What is made of saved weights reads and writes as sae-lens does, whatever architecture and version saved them."""

import json
import warnings

import pytest
import torch
from safetensors.torch import save_file

from cache.errors import InputError
from cache.models.hooks import Hook
from geometry.bases.reconstruction import Reconstruction, explained_variance
from probes.sae.load import load_sae, load_transcoder

D, WIDTH, K = 12, 30, 5
BY_NORM = {"k": K, "rescale_acts_by_decoder_norm": True}
MADE = {
    "standard": ("StandardSAE", {}),
    "gated": ("GatedSAE", {}),
    "jumprelu": ("JumpReLUSAE", {}),
    "topk": ("TopKSAE", {"k": K}),
    "topk by norm": ("TopKSAE", BY_NORM),
    "abstopk": ("AbsTopKSAE", {"k": K}),
    "abstopk by norm": ("AbsTopKSAE", BY_NORM),
}
TRAINED = {
    "standard": ("StandardTrainingSAE", {}),
    "gated": ("GatedTrainingSAE", {}),
    "jumprelu": ("JumpReLUTrainingSAE", {}),
    "topk": ("TopKTrainingSAE", {"k": K}),
    "abstopk": ("AbsTopKTrainingSAE", {"k": K}),
    "batchtopk": ("BatchTopKTrainingSAE", {"k": K}),
    "matryoshka": ("MatryoshkaBatchTopKTrainingSAE", {"k": K, "matryoshka_widths": [10, WIDTH]}),
}
TRANSCODERS = ("Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder")
NEGATIVE = ("abstopk", "abstopk by norm")
close = torch.testing.assert_close


@pytest.fixture(scope="module", autouse=True)
def sae_lens():
    """Imported once, by the one process that runs this file: it takes ten seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sae_lens
    return sae_lens


def rows(n=200):
    return 2 * torch.randn(n, D, generator=torch.Generator().manual_seed(3)) + 1


def made(name, **options):
    """One of sae-lens's, all its weights drawn, thresholds of either sign among them."""
    import sae_lens
    from sae_lens.saes.sae import SAEMetadata

    make, config = getattr(sae_lens, name), getattr(sae_lens, f"{name}Config")
    metadata = SAEMetadata(model_name="gpt2", hook_name="blocks.1.hook_resid_post", prepend_bos=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = make(config(d_in=D, d_sae=WIDTH, metadata=metadata, **options))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw))
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.7)
    return sae.eval()


def agree(ours, theirs, x):
    """Encode, decode of values that are not theirs, and reconstruction, to 1e-5."""
    with torch.no_grad():
        features = theirs.encode(x)
        others = features.roll(1, dims=-1) * 1.5
        close(ours.encode(x), features, rtol=1e-5, atol=1e-5)
        close(ours.decode(others), theirs.decode(others), rtol=1e-5, atol=1e-5)
        close(ours.decode(ours.encode(x)), theirs(x), rtol=1e-5, atol=1e-5)
    assert 0 < (features != 0).double().mean() < 1


@pytest.mark.parametrize("takes_off", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_every_architecture_reads_and_writes_as_sae_lens_does(sae_lens, name, takes_off, tmp_path):
    kind, options = MADE[name]
    made(kind, apply_b_dec_to_input=takes_off, **options).save_model(tmp_path)
    again = sae_lens.SAE.load_from_disk(tmp_path)
    ours = load_sae(tmp_path)
    x = rows()
    if options.get("rescale_acts_by_decoder_norm"):  # the directions are then unit vectors
        close(ours.directions.norm(dim=1), torch.ones(WIDTH))
        again.fold_W_dec_norm()
        again.cfg.rescale_acts_by_decoder_norm = False
    agree(ours, again, x)
    assert bool((ours.encode(x) < 0).any()) == (name in NEGATIVE)
    assert (ours.hook, ours.origin.model, ours.origin.bos) == (Hook("resid_post", 1), "gpt2", True)
    agree(load_sae(again), again, x)  # from memory


@pytest.mark.parametrize("name", ["topk by norm", "abstopk by norm"])
def test_what_is_folded_by_decoder_norms_has_the_values_of_what_is_not(name):
    kind, options = MADE[name]
    theirs = made(kind, **options)
    with torch.no_grad():
        close(load_sae(theirs).encode(rows()), theirs.encode(rows()), rtol=1e-5, atol=1e-5)
        close(load_sae(theirs).decode(theirs.encode(rows())), theirs(rows()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("takes_off", [True, False])
@pytest.mark.parametrize("name", TRAINED)
def test_a_checkpoint_of_training_is_what_is_saved_when_it_ends(sae_lens, name, takes_off, tmp_path):
    kind, options = TRAINED[name]
    theirs = made(kind, apply_b_dec_to_input=takes_off, **options)
    theirs.save_model(tmp_path / "checkpoint")
    theirs.save_inference_model(tmp_path / "end")  # which folds decoder norms into theirs too
    at_the_end = sae_lens.SAE.load_from_disk(tmp_path / "end")
    for folder in ("checkpoint", "end"):
        agree(load_sae(tmp_path / folder), at_the_end, rows())
    if name in ("batchtopk", "matryoshka"):
        assert load_sae(tmp_path / "checkpoint").nonlinearity.name == "jumprelu"


@pytest.mark.parametrize("name", ["standard", "batchtopk", "topk", "gated", "jumprelu"])
@pytest.mark.parametrize("takes_off", [True, False])
def test_a_scale_of_activations_beside_a_checkpoint_is_folded_in(sae_lens, name, takes_off, tmp_path):
    kind, options = TRAINED[name]
    theirs = made(kind, apply_b_dec_to_input=takes_off, normalize_activations="expected_average_only_in", **options)
    theirs.save_model(tmp_path)
    with pytest.raises(InputError, match=r"scaled to an average norm, and its files do not tell by what; save it with"):
        load_sae(tmp_path)
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.37, "has_whitening": False}))
    theirs.fold_activation_norm_scaling_factor(0.37)
    theirs.save_inference_model(tmp_path / "end")
    agree(load_sae(tmp_path), sae_lens.SAE.load_from_disk(tmp_path / "end"), rows())


@pytest.mark.parametrize("name", ["standard", "batchtopk", "topk", "gated", "jumprelu"])
@pytest.mark.parametrize("takes_off", [True, False])
def test_a_whitening_beside_a_checkpoint_is_folded_in(sae_lens, name, takes_off, tmp_path):
    kind, options = TRAINED[name]
    theirs = made(kind, apply_b_dec_to_input=takes_off, normalize_activations="covariance_whitening", **options)
    theirs.save_model(tmp_path)
    with pytest.raises(InputError, match=r"was trained on whitened activations, and its files do not tell how; save"):
        load_sae(tmp_path)
    draw = torch.Generator().manual_seed(9)
    matrix = torch.eye(D, dtype=torch.float64) + 0.2 * torch.randn(D, D, generator=draw, dtype=torch.float64)
    mean = torch.randn(D, generator=draw, dtype=torch.float64)
    whitening = {"mean": mean, "matrix": matrix, "inverse_matrix": torch.linalg.inv(matrix).contiguous()}
    save_file(whitening, tmp_path / "activation_whitening.safetensors")
    theirs.fold_activation_whitening(*whitening.values())
    theirs.save_inference_model(tmp_path / "end")
    agree(load_sae(tmp_path), sae_lens.SAE.load_from_disk(tmp_path / "end"), rows())


@pytest.mark.parametrize("name", TRANSCODERS)
def test_a_transcoder_reads_one_site_and_writes_another(sae_lens, name, tmp_path):
    theirs = made(name, d_out=7, apply_b_dec_to_input=False)
    theirs.cfg.metadata.hook_name_out = "blocks.1.hook_mlp_out"
    theirs.save_model(tmp_path)
    again, ours, x = sae_lens.SAE.load_from_disk(tmp_path), load_transcoder(tmp_path), rows()
    with torch.no_grad():
        close(ours.encode(x), again.encode(x), rtol=1e-5, atol=1e-5)
        close(ours.decode(again.encode(x)), again.decode(again.encode(x)), rtol=1e-5, atol=1e-5)
        close(ours.reconstruct(x), again(x), rtol=1e-5, atol=1e-5)
    assert (ours.reads, ours.writes) == (Hook("resid_post", 1), Hook("mlp_out", 1))


@pytest.mark.parametrize("more", [{}, {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}])
def test_configurations_before_version_6_are_read(sae_lens, more, tmp_path):
    sae = made("StandardSAE")
    sae.save_model(tmp_path)
    former = {"d_in": D, "d_sae": WIDTH, "dtype": "torch.float32", "device": "cpu", "model_name": "gpt2-small"}
    former |= {"hook_point": "blocks.1.hook_resid_pre", "hook_point_layer": 1, "normalize_activations": False}
    former |= {"finetuning_scaling_factor": False, "prepend_bos": False}
    (tmp_path / "cfg.json").write_text(json.dumps(former | more))
    weights = {name: one.detach() for name, one in sae.state_dict().items()}
    save_file(weights | {"scaling_factor": torch.ones(WIDTH)}, tmp_path / "sae_weights.safetensors")
    ours, again = load_sae(tmp_path), sae_lens.SAE.load_from_disk(tmp_path)
    agree(ours, again, rows())
    assert (ours.hook, ours.origin.model, ours.origin.bos) == (Hook("resid_pre", 1), "gpt2-small", False)
    save_file(weights | {"scaling_factor": torch.full((WIDTH,), 1.5)}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(InputError, match=r"scales features after training \(scaling_factor\), which is not read"):
        load_sae(tmp_path)


def test_explained_variance_is_that_of_sae_lens():
    from sae_lens.evals import ExplainedVarianceCalculator

    x = rows() * torch.logspace(-1, 2, D) + 1000
    reconstructed = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(8))
    theirs, ours = ExplainedVarianceCalculator(), Reconstruction.empty(x[:7].mean(dim=0), 0)
    for part in (slice(0, 7), slice(7, 120), slice(120, 200)):
        theirs.add_batch(reconstructed[part], x[part])
        ours.add(x[part], reconstructed[part], x[part, :0])
    assert ours.said()["explained_variance"] == pytest.approx(theirs.compute(), abs=1e-5)
    assert explained_variance(x, reconstructed) == pytest.approx(theirs.compute(), abs=1e-5)


def test_what_keeps_state_or_is_not_read_row_by_row_is_refused():
    for norm in ("layer_norm", "constant_norm_rescale"):
        sae = made("StandardSAE", normalize_activations=norm)
        with pytest.raises(InputError, match=rf"^this StandardSAE normalises activations by {norm}, which is not read"):
            load_sae(sae)
        with pytest.raises(InputError, match=rf"normalises activations by {norm}, which of transcoders is not read"):
            load_transcoder(made("Transcoder", d_out=D, apply_b_dec_to_input=False, normalize_activations=norm))
    with pytest.raises(InputError, match=r"is a matching_pursuit SAE, which is not read: it reads by iteration"):
        load_sae(made("MatchingPursuitSAE"))
    sae = made("StandardSAE")
    sae.cfg.to_dict = lambda: {"architecture": "temporal", "metadata": {"sae_lens_version": "6.54.12"}}
    with pytest.raises(InputError, match=r"is a temporal SAE, which is not read: it reads each token together with"):
        load_sae(sae)
