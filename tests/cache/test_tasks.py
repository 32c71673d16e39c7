"""The task table: against plain forward passes one prompt at a time, and on models whose answers are planted."""

import math
from dataclasses import fields, replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from cache import LoadedModel, SequenceDesign, load_dataset, load_model
from cache.errors import InputError
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompt, Prompts
from cache.shares import exact_interval
from cache.tasks import task_table

DID_NOT_RAISE = pytest.fail.Exception

COLUMNS = [
    "frame",
    "family",
    "kind",
    "member_tokens",
    "answer_tokens",
    "n_prompts",
    "n_members",
    "n_dropped",
    "dropped_why",
    "accuracy",
    "ci_low",
    "ci_high",
    "answer_probability",
    "distractor_rate",
]


def dataset(families, **choices):
    return load_dataset(families, SequenceDesign((FAMILIES["digits"],), **choices))


def answering(model, prompts, choose) -> LoadedModel:
    """The model, but certain of the word that `choose` names for each prompt."""
    reply = {}
    for prompt in prompts:
        ids = model.tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        longer = model.tokenizer(prompt.text + choose(prompt), add_special_tokens=False)["input_ids"]
        assert longer[: len(ids)] == ids
        reply[tuple(ids)] = longer[len(ids)]

    class Certain(LoadedModel):
        def last_logits(self, tokens):
            logits = torch.zeros(len(tokens), 6000)
            for row, ids in zip(logits, tokens.tolist(), strict=True):
                assert ids[0] == self.tokenizer.bos_token_id
                row[reply[tuple(ids[1:])]] = 100.0
            return logits

    return Certain(**{field.name: getattr(model, field.name) for field in fields(LoadedModel)})


def one_row(table):
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize(("name", "bos"), [("gpt2", True), ("llama", True), ("llama", False)])
def test_every_number_is_that_of_plain_forward_passes(model_folders, prompts, name, bos):
    few = prompts.subset(range(0, 105, 4))
    model = load_model(str(model_folders[name]), device="cpu", bos=bos)
    measured = task_table(model, few).answers.set_index("prompt").sort_index()
    assert measured.index.tolist() == list(range(len(few)))
    hf_model = AutoModelForCausalLM.from_pretrained(model_folders[name]).eval()
    for (i, line), prompt in zip(measured.iterrows(), few, strict=True):
        assert prompt is few[i]
        head = [model.tokenizer.bos_token_id] if bos else []
        ids = head + model.tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        answer = model.tokenizer.convert_tokens_to_ids(prompt.answer)
        with torch.no_grad():
            probabilities = hf_model(torch.tensor([ids])).logits[0, -1].softmax(dim=-1)
        assert line["probability"] == pytest.approx(probabilities[answer].item(), rel=1e-4)
        assert line["top1"] == model.tokenizer.decode([probabilities.argmax().item()])
        assert line["correct"] == (probabilities.argmax().item() == answer)


def test_the_table_sums_up_the_answers(gpt2, prompts):
    result = task_table(gpt2, prompts)
    assert list(result.table.columns) == COLUMNS
    assert len(result.answers) == len(prompts)
    for line in result.table.to_dict("records"):
        mine = [
            answer
            for answer in result.answers.to_dict("records")
            if all(answer[key] == line[key] for key in ("frame", "family", "kind"))
        ]
        assert line["n_prompts"] == len(mine)
        assert line["n_members"] == len({answer["answer"] for answer in mine})
        assert line["accuracy"] == sum(answer["correct"] for answer in mine) / len(mine)
        assert line["answer_probability"] == pytest.approx(sum(a["probability"] for a in mine) / len(mine))
        assert (line["ci_low"], line["ci_high"]) == exact_interval(line["accuracy"], line["n_members"])


def test_there_is_a_row_a_frame_family_and_kind_in_the_prompts_order(gpt2):
    prompts = dataset("months,digits", frames=("list", "eq"), kinds=("increasing", "copy"), starts=(2,), templates=1)
    table = task_table(gpt2, prompts).table
    expected = list(dict.fromkeys((p.frame, p.family, p.kind) for p in prompts))
    assert len(expected) == 8
    assert list(table[["frame", "family", "kind"]].itertuples(index=False, name=None)) == expected


