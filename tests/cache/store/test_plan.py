"""Plans: blocks hold every prompt once within their budget, and positions keep the tokens they are named for."""

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import plan_recording
from cache.errors import InputError
from cache.models.hooks import Hook
from cache.models.tokens import tokenize
from cache.prompts.prompt import Prompt, Prompts
from cache.store.plan import plan_blocks
from cache.store.sink import batch_of

MEMBERS = Prompt("1,2,", values=(1, 2), members=("1", "2"), spans=((0, 1), (2, 3)))
LAST_IS_MEMBER = Prompt("a,1", values=(1,), members=("1",), spans=((2, 3),))

some_lengths = st.lists(st.integers(1, 100), min_size=1, max_size=60).map(np.array)
budgets = st.integers(1, 400)


@given(some_lengths, budgets)
@settings(deadline=None)
def test_blocks_hold_every_prompt_once_in_ascending_order(lengths, batch_tokens):
    blocks = plan_blocks(lengths, batch_tokens)
    assert sorted(chain.from_iterable(blocks)) == list(range(len(lengths)))
    assert all(list(block) == sorted(block) for block in blocks)
    assert all(blocks)


@given(some_lengths, budgets)
@settings(deadline=None)
def test_no_padded_block_exceeds_its_budget_unless_one_prompt_does(lengths, batch_tokens):
    for block in plan_blocks(lengths, batch_tokens):
        assert len(block) * max(lengths[list(block)]) <= batch_tokens or len(block) == 1


@given(some_lengths, budgets)
@settings(deadline=None)
def test_blocks_are_sorted_by_length_and_full(lengths, batch_tokens):
    for block, following in pairwise(plan_blocks(lengths, batch_tokens)):
        shortest = min(lengths[list(following)])
        assert max(lengths[list(block)]) <= shortest
        assert (len(block) + 1) * shortest > batch_tokens


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n_prompts", [200, 1000])
def test_padding_costs_a_tenth_at_most_for_lengths_of_8_to_64(seed, n_prompts):
    lengths = np.random.default_rng(seed).integers(8, 65, n_prompts)
    slots = sum(len(block) * lengths[list(block)].max() for block in plan_blocks(lengths, 256))
    assert slots / lengths.sum() <= 1.10


def test_tokens_are_those_counted_by_hand(gpt2):
    plan = plan_recording(gpt2, ["1,2,3,4,", "1,", "1,2,", "1,2"], batch_tokens=10)
    assert plan.tokenized.lengths.tolist() == [9, 3, 5, 4]
    assert plan.blocks == ((1, 3), (2,), (0,))
    assert plan.n_tokens == 21
    assert [batch_of(plan, block)[0].shape for block in range(3)] == [(2, 4), (1, 5), (1, 9)]


@pytest.mark.parametrize(
    ("positions", "prompt", "kept"),
    [
        ("all", MEMBERS, [1, 1, 1, 1]),
        ("members", MEMBERS, [1, 0, 1, 1]),
        ("last", MEMBERS, [0, 0, 0, 1]),
        ("all", LAST_IS_MEMBER, [1, 1, 1]),
        ("members", LAST_IS_MEMBER, [0, 0, 1]),
        ("last", LAST_IS_MEMBER, [0, 0, 1]),
        ("members", Prompt("a,b"), [0, 0, 1]),
        ("last", Prompt("1"), [1]),
    ],
)
@pytest.mark.parametrize("bos", [True, False])
def test_positions_keep_the_tokens_that_they_are_named_for(gpt2, positions, prompt, kept, bos):
    plan = plan_recording(replace(gpt2, bos=bos), Prompts((prompt,)), positions=positions)
    assert plan.bos == bos
    assert plan.kept(0).tolist() == [positions == "all"] * bos + kept


def test_a_plan_s_hooks_are_in_the_order_of_a_forward_pass(gpt2):
    plan = plan_recording(gpt2, ["1"], sites="mlp,heads,resid", layers="0,-1")
    assert plan.hooks == (
        Hook("resid_pre", 0),
        Hook("z", 0),
        Hook("mlp_out", 0),
        Hook("resid_post", 0),
        Hook("z", 2),
        Hook("mlp_out", 2),
        Hook("resid_post", 2),
    )


def test_plain_strings_are_planned_like_their_prompts(gpt2):
    texts = ["1,2,3,", "one", "1,2"]
    plans = [plan_recording(gpt2, form) for form in (texts, iter(texts), Prompts.from_texts(texts))]
    assert {plan.tokenized.prompts for plan in plans} == {Prompts.from_texts(texts)}
    assert {plan.blocks for plan in plans} == {((0, 1, 2),)}


def test_prompts_in_tokens_are_planned_as_they_are_unless_with_another_bos(gpt2, monkeypatch):
    tokenized = tokenize(Prompts.from_texts(["1,2,3,", "one"]), gpt2.tokenizer, bos=True)
    monkeypatch.setattr("cache.store.plan.tokenize_windows", lambda *_, **__: pytest.fail("tokenized again"))
    assert plan_recording(gpt2, tokenized).tokenized is tokenized
    with pytest.raises(InputError, match="the prompts were tokenized with BOS 0, and the model takes None"):
        plan_recording(replace(gpt2, bos=False), tokenized)


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_a_prompt_may_fill_a_model_s_context_and_no_more(loaded, name):
    fits, too_long = "1" + ",1" * 31, "1" + ",1" * 31 + ","
    assert plan_recording(loaded[name], ["1", fits]).tokenized.lengths.max() == 64
    assert plan_recording(replace(loaded[name], bos=False), [too_long]).tokenized.lengths.max() == 64
    with pytest.raises(InputError, match=rf"tiny-{name} takes 64 tokens; prompt 1 \('1,1,1,.* has 65"):
        plan_recording(loaded[name], ["1", too_long])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": "first"}, "positions must be one of all, members, last; got 'first'"),
        ({"dtype": "bfloat16"}, "dtype must be one of float32, float16; got 'bfloat16'"),
        ({"batch_tokens": 0}, "batch_tokens must be 1 or more; got 0"),
        ({"sites": "residual"}, "no site 'residual'; did you mean resid"),
        ({"layers": "3"}, "the model has layers 0 to 2; got '3'"),
        ({"prompts": []}, "no prompts; give at least one"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(gpt2, fields, message):
    with pytest.raises(InputError, match=message):
        plan_recording(gpt2, **{"prompts": ["1"], **fields})


def test_a_site_that_the_architecture_lacks_is_refused(loaded):
    with pytest.raises(InputError, match=r"tiny-neox has no blocks\.0\.hook_resid_mid: its blocks have no resid_mid"):
        plan_recording(loaded["neox"], ["1"], sites="resid_mid")
