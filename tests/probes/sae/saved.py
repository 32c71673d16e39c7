"""SAEs as sae-lens saves them, written by hand: what most tests need, and no import of ten seconds."""

import json

import torch
from safetensors.torch import save_file

from cache import Hook
from probes.sae.basis import SAEBasis
from probes.sae.coding import Nonlinearity

SITE = Hook("resid_post", 1)


def random_tensors(d=33, width=99, seed=0, **more):
    """Tensors of a standard SAE, and others that are one number a feature."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "W_enc": torch.randn(d, width, generator=draw) / d**0.5,
        "W_dec": torch.randn(width, d, generator=draw) / width**0.5,
        "b_enc": torch.randn(width, generator=draw) * 0.3,
        "b_dec": torch.randn(d, generator=draw),
    }
    return tensors | {name: scale * torch.randn(width, generator=draw) for name, scale in more.items()}


def perfect_tensors(d=33):
    """Tensors of a standard SAE whose features are each dimension's positive and negative half."""
    eye = torch.eye(d)
    both = torch.cat([eye, -eye])
    return {"W_enc": both.T.contiguous(), "W_dec": both, "b_enc": torch.zeros(2 * d), "b_dec": torch.zeros(d)}


def halves(d, kept=None, scale=None):
    """An SAE of each dimension's positive and negative half that loses nothing, or all but some dimensions.

    `scale` is how long each feature's direction is.
    """
    kept = range(d) if kept is None else kept
    rows = [*kept, *(d + i for i in kept)]
    directions = perfect_tensors(d)["W_dec"][rows]
    scale = torch.ones(len(rows), 1) if scale is None else scale[:, None]
    encoder, zeros = (directions / scale).T.contiguous(), torch.zeros(d)
    return SAEBasis(encoder, torch.zeros(len(rows)), zeros, directions * scale, zeros, Nonlinearity("relu"), hook=SITE)


def config_of(tensors, architecture="standard", site=SITE, **more):
    """A configuration of sae-lens 6; what is None is left out, of its metadata too."""
    metadata = {"sae_lens_version": "6.54.12", "hook_name": site.name, "prepend_bos": True} | more.pop("metadata", {})
    config = {
        "d_in": len(tensors["W_enc"]),
        "d_sae": len(tensors["W_dec"]),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {name: value for name, value in metadata.items() if value is not None},
        "architecture": architecture,
    }
    return {name: value for name, value in (config | more).items() if value is not None}


def save(folder, tensors=None, architecture="standard", **config):
    """A folder with an SAE: that of `perfect_tensors` unless others are given."""
    tensors = perfect_tensors() if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config_of(tensors, architecture, **config)))
    return folder