def test_batches_change_no_number(gpt2, prompts):
    few = prompts.subset(range(0, 105, 6))
    one_by_one, together = (task_table(gpt2, few, batch_tokens=size).answers for size in (1, 5000))
    for name in ("prompt", "top1", "correct"):
        assert one_by_one[name].tolist() == together[name].tolist()
    assert one_by_one["probability"].tolist() == pytest.approx(together["probability"].tolist(), rel=1e-4)


def test_a_batch_holds_no_more_tokens_than_allowed_and_no_padding(gpt2, prompts):
    told = []
    task_table(gpt2, prompts, batch_tokens=500, on_batch=told.append)
    lengths = [1 + len(gpt2.tokenizer(p.text, add_special_tokens=False)["input_ids"]) for p in prompts]
    assert sum(told) == sum(lengths)
    assert 500 >= max(told) > max(lengths)
    assert len(told) < len(prompts) / 2


def test_a_model_that_is_always_right_has_accuracy_1(gpt2, prompts):
    table = task_table(answering(gpt2, prompts, lambda prompt: prompt.answer), prompts).table
    assert table["accuracy"].eq(1).all()
    assert table["answer_probability"].gt(0.999).all()
    assert table["distractor_rate"].eq(0).all()
    assert table["ci_high"].eq(1).all()


def test_a_model_that_copies_the_last_member_has_distractor_rate_1_and_only_copying_is_right(gpt2):
    prompts = dataset("digits,months", frames=("quote", "done"), kinds=("increasing", "copy", "step:2"), templates=2)

    def last_member(prompt):
        return (" " if prompt.frame == "done" else "") + prompt.members[-1]

    table = task_table(answering(gpt2, prompts, last_member), prompts).table.set_index("kind")
    for kind in ("increasing", "step:2"):
        assert table.loc[kind, "distractor_rate"].eq(1).all()
        assert table.loc[kind, "accuracy"].eq(0).all()
    assert table.loc["copy", "distractor_rate"].eq(0).all()
    assert table.loc["copy", "accuracy"].eq(1).all()


def test_shares_are_of_prompts_and_the_interval_has_as_many_trials_as_answers(gpt2):
    """Right in the first of two templates, else copying where the answer is even, else neither."""
    prompts = dataset("digits", frames=("quote",), templates=2)

    def word(prompt):
        if prompt.template == 0:
            return prompt.answer
        return prompt.members[-1] if int(prompt.answer) % 2 == 0 else "cat"

    line = one_row(task_table(answering(gpt2, prompts, word), prompts).table)
    assert (line["n_prompts"], line["n_members"]) == (12, 6)  # answers 4 to 9
    assert line["accuracy"] == 1 / 2
    assert line["distractor_rate"] == 3 / 12
    assert (line["ci_low"], line["ci_high"]) == exact_interval(1 / 2, 6)


def test_top1_is_the_word_the_model_would_say(gpt2):
    prompts = dataset("digits", frames=("done",), starts=(2, 3), templates=1)
    answers = task_table(answering(gpt2, prompts, lambda prompt: " cat"), prompts).answers
    assert answers["top1"].tolist() == [" cat", " cat"]
    assert not answers["correct"].any()


LONG = "xylophonezz"  # several tokens in every tokenizer here


def showing(member, family="made", answer="2", template=0):
    return Prompt(
        f"{member},",
        family=family,
        frame="list",
        template=template,
        kind="increasing",
        values=(1,),
        members=(member,),
        spans=((0, len(member)),),
        answer=answer,
        distractor=member,
    )


def n_tokens(model, word):
    return len(model.tokenizer(word, add_special_tokens=False)["input_ids"])


