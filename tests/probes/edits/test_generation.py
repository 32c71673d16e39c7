"""Greedy continuations: the same with and without a cache, as the bridge's own, and as a loop without shortcuts."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cache import Hook
from cache.errors import InputError
from probes.edits.edit import addition
from probes.edits.generation import generate, text_tokens
from probes.edits.hooks import ablate, steer
from tests.probes.readings import n_hooks, random_direction, rewritten
from tests.variants import some

TEXT = "Van=one; Car=two; Box="
POSITIONS = ["last", "all", [0], [3, 9], [7, 10, 12], [[2, 6]], [[11]], []]
MODELS = ["gpt2", "llama", "neox"]


@pytest.fixture(params=MODELS)
def model(loaded, request):
    return loaded[request.param]


def naive(model, n_tokens, hook, step, wanted):
    """Recompute everything for every token; `wanted(position, length of the text)` says where a plain hook adds."""
    tokens = torch.tensor([[model.tokenizer.bos_token_id, *model.tokenizer(TEXT).input_ids]])
    start = tokens.shape[1]

    def add(output):
        new = output.clone()
        for place in range(output.shape[1]):
            if place > 0 and wanted(place - 1, start - 1):
                new[:, place] += step.reshape(output.shape[2:])
        return new

    for _ in range(n_tokens):
        with rewritten(model, hook, add), torch.inference_mode():
            best = model.bridge.original_model(tokens, use_cache=False).logits[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, best], dim=1)
        if int(best) == model.tokenizer.eos_token_id:
            break
    return tokens[0, start:].tolist()


def wanted(positions):
    if positions == "last":
        return lambda place, length: place == length - 1
    if positions == "all":
        return lambda place, length: True
    numbers = positions[0] if positions and isinstance(positions[0], list) else positions
    return lambda place, length: place in numbers


CASES = [(hook, where) for hook in (Hook("resid_post", 0), Hook("z", 1), Hook("mlp_out", 1)) for where in POSITIONS]
IN_SUITE = [(hook, where) for hook, where in CASES if hook.kind == "resid_post" or where == "last"]


@pytest.mark.parametrize(
    ("hook", "positions"),
    [
        pytest.param(*one, marks=[pytest.mark.slow] * (one not in IN_SUITE), id=f"{one[0].kind}-{one[1]}")
        for one in CASES
    ],
)
def test_tokens_are_those_of_a_loop_that_recomputes_everything_with_and_without_a_cache(model, hook, positions):
    direction = random_direction(model, hook, norm=6.0)
    truth = naive(model, 8, hook, 2.0 * direction.step, wanted(positions))
    choices = {"edits": [addition(direction, 2.0)], "positions": positions}
    assert generate(model, TEXT, 8, **choices) == truth
    assert generate(model, TEXT, 8, **choices, use_cache=False) == truth


def test_edits_change_what_is_generated(model):
    """Else the laws here would hold of nothing."""
    plain = generate(model, TEXT, 8)
    edits = [addition(random_direction(model, Hook("resid_post", 1), norm=30.0, seed=seed)) for seed in range(5)]
    once = [generate(model, TEXT, 8, edits=[edit]) for edit in edits]
    always = [generate(model, TEXT, 8, edits=[edit], positions="all") for edit in edits]
    assert any(said != plain for said in once)
    assert any(said != other for said, other in zip(always, once, strict=True))
    assert generate(model, TEXT, 8) == plain


@pytest.mark.parametrize("positions", some(POSITIONS, "last", "all", [3, 9], [[2, 6]]), ids=str)
def test_the_bridges_own_generation_inside_the_block_gives_the_same(model, positions):
    direction = random_direction(model, Hook("resid_post", 1), norm=6.0)
    found = generate(model, TEXT, 8, edits=[addition(direction, 2.0)], positions=positions)
    tokens = text_tokens(model, TEXT)
    with steer(model, direction, 2.0, positions=positions):
        theirs = model.bridge.generate(
            tokens, max_new_tokens=8, do_sample=False, use_past_kv_cache=True, return_type="tokens", verbose=False
        )
        ours = generate(model, TEXT, 8)
    assert ours == found
    assert theirs[0, tokens.shape[1] :].tolist()[: len(found)] == found


def test_ablation_holds_for_every_generated_token(model):
    direction = random_direction(model, Hook("resid_post", 1))
    with ablate(model, direction):
        cached, whole = (generate(model, TEXT, 8, use_cache=use) for use in (True, False))
    assert cached == whole


def test_it_stops_after_an_end_of_text_token(gpt2):
    first = generate(gpt2, TEXT, 8)
    tokenizer = copy.deepcopy(gpt2.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(first[2])
    other = replace(gpt2, tokenizer=tokenizer)
    for use_cache in (True, False):
        assert generate(other, TEXT, 8, use_cache=use_cache) == first[: first.index(first[2]) + 1]


def test_hooks_are_gone_after_generating(model):
    model.logits(text_tokens(model, TEXT))  # in its first pass a bridge attaches hooks of its own
    before = n_hooks(model)
    generate(model, TEXT, 2, edits=[addition(random_direction(model, Hook("z", 0, 1)))])
    assert n_hooks(model) == before


def test_a_text_is_tokenized_as_prompts_are_with_bos_before_it(gpt2):
    assert text_tokens(gpt2, TEXT).tolist() == [[0, *gpt2.tokenizer(TEXT).input_ids]]


def test_a_text_that_leaves_no_room_is_refused(gpt2):
    with pytest.raises(InputError, match=r"takes 64 tokens; the text has 101"):
        text_tokens(gpt2, "one" + " one" * 99)
    with pytest.raises(InputError, match=r"a prompt has no text"):
        generate(gpt2, "", 3)
    text = "one" + " one" * 59
    assert len(generate(gpt2, text, 3)) <= 3
    for n_tokens in (0, -2, 4):
        with pytest.raises(
            InputError, match=rf"the text has 61 tokens and .* takes 64: .* 1 to 3 more; got {n_tokens}"
        ):
            generate(gpt2, text, n_tokens)


def test_a_text_that_fills_the_context_is_told_so(gpt2):
    with pytest.raises(InputError, match=r"the text has 64 tokens and .* takes 64, so nothing can follow it"):
        generate(gpt2, "one" + " one" * 62, 1)


class Endless:
    """A model whose configuration sets no limit."""

    def __init__(self, model):
        self.config, self.get_input_embeddings = SimpleNamespace(), model.get_input_embeddings


def test_a_model_that_names_no_limit_takes_any_number(gpt2):
    free = replace(gpt2, bridge=SimpleNamespace(original_model=Endless(gpt2.bridge.original_model)))
    with pytest.raises(InputError, match=r"takes any number: ask for 1 more; got 0"):
        generate(free, TEXT, 0)


def test_positions_of_several_texts_are_refused(gpt2):
    edit = addition(random_direction(gpt2, Hook("resid_post", 1)))
    with pytest.raises(InputError, match="positions are given for 2 texts; the batch has 1"):
        generate(gpt2, TEXT, 2, edits=[edit], positions=[[0], [1]])


def test_positions_beyond_the_text_are_refused(gpt2):
    with pytest.raises(InputError, match=r"the text has positions 0 to \d+; got 99"):
        generate(gpt2, "1,2,3,", 2, edits=[addition(random_direction(gpt2, Hook("resid_post", 1)))], positions=[1, 99])
