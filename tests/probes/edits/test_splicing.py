"""A reconstruction in the activations' place: a perfect one changes nothing; losses are those of plain hooks."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cache import Hook, load_dataset, task_table
from cache.errors import InputError
from cache.prompts.prompt import Prompts
from geometry.bases.basis import orthonormal_basis
from probes.edits.splicing import splice, splice_effects
from tests.probes.readings import rewritten

SITE = Hook("resid_post", 1)


@pytest.fixture(scope="module")
def few():
    return load_dataset("digits,numwords").subset(range(0, 60, 7))


def basis_of(k, site=SITE):
    """The first k of the model's 33 dimensions, turned."""
    axes = torch.linalg.qr(torch.randn(33, 33, generator=torch.Generator().manual_seed(0)))[0]
    return orthonormal_basis(axes[:k], 0.5 * torch.ones(33), site)


def by_hand(model, prompt, change=None):
    """The summed loss of a text, and the likeliest token after it, with a plain hook on all but BOS and the first."""
    ids = [model.tokenizer.bos_token_id, *model.tokenizer(prompt.text, add_special_tokens=False)["input_ids"]]
    tokens = torch.tensor([ids])

    def changed(output):
        new = output.clone()
        new[:, 2:] = change(output[:, 2:])
        return new

    with torch.inference_mode(), rewritten(model, SITE, changed if change else lambda output: output):
        logits = model.bridge.original_model(tokens, use_cache=False).logits[0]
    return float(cross_entropy(logits[:-1], tokens[0, 1:], reduction="sum")), int(logits[-1].argmax())


def test_losses_and_answers_are_those_of_plain_hooks(gpt2, few):
    basis = basis_of(20)
    found = splice_effects(gpt2, basis, few)
    changes = (None, lambda x: basis.decode(basis.encode(x)), torch.zeros_like)
    for number, change in enumerate(changes):
        for i, prompt in enumerate(few):
            loss, top = by_hand(gpt2, prompt, change)
            assert found.loss[number, i] == pytest.approx(loss, rel=1e-4)
            if number < 2:
                assert bool(found.right[number, i]) == (gpt2.tokenizer.decode([top]) == prompt.answer)
    assert np.ptp(found.loss.sum(axis=1)) > 1
    clean, spliced, zeros = found.loss.sum(axis=1)
    assert found.recovered() == pytest.approx((zeros - spliced) / (zeros - clean))


def test_without_the_reconstruction_answers_are_those_of_the_task_table(gpt2, few):
    answers = task_table(gpt2, few).answers
    right = np.full(len(few), np.nan)
    right[answers["prompt"]] = answers["correct"]
    np.testing.assert_array_equal(splice_effects(gpt2, basis_of(9), few).right[0], right)


def test_a_complete_basis_changes_nothing_and_recovers_all(gpt2, few):
    found = splice_effects(gpt2, basis_of(33), few)
    np.testing.assert_allclose(found.loss[1], found.loss[0], rtol=1e-3)
    np.testing.assert_array_equal(found.right[1], found.right[0])
    assert found.recovered() == pytest.approx(1, abs=1e-2)


def test_prompts_without_an_answer_have_a_loss_alone(gpt2):
    found = splice_effects(gpt2, basis_of(20), Prompts.from_texts(["1,2,3", "one,two"]))
    assert np.isnan(found.right).all()
    assert (found.loss > 0).all()
    assert len(found.n_tokens) == 2


def test_the_edit_is_of_the_whole_activation():
    basis, x = basis_of(5), torch.randn(4, 33, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(x + splice(basis).difference(x), basis.decode(basis.encode(x)))


def test_a_basis_of_no_site_or_one_that_cannot_be_edited_is_refused(gpt2, few):
    with pytest.raises(InputError, match="the basis of an edit must know its site"):
        splice_effects(gpt2, basis_of(5, None), few)
    with pytest.raises(InputError, match=r"blocks.1.attn.hook_q cannot be edited; sites that can are"):
        splice_effects(gpt2, basis_of(5, Hook("q", 1)), few)