def test_dropped_prompts_are_counted_with_their_reasons(gpt2):
    prompts = Prompts(
        (
            showing("1"),
            showing(LONG, template=1),
            showing(LONG + "q", template=2, answer="3"),
            showing("4", template=3, answer=LONG),
            showing("4", template=4, answer=LONG),
            showing(LONG, family="none"),
        )
    )
    table = task_table(gpt2, prompts).table.set_index("family")
    some, none = table.loc["made"], table.loc["none"]
    reasons = [f"member {word!r} is {n_tokens(gpt2, word)} tokens" for word in (LONG, LONG + "q")]
    assert (some["n_prompts"], some["n_dropped"]) == (1, 4)
    assert some["dropped_why"] == "; ".join(reasons) + "; ..."
    assert some["member_tokens"] == n_tokens(gpt2, LONG + "q")
    assert some["answer_tokens"] == n_tokens(gpt2, LONG)
    assert (none["n_prompts"], none["n_members"], none["n_dropped"]) == (0, 0, 1)
    assert none["dropped_why"] == reasons[0]
    assert none[["accuracy", "ci_low", "ci_high", "answer_probability", "distractor_rate"]].isna().all()


def test_two_reasons_are_given_whole(gpt2):
    prompts = Prompts((showing("1"), showing(LONG, template=1), showing("4", template=2, answer=LONG)))
    line = one_row(task_table(gpt2, prompts).table)
    assert line["dropped_why"] == (
        f"member {LONG!r} is {n_tokens(gpt2, LONG)} tokens; answer {LONG!r} is {n_tokens(gpt2, LONG)} tokens"
    )


def test_nothing_is_dropped_from_what_is_one_token_each(gpt2, prompts):
    table = task_table(gpt2, prompts).table
    assert table[["member_tokens", "answer_tokens"]].eq(1).all(axis=None)
    assert table["n_dropped"].eq(0).all()
    assert table["dropped_why"].eq("").all()


def test_prompts_without_an_answer_are_left_out(gpt2):
    own = Prompts((Prompt("1,2,3,", answer="4"), Prompt("a b c", template=1), Prompt("5,6,", template=2, answer="7")))
    result = task_table(gpt2, own)
    assert result.answers["prompt"].tolist() == [2, 0]  # shorter ones first
    assert one_row(result.table)["n_prompts"] == 2


def test_where_every_prompt_is_dropped_the_reason_and_a_way_out_are_given(gpt2):
    with pytest.raises(
        InputError, match=rf"no prompt is left: all 2 .*'{LONG}' is \d+ tokens in frame list; try frames"
    ):
        task_table(gpt2, Prompts((showing(LONG), showing(LONG, template=1))))


def test_what_is_no_model_is_refused(prompts):
    with pytest.raises(InputError, match=r"a model is a name, a folder, .* got int"):
        task_table(3, prompts)


def test_prompts_without_any_answer_cannot_be_measured(gpt2):
    with pytest.raises(InputError, match="no prompt has an answer; label them, or use families"):
        task_table(gpt2, Prompts.from_texts(["1,2,3", "one"]))


def test_own_prompts_whose_answers_are_all_several_tokens_cannot_be_measured(gpt2):
    own = Prompts((Prompt("1,2,3,", answer=LONG), Prompt("no answer", template=1)))
    with pytest.raises(InputError, match=rf"no prompt can be measured: .*{LONG}. is \d+ tokens"):
        task_table(gpt2, own)


def test_answers_are_indexed_as_the_prompts_were_given(gpt2):
    given = Prompts((showing(LONG), showing("1", template=1), showing("5", template=2, answer="6")))
    answers = task_table(gpt2, given).answers
    assert {index: given[index].answer for index in answers["prompt"]} == {1: "2", 2: "6"}
    assert answers["answer"].tolist() == [given[index].answer for index in answers["prompt"]]


def test_documents_have_no_task_and_leave_the_indices_of_the_others(gpt2, prompts):
    document = Prompt("one two " * 200, kind="document", group="a")
    beside = task_table(gpt2, Prompts((document, *prompts)))
    alone = task_table(gpt2, prompts)
    assert beside.table.equals(alone.table)
    assert beside.answers.equals(alone.answers.assign(prompt=alone.answers["prompt"] + 1))


