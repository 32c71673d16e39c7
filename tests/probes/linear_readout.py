"""A model that is a linear readout, and families of unrelated codes: what p values must make nothing of.

Codes, contexts and noise of all families have one spectrum and turn slowly from layer to layer. A prompt's logits are
inner products with the receiver's true codes, so that what moves the answer is known.
"""

import numpy as np
import pandas as pd
import torch

from cache import Hook
from probes.directions.codes import IndexCodes
from probes.receivers.batches import ReceiverBatch
from probes.receivers.roles import Cast
from probes.transfer.erasure import Spaces, drawn_subspaces, erased_cells
from probes.transfer.erasure_table import erasure_lines, with_decisions
from probes.transfer.steps import edited_cells, steps_to
from probes.transfer.table import stacked, transfer_lines, transfer_table

KINDS = ("independent", "windowed", "walk", "line")
HOOK = Hook("resid_post", 0)


def mixing(kind, n_members):
    """How members are made of independent parts: (member, part)."""
    if kind == "independent":
        return np.eye(n_members)
    if kind == "windowed":
        return np.array([[1.0 * (i <= j < i + 3) for j in range(n_members + 2)] for i in range(n_members)])
    if kind == "walk":
        return np.tril(np.ones((n_members, n_members)))
    return np.column_stack([1.5 * np.linspace(-1, 1, n_members), 0.3 * np.eye(n_members)])


def chain(rng, shape, n_layers, steady=0.9):
    """Standard normal numbers at every layer, each as like the last as `steady` says."""
    made = [rng.normal(size=shape)]
    for _ in range(n_layers - 1):
        made.append(steady * made[-1] + np.sqrt(1 - steady**2) * rng.normal(size=shape))
    return made


def codes(rng, kind, n_members, n_layers, d=48, decay=0.25):
    """A family's true code at every layer, (member, d), members centred, of unit size on average."""
    spectrum = np.arange(1, d + 1) ** -decay
    parts = mixing(kind, n_members)
    made = [parts @ x * spectrum for x in chain(rng, (parts.shape[1], d), n_layers)]
    return [(one - one.mean(axis=0)) / np.linalg.norm(one - one.mean(axis=0)) * n_members**0.5 for one in made]


def family(rng, name, true, *, n_contexts=5, context=0.5, noise=0.5, decay=0.25):
    """Cells at every layer: the true code with a context's effect and noise, each of this size beside the code."""
    n_members, d = true[0].shape
    spectrum = np.arange(1, d + 1) ** -float(decay)
    spectrum /= np.linalg.norm(spectrum)
    contexts = chain(rng, (n_contexts, 1, d), len(true))
    cells = chain(rng, (n_contexts, n_members, d), len(true))
    labels = tuple(f"quote|{i}" for i in range(n_contexts))
    found = []
    for code, shift, away in zip(true, contexts, cells, strict=True):
        x = code + spectrum * (context * shift + noise * away)
        found.append(IndexCodes(name, labels, tuple(range(n_members)), torch.from_numpy(x)[:, :, None]))
    return found


class LinearBatch(ReceiverBatch):
    """Prompts of one receiver whose logits are inner products with its true codes."""

    def __init__(self, codes, true, numbers, members=None, sharpness=4.0):
        n_members = len(true)
        members = range(n_members) if members is None else members
        for name, value in {
            "x": codes.cells[list(numbers)][:, list(members)].flatten(0, 1),
            "weights": sharpness * torch.from_numpy(true),
            "contexts": tuple(codes.contexts[i] for i in numbers for _ in members),
            "members": tuple(members) * len(numbers),
            "answers": torch.arange(n_members).repeat(len(numbers) * len(members), 1),
            "own": torch.tensor(list(members)).repeat(len(numbers)),
        }.items():
            object.__setattr__(self, name, value)

    def said(self):
        logits = self.x[:, 0] @ self.weights.T
        return logits.argmax(dim=-1), logits.float()

    def at(self, hook, places):
        return self.x[:, list(places)]

    def edited(self, hook, places, change):
        logits = (self.x[:, 0] + change[:, :, 0]) @ self.weights.T
        return logits.argmax(dim=-1), logits.float()


def unrelated(seed, kind, n_members, n_layers, n_controls, d=48):
    """The true code of a receiver `r` at every layer; and cells of it, of an unrelated family `a` and of controls."""
    rng = np.random.default_rng([seed, n_members, n_layers])
    true = codes(rng, kind, n_members, n_layers, d)
    families = {"r": family(rng, "r", true)}
    for name in ("a", *(f"control:{i}" for i in range(n_controls))):
        families[name] = family(rng, name, codes(rng, kind, n_members, n_layers, d))
    return true, families


def cast_of(batches, donors, n_controls):
    """The receiver, its donors, and controls that nulls are drawn from, with the last token alone."""
    return Cast(
        {"r": tuple(batches)}, tuple(donors), {}, {"last": (0,)}, tuple(f"control:{i}" for i in range(n_controls))
    )


def erasures(seed, kind, n_members, n_layers, *, donors=("a",), n_null=19, n_controls=20):
    """The erasure table of a receiver `r` and an unrelated donor `a` of the same kind, over layers."""
    true, families = unrelated(seed, kind, n_members, n_layers, n_controls)
    lines, nulls, rank = [], [], min(4, n_members - 1)
    for layer in range(n_layers):
        at = {name: found[layer] for name, found in families.items()}
        batch = LinearBatch(at["r"], true[layer], (0, 1))
        drawn = drawn_subspaces(at, cast_of([batch], donors, n_controls), rank, n_null, seed)
        spaces = Spaces(at, donors, "r", HOOK, rank, drawn)
        cells = erased_cells(batch, (0,), spaces)
        found = erasure_lines(cells, "r", spaces.removed)
        lines += [{"hook": str(layer), "positions": "last"} | line for line, _ in found]
        nulls += [null for _, null in found]
    return with_decisions(pd.DataFrame(lines), stacked(nulls))


def transfers(seed, kind, n_members, n_layers, *, donors=("a",), n_null=19, n_controls=20):
    """The transfer table of a receiver `r` and an unrelated donor `a` of the same kind, over layers, in one context."""
    true, families = unrelated(seed, kind, n_members, n_layers, n_controls)
    counted = []
    for layer in range(n_layers):
        hook = Hook("resid_post", layer)
        at = {name: found[layer] for name, found in families.items()}
        batches = [LinearBatch(at["r"], true[layer], (0,), (member,)) for member in range(n_members)]
        steps = steps_to("r", at, cast_of(batches, donors, n_controls), n_null, at["r"].contexts[0], seed)
        edits = pd.concat([edited_cells(batch, hook, (0,), steps) for batch in batches])
        cells = edits.assign(positions="last", receiver="r")
        counted += transfer_lines(cells, hook)
    return transfer_table(counted)
