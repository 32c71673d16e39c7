"""Windows of documents are their tokens, one after the other, and none of another document."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cache import load_dataset
from cache.errors import InputError
from cache.models.tokens import tokenize
from cache.prompts.prompt import Prompts
from cache.prompts.text import documents
from cache.windows import cut_documents, tokenize_windows

MIXED = (
    "Don't stop; it's 12,345.67!  日本語のテキスト🦙🦙👩\u200d👩\u200d👧 e\u0301 naïve\n\n\n  indented\tcode();\r\n "
    "\n\n\x0bend "
)
PIECES = (*MIXED.split(" "), " ", "  ", "\n", "\n\n", "\t", "ab" * 40, "ﷺ", "\u3000", "\U0001f1e9\U0001f1ea")
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
TEXTS = st.lists(st.sampled_from([one for one in PIECES if one]) | ANY, min_size=1, max_size=60).map("".join)
WORDS = [one for one in (*MIXED.split(" "), "foo", "bar.", "\n\nThen", "x\ty", "(") if one]


def texts(*given, **labels):
    return documents([("here", {"text": text, "id": f"d{number}", **labels}) for number, text in enumerate(given)])


@pytest.fixture(scope="module")
def models_by_tokenizer(gpt2, smollm2_tokenizer):
    """GPT-2's kind, SmolLM2's own, and Llama's kind: a space before the text, and words not told apart."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    backend.train_from_iterator(["the▁thin▁thing▁in▁it▁stop▁text▁code"] * 9, trainer)
    backend.pre_tokenizer = None
    spaced = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")
    return {
        "gpt2": gpt2,
        "smollm2": replace(gpt2, tokenizer=smollm2_tokenizer),
        "llama": replace(gpt2, tokenizer=spaced),
    }


@pytest.mark.parametrize("name", ["gpt2", "smollm2", "llama"])
@given(text=TEXTS.filter(str.strip), room=st.integers(20, 50))
@settings(deadline=None, max_examples=60)
def test_the_windows_of_a_document_are_its_tokens_and_its_text(models_by_tokenizer, name, text, room):
    model = models_by_tokenizer[name]
    tokenizer = model.tokenizer
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    windows = list(cut_documents(list(texts(text)), model, room))
    assert np.concatenate([ids for _, ids in windows]).tolist() == whole
    assert "".join(prompt.text for prompt, _ in windows) == text
    assert all(1 <= len(ids) <= room for _, ids in windows)
    assert [dict(prompt.labels)["window"] for prompt, _ in windows] == list(range(len(windows)))
    assert {(prompt.kind, prompt.family, prompt.group, prompt.values) for prompt, _ in windows} == {
        ("text", "", "d0", ())
    }


@pytest.mark.parametrize("name", ["gpt2", "smollm2"])
@given(
    words=st.lists(
        st.sampled_from([*MIXED.split(" "), "foo", "bar.", "\n\nThen", "x\ty", "("]), min_size=30, max_size=99
    )
)
@settings(deadline=None, max_examples=40)
def test_the_text_of_each_by_itself_makes_the_same_tokens(models_by_tokenizer, name, words):
    model = models_by_tokenizer[name]
    tokenizer = model.tokenizer
    for prompt, ids in cut_documents(list(texts(" ".join(words))), model, 40):
        assert tokenizer(prompt.text, add_special_tokens=False)["input_ids"] == ids.tolist()


def test_windows_whose_text_makes_other_tokens_are_counted(gpt2, models_by_tokenizer):
    llama = models_by_tokenizer["llama"]
    numbered = texts(" ".join(f"the thing {number}" for number in range(40)))
    spaced, cut = tokenize_windows(llama, numbered, window=21)
    alone = [llama.tokenizer(one.text, add_special_tokens=False)["input_ids"] for one in spaced.prompts]
    assert cut.n_unlike == sum(a != ids.tolist() for a, ids in zip(alone, spaced.ids, strict=True)) > 0
    assert tokenize_windows(gpt2, numbered, window=21)[1].n_unlike == 0


def test_bos_counts_and_no_window_holds_two_documents(gpt2):
    prompts = texts("one two three four five six", "seven eight", genre="news")
    with_bos, cut = tokenize_windows(gpt2, prompts, window=5)
    assert [one.text for one in with_bos.prompts] == ["one two three four", " five six", "seven eight"]
    assert [one.group for one in with_bos.prompts] == ["d0", "d0", "d1"]
    assert [one.labels for one in with_bos.prompts] == [(("genre", "news"), ("window", n)) for n in (0, 1, 0)]
    assert with_bos.seen(0).tolist()[0] == gpt2.tokenizer.bos_token_id
    assert max(with_bos.lengths) == 5
    assert (cut.n_documents, cut.n_windows, cut.n_tokens, cut.window) == (2, 3, 8, 5)
    without, _ = tokenize_windows(replace(gpt2, bos=False), prompts, window=5)
    assert [len(ids) for ids in without.ids] == [5, 1, 2]
    assert len({one.pair_key for one in with_bos.prompts}) == 3


def test_repeated_windows_are_left_out_and_counted(gpt2):
    tokenized, cut = tokenize_windows(gpt2, texts("one two one two one two", "three", "one two"), window=3)
    assert [one.text for one in tokenized.prompts] == ["one two", " one two", "three"]
    assert (cut.n_windows, cut.n_repeated, cut.n_documents) == (3, 2, 3)


def test_max_tokens_draws_windows_with_the_seed_in_their_order(gpt2):
    words = "one two three four five six seven eight nine ten".split()
    prompts = texts(*(" ".join(words[number:] + words[:number]) for number in range(10)))
    every, _ = tokenize_windows(gpt2, prompts, window=4)

    def drawn(seed):
        tokenized, cut = tokenize_windows(gpt2, replace(prompts, seed=seed), window=4, max_tokens=12)
        assert cut.n_tokens <= 12 < cut.n_tokens + 4
        assert cut.n_windows + cut.n_not_drawn == len(every.prompts)
        return [(one.group, dict(one.labels)["window"]) for one in tokenized.prompts]

    assert drawn(0) == drawn(0) == sorted(drawn(0))
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1


def test_other_prompts_come_first_and_as_without_text(gpt2):
    digits = load_dataset("digits")
    tokenized, cut = tokenize_windows(gpt2, Prompts((*texts("one two"), *digits)), window=9)
    alone = tokenize(digits, gpt2.tokenizer, bos=True)
    assert (cut.n_windows, [one.kind for one in tokenized.prompts][-1]) == (1, "text")
    assert tokenized.subset(range(len(digits))).prompts == digits
    assert all(map(np.array_equal, tokenized.ids, alone.ids))
    assert tokenized.answers[:-1] == alone.answers
    assert tokenize_windows(gpt2, digits)[1] is None


@pytest.mark.parametrize(
    ("text", "window", "most", "message"),
    [
        ("one two", 1, None, r"^a window takes 2 tokens or more, BOS included; got 1$"),
        ("one two", 65, None, r"takes 64 tokens; got windows of 65$"),
        ("one two", 8, 1, r"^max_tokens must leave a window of 2 tokens; got 1$"),
        ("🦙", 3, None, r"^document 'd0' has a character of more than 2 tokens; give windows more tokens \(window\)$"),
        ("one<|endoftext|>two", 8, None, r"^document 'd0' holds '<\|endoftext\|>', the BOS token, which is put before"),
    ],
)
def test_what_cannot_be_cut_is_told_in_one_sentence(gpt2, text, window, most, message):
    with pytest.raises(InputError, match=message):
        tokenize_windows(gpt2, texts(text), window=window, max_tokens=most)
