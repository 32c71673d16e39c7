"""Readout directions: a residual stream moved beside them says the same of their words; and which words there are."""

import numpy as np
import pytest
import torch
from transformers import GemmaConfig, GemmaForCausalLM

from cache import Prompts, load_dataset, load_model, plan_recording
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompt
from cache.prompts.sequences import SequenceDesign
from geometry.stats.linalg import remove_span
from geometry.weights.readout import family_words, readout_directions, readout_map
from tests.recordings import recorded

MODELS = pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
WORDS = ["March", "April", "3", "seven"]
NORMS = {"gpt2": "transformer.ln_f", "llama": "model.norm", "neox": "gpt_neox.final_layer_norm"}


def head_of(model, name):
    """The model's own final norm and unembedding."""
    hf = model.bridge.original_model
    return hf.get_submodule(NORMS[name]), hf.get_output_embeddings()


def tokens_of(model, words):
    return sorted({model.tokenizer.encode(form)[0] for word in words for form in (word, " " + word)})


def scores_of(model, name, x, tokens):
    """Logits less what the norm's bias gives each token, times the scale that the norm divided by."""
    norm, unembedding = head_of(model, name)
    with torch.no_grad():
        logits = unembedding(norm(x))[:, tokens].double()
        bias = getattr(norm, "bias", None)
        if bias is None:
            return logits * x.double().square().mean(dim=1, keepdim=True).sqrt()
        return (logits - (unembedding.weight @ bias)[tokens]) * x.double().std(dim=1, keepdim=True, correction=0)


@MODELS
def test_what_lies_beside_the_directions_says_nothing_of_the_words(loaded, name):
    model = loaded[name]
    directions = readout_directions(model, WORDS)
    tokens = tokens_of(model, WORDS)
    assert directions.shape == (8, model.d_model) == (len(tokens), directions.shape[1])
    rng = np.random.default_rng(0)
    x = torch.from_numpy(10 * rng.normal(size=(5, directions.shape[1]))).float()
    step = torch.from_numpy(remove_span(10 * rng.normal(size=x.shape), directions.numpy())).float()
    before, after = (scores_of(model, name, z, tokens) for z in (x, x + step))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-2)
    others = [token for token in range(100, 400) if token not in tokens]
    moved = scores_of(model, name, x + step, others) - scores_of(model, name, x, others)
    assert moved.abs().mean() > 1


@MODELS
def test_a_step_along_a_direction_moves_its_own_word_by_the_directions_products(loaded, name):
    model = loaded[name]
    directions, tokens = readout_directions(model, WORDS), tokens_of(model, WORDS)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(8, directions.shape[1]))).float()
    moved = scores_of(model, name, x + directions, tokens) - scores_of(model, name, x, tokens)
    torch.testing.assert_close(moved.float(), directions @ directions.T, rtol=1e-3, atol=2e-2)


@MODELS
def test_a_norm_that_takes_the_mean_away_leaves_no_direction_along_it(loaded, name):
    sums = readout_directions(loaded[name], WORDS).sum(dim=1).abs()
    assert (sums.max() < 1e-4) == (name != "llama")


def test_a_word_counts_in_each_form_that_is_one_token_and_once(gpt2):
    one = readout_directions(gpt2, ["March"])
    assert one.shape == (2, 33)
    assert not torch.allclose(one[0], one[1])
    torch.testing.assert_close(readout_directions(gpt2, ["March", "March", "unheard-of words"]), one)
    torch.testing.assert_close(
        readout_directions(gpt2, [" March"]),
        one[[gpt2.tokenizer.encode(" March")[0] == token for token in tokens_of(gpt2, ["March"])]],
    )


def test_words_of_many_tokens_have_no_direction(gpt2):
    assert readout_directions(gpt2, ["unheard-of", "words unknown", "unheard-of"]).shape == (0, 33)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readout")


def stored(model, prompts, path):
    return recorded(model, plan_recording(model, prompts, sites="resid_post", layers="0", positions="last"), path)


def test_members_shown_and_answered_are_known_by_family_and_ordinal(gpt2, folder):
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("quote", "done"), kinds=("increasing", "decreasing"), lengths=(2,), starts=(4,)
    )
    with stored(gpt2, load_dataset("digits,months,control:0", design), folder / "a.h5") as store:
        words = family_words(store)
    # 4 5 (6), and 4 3, whose answer 2 follows nothing
    assert words["digits"] == {3: "3", 4: "4", 5: "5", 6: "6"}
    assert words["months"] == {3: "March", 4: "April", 5: "May", 6: "June"}
    assert set(words["control:0"]) == {3, 4, 5, 6}
    assert not any(word.startswith(" ") for word in words["months"].values())


def test_a_member_shown_is_not_replaced_by_an_answer_and_texts_without_have_none(gpt2, folder):
    def prompt(text, value, member, answer):
        start = text.index(member)
        return Prompt(
            text,
            "own",
            kind="increasing",
            values=(value,),
            members=(member,),
            spans=((start, start + len(member)),),
            answer=answer,
        )

    prompts = Prompts(
        (prompt("a dog is", 1, "dog", "bird"), prompt("a cat is", 2, "cat", ""), Prompt("nothing here", "b"))
    )
    with stored(gpt2, prompts, folder / "own.h5") as store:
        assert family_words(store) == {"own": {1: "dog", 2: "cat"}, "b": {}}


def test_a_gain_of_one_plus_the_weight_is_read_off_the_norm_itself(tokenizer, tmp_path):
    """Gemma stores its gain less one; the logits' own derivative is the judge."""
    shape = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = GemmaConfig(vocab_size=len(tokenizer), head_dim=8, num_key_value_heads=1, bos_token_id=0, **shape)
    model = GemmaForCausalLM(config)
    with torch.no_grad():
        model.model.norm.weight.normal_(generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    loaded = load_model(str(tmp_path / "gemma"), device="cpu")
    truth = (1 + model.model.norm.weight.detach())[:, None] * model.lm_head.weight.detach().T
    torch.testing.assert_close(readout_map(loaded), truth, rtol=1e-4, atol=1e-5)
