"""Simulated families of known relation, with the member structure, noise and spectrum of SmolLM2's codes.

Codes live in an eigenspectrum of about 24 effective dimensions (measured over SmolLM2's layers: 8 to 40, most 20 to 30)
and turn slowly from layer to layer; contexts add noise of the same spectrum.
"""

import numpy as np
import torch

KINDS = ("independent", "windowed", "walk", "line")
WIDTH = 200
SPECTRUM = np.arange(1, WIDTH + 1) ** -0.5
SPECTRUM = SPECTRUM / np.sqrt(np.square(SPECTRUM).mean())


def mixing(kind, n_members):
    """How members are made of independent parts: (member, part)."""
    if kind == "independent":
        return np.eye(n_members)
    if kind == "windowed":
        return np.array([[1.0 * (i <= j < i + 3) for j in range(n_members + 2)] for i in range(n_members)])
    if kind == "walk":
        return np.tril(np.ones((n_members, n_members)))
    return np.column_stack([1.5 * np.linspace(-1, 1, n_members), 0.3 * np.eye(n_members)])


def codes(rng, kind, n_members, n_layers, steady=0.9):
    """A family's code at every layer, (layer, member, d), members centred."""
    parts = mixing(kind, n_members)
    made, x = [], rng.normal(size=(parts.shape[1], WIDTH))
    for _ in range(n_layers):
        made.append(parts @ x * SPECTRUM)
        x = steady * x + np.sqrt(1 - steady**2) * rng.normal(size=x.shape)
    made = np.stack(made)
    return made - made.mean(axis=1, keepdims=True)


def cells(rng, layers, *, n_contexts=8, noise=1.0):
    """Cells (context, member, d) at every layer: the code with noise that is `noise` times as large in each context."""
    found = []
    for code in layers:
        size = np.sqrt(np.square(code).sum(axis=1).mean() / WIDTH)
        added = noise * size * rng.normal(size=(n_contexts, *code.shape)) * SPECTRUM
        found.append(torch.from_numpy(code + added))
    return found


def mixed(rng, x, kind, cosine):
    """Codes at a true cosine to given ones: the rest is unrelated, of the same structure."""
    return cosine * x + np.sqrt(1 - cosine**2) * codes(rng, kind, x.shape[1], len(x))
