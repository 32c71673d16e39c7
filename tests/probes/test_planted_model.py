"""A model whose stream says in one known direction whether it counts in digits or in words: it is found, and works."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from cache import Hook, load_model, plan_recording
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompt, Prompts
from probes.directions.contrasts import contrast
from probes.directions.direction import direction_of, find_direction, unembedding_difference
from probes.edits.edit import addition
from probes.edits.generation import generate, text_tokens
from probes.edits.hooks import ablate, steer
from tests.recordings import recorded
from tests.variants import some

D = 48
MEMBERS = range(1, 9)
WORDS = {name: [FAMILIES[name].member(i) for i in range(1, 10)] for name in ("digits", "numwords")}
HOOKS = [Hook("resid_pre", 0), Hook("resid_mid", 0), Hook("resid_post", 0), Hook("resid_post", 1)]


def shaped(name, tokenizer):
    """A model with small random blocks and an unembedding of its own."""
    torch.manual_seed(0)
    shared = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False}
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**shared, n_positions=32, n_embd=D, n_layer=2, n_head=3)).eval()
    return LlamaForCausalLM(
        LlamaConfig(
            **shared,
            hidden_size=D,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=32,
        )
    ).eval()


def token(tokenizer, word):
    ids = tokenizer.encode(" " + word, add_special_tokens=False)
    assert len(ids) == 1
    return ids[0]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def planted(request, tokenizer):
    """After ` 3` comes ` 4`, after ` three` comes ` four`: the count is read off one part, the notation off `v`.

    All parts are orthogonal to the constant vector, which LayerNorm would take away.
    """
    hf = shaped(request.param, tokenizer)
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(np.column_stack([np.ones(D), rng.normal(size=(D, D - 1))]))[0].T[1:]
    v, counts = torch.from_numpy(frame[0]).float(), torch.from_numpy(frame[1:10]).float()
    embedding, unembedding = hf.get_input_embeddings().weight, hf.get_output_embeddings().weight
    with torch.no_grad():
        embedding.mul_(0.1)
        unembedding.zero_()
        for name, sign in (("digits", -1), ("numwords", 1)):
            for i, word in enumerate(WORDS[name]):
                embedding[token(tokenizer, word)] = 6 * counts[i] + sign * 3 * v
                if i:
                    unembedding[token(tokenizer, word)] = counts[i - 1] + sign * v
    return load_model(hf, tokenizer=tokenizer), v


@pytest.fixture(scope="module")
def store(planted, tmp_path_factory):
    model, _ = planted
    prompts = [
        Prompt(
            f"{name} {member}",
            family=family,
            frame="word",
            template=template,
            kind="increasing",
            values=(i,),
            members=(member,),
            spans=((len(name) + 1, len(name) + 1 + len(member)),),
            answer=f" {FAMILIES[family].member(i + 1)}",
        )
        for family in WORDS
        for template, name in enumerate(("Van", "Car"))
        for i in MEMBERS
        for member in [FAMILIES[family].member(i)]
    ]
    plan = plan_recording(model, Prompts(tuple(prompts)), sites="resid,resid_mid", positions="last")
    with recorded(model, plan, tmp_path_factory.mktemp("planted") / "a.h5") as store:
        yield store


def answers(model, texts):
    """What the model says next, without its space."""
    return [model.tokenizer.decode(int(model.last_logits(text_tokens(model, text)).argmax())).strip() for text in texts]


def texts(family, name="Van"):
    return [f"{name} {word}" for word in WORDS[family][:8]]


def test_the_model_counts(planted):
    model, _ = planted
    assert answers(model, texts("digits")) == WORDS["digits"][1:]
    assert answers(model, texts("numwords", "Car")) == WORDS["numwords"][1:]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: f"{hook.kind}-{hook.layer}")
@pytest.mark.parametrize("method", ["mean_difference", "pca", "lda", "logistic"])
def test_the_planted_direction_is_found(planted, store, hook, method):
    _, v = planted
    found = find_direction(store, contrast(store.view(), "digits", "numwords"), hook, method)
    assert float(found.vector @ v) > 0.99
    assert found.norm == pytest.approx(6, rel=0.05)


@pytest.mark.parametrize("hook", some(HOOKS, HOOKS[1], HOOKS[3]), ids=lambda hook: f"{hook.kind}-{hook.layer}")
def test_steering_along_it_turns_every_answer_into_its_counterpart_and_back(planted, store, hook):
    model, _ = planted
    found = find_direction(store, contrast(store.view(), "digits", "numwords"), hook)
    with steer(model, found):
        assert answers(model, texts("digits")) == WORDS["numwords"][1:]
        assert answers(model, texts("numwords")) == WORDS["numwords"][1:]
    with steer(model, -found):
        assert answers(model, texts("numwords")) == WORDS["digits"][1:]
    with steer(model, found, alpha=-1.0):
        assert answers(model, texts("numwords")) == WORDS["digits"][1:]
    assert generate(model, "Van 3", 1, edits=[addition(found)]) == [token(model.tokenizer, "four")]
    assert answers(model, texts("digits")) == WORDS["digits"][1:]


def test_random_directions_of_the_same_length_do_not(planted, store):
    model, _ = planted
    hook = Hook("resid_post", 0)
    norm = find_direction(store, contrast(store.view(), "digits", "numwords"), hook).norm
    turned = 0
    for seed in range(8):
        step = torch.randn(D, generator=torch.Generator().manual_seed(seed))
        with steer(model, direction_of(step, hook, "random", norm=norm)):
            turned += sum(a == b for a, b in zip(answers(model, texts("digits")), WORDS["numwords"][1:], strict=True))
    assert turned <= 3  # of 64


def test_without_the_direction_digits_and_words_are_the_same_to_the_model(planted, store):
    model, _ = planted
    found = find_direction(store, contrast(store.view(), "digits", "numwords"), Hook("resid_post", 1))
    with ablate(model, found):
        for i in (2, 7):
            one, other = (model.last_logits(text_tokens(model, f"Van {WORDS[f][i]}"))[0].detach() for f in WORDS)
            torch.testing.assert_close(one, other, rtol=0, atol=0.1 * float(one.max()))


def test_the_unembeddings_own_difference_is_the_planted_direction_too(planted):
    model, v = planted
    words = list(zip(WORDS["digits"][1:], WORDS["numwords"][1:], strict=True))
    difference = unembedding_difference(model, words)
    assert float(difference @ v / difference.norm()) > 0.99
