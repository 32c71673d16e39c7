"""What the tests of extraction share: SAEs of every form at one site, and a store cut into several blocks."""

from dataclasses import replace

import torch

from probes.sae.basis import Origin, SAEBasis
from probes.sae_features import plan as planning
from tests.probes.sae.saved import SITE, random_tensors
from tests.probes.sae.test_basis import NONLINEARITIES, WIDTH, D

FORMS = tuple(NONLINEARITIES)


def sae_of(name, store, seed=0):
    """A random SAE of one form, matched to the store."""
    w = random_tensors(D, WIDTH, seed)
    weights = w["W_enc"], w["b_enc"], w["b_dec"], w["W_dec"], w["b_dec"]
    origin = Origin("random", name, model="tiny", site=SITE.name, bos=True)
    return SAEBasis(*weights, NONLINEARITIES[name], origin, hook=SITE, weights=store.weights)


def silent(store):
    """An SAE of which no feature is ever active."""
    sae = sae_of("relu", store)
    return replace(sae, bias=torch.full_like(sae.bias, -1e6))


def small_blocks(monkeypatch, n_rows=40):
    """So many rows a block, where the store's rows would be one."""
    monkeypatch.setattr(planning, "_AT_ONCE", n_rows * WIDTH)


def encoded(sae, store, n_rows=None, where=None):
    """All features' values, read in the same blocks."""
    x = store.load(sae.hook, where)
    return torch.cat([sae.encode(part) for part in x.split(n_rows or len(x))])
