"""Copies of a run that are edited and restarted say what the whole model says under the same edits."""

import pytest
import torch

from cache import Hook
from cache.errors import InputError
from cache.models.restart import clean_run, first_block
from geometry.bases.principal import pca
from probes.edits.copies import edited_copies
from probes.edits.edit import addition, exchange, removal
from probes.edits.hooks import edited
from tests.probes.readings import random_direction, random_tokens, read

LAST = Hook("resid_post", 2)


def edits_at(model, hook, rows):
    one, other = (random_direction(model, hook, seed) for seed in (1, 2))
    basis = pca(rows, k=4).basis
    located = type(basis)(basis.offset, basis.directions, basis.readers, hook)
    return [addition(one, 2.0), removal(one), exchange(one, other), removal(located, [0, 2])]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("hook", [Hook("resid_pre", 0), Hook("resid_post", 1), LAST], ids=lambda hook: hook.name)
@pytest.mark.parametrize("positions", [[[7], [7]], [[2, 5], [4, 7]], [[0, 3], [1, 6]]], ids=str)
def test_hooks_and_restarts_give_the_same_for_every_edit(loaded, name, hook, positions):
    model = loaded[name]
    clean = clean_run(model, random_tokens(model))
    stream = clean.streams[first_block(hook)]
    tokens = torch.tensor(positions) + 1  # BOS
    slots = torch.arange(2)[:, None].expand_as(tokens), tokens
    edits = edits_at(model, hook, stream.flatten(0, 1).clone())
    change = torch.stack([edit.difference(stream[slots]) for edit in edits])
    found = edited_copies(clean, hook, slots, change)
    for copy, edit in zip(found, edits, strict=True):
        with edited(model, [edit], positions):
            run, _ = read(model, clean.tokens, [LAST])
        torch.testing.assert_close(copy, run[LAST][:, -1], rtol=0, atol=1e-5 * float(copy.abs().max()) + 1e-5)


def test_no_change_is_the_clean_run(gpt2):
    clean = clean_run(gpt2, random_tokens(gpt2))
    slots = torch.tensor([0, 1, 1]), torch.tensor([3, 2, 8])
    found = edited_copies(clean, Hook("resid_post", 0), slots, torch.zeros(2, 3, gpt2.d_model))
    for copy in found:
        torch.testing.assert_close(copy, clean.streams[-1, :, -1], rtol=0, atol=1e-4)


def test_only_the_stream_between_blocks_can_be_edited_in_copies(gpt2):
    clean = clean_run(gpt2, random_tokens(gpt2))
    with pytest.raises(InputError, match=r"resid_pre or resid_post; got blocks\.1\.hook_mlp_out"):
        edited_copies(clean, Hook("mlp_out", 1), (torch.tensor([0]), torch.tensor([3])), torch.zeros(1, 1, 33))