def test_own_prompts_whose_answer_is_several_tokens_count_as_dropped(gpt2):
    own = Prompts((Prompt("1,2,3,", answer="4"), Prompt("4,5,", template=1, answer=LONG)))
    line = one_row(task_table(gpt2, own).table)
    assert (line["n_prompts"], line["n_dropped"]) == (1, 1)
    assert LONG in line["dropped_why"]


def test_a_prompt_that_is_too_long_is_refused(gpt2):
    with pytest.raises(InputError, match="takes 64 tokens"):
        task_table(gpt2, Prompts((Prompt("1," * 31 + "2,3,4", answer=","),)))


def test_copying_is_seen_where_decoding_drops_the_leading_space(gpt2):
    """Llama 2's and Mistral's tokenizers write a space as part of the token and leave it out at the start."""
    prompts = dataset("numwords", frames=("done",), templates=1)
    words = sorted({word for p in prompts for word in (p.text + p.answer).replace(".", "").split()})
    backend = Tokenizer(
        models.WordLevel({"?": 0, "<s>": 1, ".": 2} | {f"▁{w}": i for i, w in enumerate(words, 3)}, "?")
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    backend.decoder = decoders.Metaspace()
    model = replace(gpt2, tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>"))
    assert model.tokenizer.decode(model.tokenizer("x one")["input_ids"][-1:]) == "one"
    line = one_row(task_table(answering(model, prompts, lambda prompt: prompt.distractor), prompts).table)
    assert line["n_prompts"] == len(prompts)
    assert line["distractor_rate"] == 1


def test_the_last_member_with_a_space_it_did_not_have_is_no_copy(gpt2):
    prompts = dataset("digits", frames=("quote",), templates=1)
    table = task_table(answering(gpt2, prompts, lambda prompt: " " + prompt.distractor), prompts).table
    assert one_row(table)["distractor_rate"] == 0


def test_own_prompts_without_a_distractor_are_never_taken_for_copies(gpt2):
    own = Prompts((Prompt("1,2,3,", answer="4"), Prompt("5,6,", template=1, answer="7")))
    line = one_row(task_table(answering(gpt2, own, lambda prompt: "\n"), own).table)
    assert not line["distractor_rate"] > 0


def test_four_answers_have_no_interval_however_many_prompts(gpt2):
    prompts = dataset("digits", frames=("quote",), starts=(0, 1, 2, 3), templates=3)
    line = one_row(task_table(answering(gpt2, prompts, lambda prompt: prompt.answer), prompts).table)
    assert (line["n_prompts"], line["n_members"], line["accuracy"]) == (12, 4, 1)
    assert math.isnan(line["ci_low"])
    assert math.isnan(line["ci_high"])


def test_the_real_model_counts_in_quotes_and_continues_no_control(smollm2):
    prompts = dataset("digits,control:0-1", frames=("quote", "done"), starts=(1, 2, 3, 4, 5), templates=1)
    table = task_table(smollm2, prompts).table.set_index(["frame", "family"])
    digits = table.loc[("quote", "digits")]
    assert (digits["n_prompts"], digits["n_members"]) == (5, 5)
    assert digits["accuracy"] == 1
    assert digits["answer_probability"] > 0.5
    assert digits["distractor_rate"] == 0
    controls = table.loc[[("quote", "control:0"), ("quote", "control:1")]]
    assert controls["n_prompts"].sum() >= 8
    assert (controls["accuracy"] * controls["n_prompts"]).sum() <= 1
    assert controls["answer_probability"].max() < 0.2
    # a space and a digit are two of its tokens
    spaced = table.loc[("done", "digits")]
    assert (spaced["n_prompts"], spaced["n_dropped"], spaced["answer_tokens"]) == (0, 5, 2)
    assert spaced["dropped_why"] == "answer ' 5' is 2 tokens; answer ' 6' is 2 tokens; ..."
