from itertools import product

import pytest
import torch

from cache import Hook, load_dataset
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.models.restart import first_block
from cache.models.tokens import tokenize
from cache.prompts.sequences import SequenceDesign
from probes.directions.contrasts import contrast
from probes.directions.direction import direction_of
from probes.edits.hooks import steer
from probes.edits.positions import member_positions
from probes.steering.trials import edited_logits, run_batches, set_up_trials
from tests.probes.sweeps import small_store
from tests.variants import some

HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 0), Hook("resid_post", 2))


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("trials")) as store:
        yield store


@pytest.fixture(scope="module")
def trials(store, gpt2):
    return set_up_trials(store, gpt2, contrast(store.view(), "digits", "numwords"))


def test_every_trial_is_in_one_batch_of_its_length(trials):
    numbers = [number for batch in trials.batches for number in batch.numbers]
    assert sorted(numbers) == list(range(len(trials))) == list(range(24))
    assert len(trials.batches) == 2


def test_trials_ask_for_the_target_answer_after_the_source_prompt(trials, gpt2):
    decode = gpt2.tokenizer.decode
    for i, line in trials.pairs.table.iterrows():
        assert decode([int(trials.target_tokens[i])]) == line["answer"]
        assert decode([int(trials.source_tokens[i])]) == line["source_answer"]
    assert {decode([int(t)]) for t in trials.family_tokens} == {
        *trials.pairs.table["answer"],
        *trials.pairs.table["source_answer"],
    }


@pytest.mark.parametrize("kind", some(["gpt2", "llama"], "llama"))
@pytest.mark.parametrize(
    "place",
    some(
        [*product(("last", "all", "members", "both"), HOOKS)],
        *(("both", hook) for hook in HOOKS),
        *((where, HOOKS[1]) for where in ("last", "all", "members")),
    ),
    ids=str,
)
def test_restarted_edits_are_what_steering_the_whole_model_gives(loaded, kind, place):
    positions, hook = place
    model = loaded[kind]
    design = SequenceDesign((FAMILIES["digits"],), ("quote",), ("increasing",), (3,), starts=(1, 2, 3), templates=2)
    prompts = load_dataset("digits,numwords", design)
    tokenized = tokenize(prompts, model.tokenizer, bos=model.bos)
    steps = torch.randn(2, len(prompts), model.d_model, generator=torch.Generator().manual_seed(0))
    for batch in run_batches(model, tokenized):
        got = list(edited_logits(batch, hook, steps[:, list(batch.numbers)], positions))
        for copy in range(2):
            for row, number in enumerate(batch.numbers):
                where = positions
                if positions in ("members", "both"):
                    where = member_positions(model, prompts.subset([number]))[0]
                if positions == "both":
                    where = sorted({*where, len(tokenized.ids[number]) - 1})
                one = direction_of(steps[copy, number], hook, "drawn")
                with steer(model, one, 1.0, where), torch.inference_mode():
                    want = model.last_logits(batch.clean.tokens[row : row + 1])[0]
                torch.testing.assert_close(got[copy][row], want, rtol=0, atol=1e-4)


def test_no_step_changes_nothing(trials):
    for batch in trials.batches:
        none = torch.zeros(1, len(batch.numbers), 33)
        for positions in ("all", "members"):
            logits = next(edited_logits(batch, Hook("resid_post", 1), none, positions))
            assert torch.allclose(logits, batch.clean.logits, atol=1e-5)


def test_only_the_stream_between_blocks_can_be_restarted():
    assert [first_block(h) for h in (Hook("resid_pre", 0), Hook("resid_pre", 3), Hook("resid_post", 3))] == [0, 3, 4]
    with pytest.raises(InputError, match=r"resid_pre or resid_post; got blocks\.1\.hook_mlp_out"):
        first_block(Hook("mlp_out", 1))


def test_answers_of_several_tokens_are_refused(gpt2, tmp_path):
    with small_store(gpt2, tmp_path, names="digits,numwords") as store:
        pairs = contrast(store.view(), "digits", "numwords")
        pairs.table["answer"] = "no such word"
        with pytest.raises(InputError, match="no answer of 'numwords' is one token"):
            set_up_trials(store, gpt2, pairs)


def test_several_rows_of_a_prompt_and_prompts_without_answers_are_refused(store, gpt2):
    with pytest.raises(InputError, match="add 'and is_last' to the query"):
        set_up_trials(store, gpt2, contrast(store.view(where="member >= 0"), "digits", "numwords"))
    pairs = contrast(store.view(), "digits", "numwords")
    pairs.table["answer"] = ""
    with pytest.raises(InputError, match="prompts of 'numwords' have no answers to be steered to"):
        set_up_trials(store, gpt2, pairs)
