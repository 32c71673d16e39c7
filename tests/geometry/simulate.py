"""Simulated families: activations of which it is known what is shared, what is private and how large each is."""

import numpy as np
import torch


def orthonormal(rng, k, d):
    """k orthonormal rows of width d."""
    return np.linalg.qr(rng.normal(size=(d, k)))[0].T


def turned(rng, directions, cosine):
    """Orthonormal rows, each at this cosine to the row it comes from and orthogonal to all the others."""
    k, d = directions.shape
    away = orthonormal(rng, 2 * k, d)
    away -= away @ directions.T @ directions
    away = np.linalg.qr(away.T)[0].T[:k]
    return cosine * directions + np.sqrt(1 - cosine**2) * away


def families(
    *,
    cosine=1.0,
    n_families=2,
    n_contexts=8,
    n_members=9,
    d=64,
    rank=3,
    index=1.0,
    family=1.0,
    context=1.0,
    noise=0.3,
    sizes=None,
    seed=0,
):
    """Cells (family, context, member, d): index code + family mean + context effect + noise.

    The first family writes a member's code along `rank` orthonormal directions; every other writes the same code along
    directions at `cosine` to them: 1 shares the code, 0 has one of its own. Squared norms, in expectation: index of
    the code (exactly, averaged over members), family of each family's mean, context of each context's effect (the same
    in all families), noise of each cell.
    """
    rng = np.random.default_rng([seed, 7])
    code = rng.normal(size=(n_members, rank))
    code -= code.mean(axis=0)
    code *= np.sqrt(index * n_members / np.square(code).sum())
    first = orthonormal(rng, rank, d)
    spans = [first] + [turned(rng, first, cosine) for _ in range(n_families - 1)]
    sizes = [1.0] * n_families if sizes is None else sizes
    index_part = np.stack([size * code @ span for size, span in zip(sizes, spans, strict=True)])[:, None]
    family_part = rng.normal(size=(n_families, 1, 1, d)) * np.sqrt(family / d)
    context_part = rng.normal(size=(1, n_contexts, 1, d)) * np.sqrt(context / d)
    cells = rng.normal(size=(n_families, n_contexts, n_members, d)) * np.sqrt(noise / d)
    return torch.from_numpy((cells + index_part + family_part + context_part).astype(np.float32))


def windows(n_families, *, n_contexts=8, n_members=9, d=64, width=4, noise=0.05, seed=0):
    """Families of unrelated words seen through overlapping windows: member i is the mean of words i to i + width - 1.

    Neighbouring members resemble each other in every family, and no word of one family means anything in another.
    """
    rng = np.random.default_rng([seed, 11])
    words = rng.normal(size=(n_families, n_members + width - 1, d)) / np.sqrt(d)
    shown = np.stack([words[:, i : i + width].mean(axis=1) for i in range(n_members)], axis=1)
    contexts = rng.normal(size=(n_families, n_contexts, 1, d)) / np.sqrt(d)
    cells = rng.normal(size=(n_families, n_contexts, n_members, d)) * np.sqrt(noise / d)
    return torch.from_numpy((shown[:, None] + contexts + cells).astype(np.float32))
