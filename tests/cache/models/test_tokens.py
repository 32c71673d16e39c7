"""Prompts in tokens: each member is marked at its last token, and what a tokenizer spoils is counted and named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from cache import SequenceDesign, load_dataset
from cache.errors import InputError
from cache.families.family import FAMILIES, Family
from cache.models.tokens import bos_token_id, drop_unusable, tokenize
from cache.prompts.frames import FRAMES
from cache.prompts.prompt import AS_THEY_ARE, Prompt, Prompts
from cache.prompts.sequences import make_prompts


def shown(text: str, *members: str, answer: str = "", **fields) -> Prompt:
    """A prompt of kind `made` that shows these members where each next stands in the text."""
    spans, place = [], 0
    for member in members:
        start = text.index(member, place)
        place = start + len(member)
        spans.append((start, place))
    labels = {"family": "f", "frame": "list", "kind": "made", "values": tuple(range(len(members)))} | fields
    return Prompt(text, members=members, spans=tuple(spans), answer=answer, **labels)


def tokenized(tokenizer, *prompts: Prompt, bos: bool = False):
    return tokenize(Prompts(tuple(prompts)), tokenizer, bos=bos)


def merging(*merges: str, vocabulary: str = "0123456789,:") -> PreTrainedTokenizerFast:
    """A tokenizer of single characters but for these two-character merges; others it leaves out."""
    tokens = [*vocabulary, *merges]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [(m[0], m[1]) for m in merges]))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def in_frame(frame: str, families: str, **fields) -> Prompts:
    return load_dataset(families, SequenceDesign((FAMILIES["digits"],), frames=(frame,), templates=2, **fields))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
@settings(deadline=None)
def test_the_ids_are_the_text_and_nothing_else(tokenizer, texts):
    ids = tokenize(Prompts.from_texts(texts), tokenizer, bos=True).ids
    assert [tokenizer.decode(i, clean_up_tokenization_spaces=False) for i in ids] == texts


def test_special_tokens_that_a_tokenizer_adds_of_itself_are_left_out(tokenizer):
    adding = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    prompt = shown("1,2,", "1", "2", answer="3")
    assert adding(prompt.text)["input_ids"][0] == adding(prompt.text)["input_ids"][-1] == 0
    plain, added = tokenized(tokenizer, prompt), tokenized(adding, prompt)
    assert (added.ids[0].tolist(), added.answers) == (plain.ids[0].tolist(), plain.answers)
    assert added.members[0].tolist() == [0, -1, 1, -1]


@pytest.mark.parametrize("frame", FRAMES)
def test_the_marked_tokens_are_the_members_one_by_one(tokenizer, frame):
    prompts = in_frame(frame, "digits,months,letters,control:0", kinds=("increasing", "repeated", "copy"))
    tokens = tokenize(prompts, tokenizer, bos=False)
    for prompt, ids, members in zip(prompts, tokens.ids, tokens.members, strict=True):
        marked = [(index, tokenizer.decode([token]).strip()) for index, token in zip(members, ids, strict=True)]
        assert [pair for pair in marked if pair[0] >= 0] == list(enumerate(prompt.members))
    assert {count for counts in tokens.member_tokens for count in counts} == {1}


def test_a_member_of_several_tokens_is_marked_at_its_last(tokenizer):
    prompt = shown("1, xyzzy, one", "1", "xyzzy", "one")
    tokens = tokenized(tokenizer, prompt)
    pieces = tokenizer.convert_ids_to_tokens(tokens.ids[0].tolist())
    assert pieces == ["1", ",", "Ġ", "x", "y", "z", "z", "y", ",", "Ġone"]
    assert tokens.members[0].tolist() == [0, -1, -1, -1, -1, -1, -1, 1, -1, 2]
    assert tokens.member_tokens == ((1, 5, 1),)


@pytest.mark.parametrize("member", ["é", "naïveté", "日本", "😀"])
def test_a_member_that_ends_in_a_character_of_several_tokens_is_marked_once(tokenizer, member):
    tokens = tokenized(tokenizer, shown(f"{member},x", member))
    count = len(tokenizer(member)["input_ids"])
    assert tokens.member_tokens == ((count,),)
    assert tokens.members[0].tolist() == [-1] * (count - 1) + [0, -1, -1]


def test_only_the_place_that_the_span_names_is_marked(tokenizer):
    text = "1,1,1,"
    prompt = Prompt(text, values=(1,), members=("1",), spans=((2, 3),))
    assert tokenized(tokenizer, prompt).members[0].tolist() == [-1, -1, 0, -1, -1, -1]


@pytest.mark.parametrize(
    ("merges", "text", "members", "marked", "counts"),
    [
        (("1,",), "1,2,", ("1", "2"), [0, 1, -1], (0, 1)),
        ((",2",), "1,2,", ("1", "2"), [0, 1, -1], (1, 0)),
        (("12",), "12,", ("1",), [0, -1], (0,)),
        (("12",), "0,12", ("12",), [-1, -1, 0], (1,)),
        (("12",), "0,12", ("0", "12"), [0, -1, 1], (1, 1)),
        ((), "12,", ("12",), [-1, 0, -1], (2,)),
    ],
)
def test_a_member_in_one_token_with_its_neighbours_counts_as_none(merges, text, members, marked, counts):
    tokens = tokenized(merging(*merges), shown(text, *members))
    assert tokens.members[0].tolist() == marked
    assert tokens.member_tokens == (counts,)


def test_a_member_that_the_tokenizer_leaves_out_counts_as_none():
    backend = merging().backend_tokenizer
    backend.normalizer = normalizers.Replace("é", "")
    tokens = tokenized(PreTrainedTokenizerFast(tokenizer_object=backend), shown("1,é", "1", "é"))
    assert tokens.member_tokens == ((1, 0),)


def test_an_answer_s_tokens_are_what_it_adds_to_the_text(tokenizer):
    prompts = [shown("1,2,", answer=answer) for answer in ("3", "34", " three", "", "xyzzy")]
    tokens = tokenized(tokenizer, *prompts)
    assert ["".join(tokenizer.convert_ids_to_tokens(list(answer))) for answer in tokens.answers] == [
        "3",
        "34",
        "Ġthree",
        "",
        "xyzzy",
    ]
    assert [len(answer) for answer in tokens.answers] == [1, 2, 1, 0, 5]


@pytest.mark.parametrize(("answer", "ids"), [("3", (3,)), ("33", (3, 3)), ("2", ()), ("23", ())])
def test_an_answer_that_changes_the_text_s_tokens_has_none(answer, ids):
    assert tokenized(merging("12"), shown("0,1", answer=answer)).answers == (ids,)


@pytest.mark.parametrize("bos", [True, False])
def test_lengths_count_bos_and_arrays_do_not(tokenizer, bos):
    tokens = tokenize(Prompts.from_texts(["1,2", "1"]), tokenizer, bos=bos)
    assert tokens.lengths.tolist() == [3 + bos, 1 + bos]
    assert [len(ids) for ids in tokens.ids] == [len(members) for members in tokens.members] == [3, 1]
    assert tokens.bos == (tokenizer.bos_token_id if bos else None)


def test_bos_is_refused_of_a_tokenizer_that_has_none():
    with pytest.raises(InputError, match=r"this model's tokenizer has no BOS token; use --no-bos \(bos=False\)"):
        bos_token_id(merging(), bos=True)
    with pytest.raises(InputError, match="no BOS token"):
        tokenized(merging(), shown("1,"), bos=True)
    assert bos_token_id(merging(), bos=False) is None


def test_a_slow_tokenizer_is_refused():
    class SlowTokenizer:
        is_fast = False

    for slow in (SlowTokenizer(), None):
        with pytest.raises(InputError, match="slow tokenizer, which cannot say where a token stands in its text"):
            tokenized(slow, shown("1,"))


def test_a_prompt_that_becomes_no_token_is_refused():
    backend = Tokenizer(models.WordLevel({"one": 0, "?": 1}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="the tokenizer makes no token of the prompt '  '"):
        tokenized(PreTrainedTokenizerFast(tokenizer_object=backend), shown("one"), shown("  "))


def test_unusable_prompts_are_dropped_and_counted_by_reason(tokenizer):
    odd = Family("odd", ("cat", "dog", "xyzzy", "bird", "fish"))
    prompts = make_prompts(SequenceDesign((FAMILIES["days"], odd), frames=("list", "quote"), lengths=(2,), templates=3))
    kept, dropped = drop_unusable(tokenize(prompts, tokenizer, bos=True))
    usable = [p for p in prompts if "xyzzy" not in (*p.members, p.answer)]
    assert list(kept.prompts) == usable
    assert {tuple(row) for row in dropped.itertuples(index=False)} == {
        ("odd", "list", "increasing", "answer 'xyzzy' is 5 tokens", 1),
        ("odd", "list", "increasing", "member 'xyzzy' is 5 tokens", 2),
        ("odd", "quote", "increasing", "answer 'xyzzy' is 5 tokens", 3),
        ("odd", "quote", "increasing", "member 'xyzzy' is 5 tokens", 6),
    }
    alone = tokenize(kept.prompts, tokenizer, bos=True)  # what is kept has the tokens that it has by itself
    assert [ids.tolist() for ids in kept.ids] == [ids.tolist() for ids in alone.ids]
    assert [ids.tolist() for ids in kept.members] == [ids.tolist() for ids in alone.members]
    assert (kept.member_tokens, kept.answers, kept.bos) == (alone.member_tokens, alone.answers, alone.bos)
    assert list(dropped.columns) == ["family", "frame", "kind", "reason", "n_prompts"]
    assert len(kept.prompts) + dropped["n_prompts"].sum() == len(prompts)


def test_a_dropped_prompt_takes_its_pairs_along(tokenizer):
    odd = Family("odd", ("cat", "dog", "bird", "fish", "xyzzy", "bull", "hen"))
    prompts = make_prompts(SequenceDesign((FAMILIES["days"], odd), frames=("list",), lengths=(2,)))
    kept, _ = drop_unusable(tokenize(prompts, tokenizer, bos=True))
    assert [prompts[i].values for i, _ in prompts.pairs("days", "odd")] == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert [kept.prompts[i].values for i, _ in kept.prompts.pairs("days", "odd")] == [(1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (shown("1,2,", "1", answer="3"), "member '1' shares a token with its neighbours"),
        (shown("0,1", "0", answer="2"), "answer '2' merges with the text before it"),
        (shown("0,", "0", answer="34"), "answer '34' is 2 tokens"),
        (shown("34,", "34", answer="5"), "member '34' is 2 tokens"),
    ],
)
def test_every_reason_is_told(prompt, reason):
    usable = shown("0,", "0", answer="5", family="good")
    kept, dropped = drop_unusable(tokenized(merging("12", "1,"), prompt, usable))
    assert list(kept.prompts) == [usable]
    assert dropped["reason"].tolist() == [reason]


def test_a_user_s_own_texts_are_kept_whatever_their_tokens(tokenizer):
    own = [shown("xyzzy", "xyzzy", kind="own"), shown("1", answer="xyzzy", kind="own"), Prompt("plain")]
    prompts = Prompts((*own, shown("xyzzy,", "xyzzy", answer="1")))
    kept, dropped = drop_unusable(tokenize(prompts, tokenizer, bos=True))
    assert list(kept.prompts) == own
    assert dropped["n_prompts"].tolist() == [1]


def test_where_nothing_is_dropped_the_table_is_empty(tokenizer, prompts):
    kept, dropped = drop_unusable(tokenize(prompts, tokenizer, bos=True))
    assert kept.prompts == prompts
    assert (list(dropped.columns), len(dropped)) == (["family", "frame", "kind", "reason", "n_prompts"], 0)


def test_where_nothing_is_left_the_most_frequent_reason_is_told(tokenizer):
    several = [shown(f"{lead}xyzzy,", "xyzzy", answer="1", template=i) for i, lead in enumerate("abc", 1)]
    prompts = Prompts((shown("1,", "1", answer="plugh"), *several))
    message = r"no prompt is left: all 4 .*, for example member 'xyzzy' is 5 tokens in frame list; try frames without"
    with pytest.raises(InputError, match=message):
        drop_unusable(tokenize(prompts, tokenizer, bos=True))


@pytest.mark.parametrize("frame", ["quote", "list", "lines", "paren", "eq"])
def test_frames_without_a_space_keep_every_one_token_family_of_smollm2(smollm2_tokenizer, frame):
    prompts = in_frame(frame, "digits,numwords,months,days,letters,roman,control:0-5")
    kept, _ = drop_unusable(tokenize(prompts, smollm2_tokenizer, bos=True))
    assert kept.prompts == prompts


@pytest.mark.parametrize("frame", ["comma-space", "space", "done", "lost", "born"])
def test_frames_with_a_space_lose_smollm2_s_digits_and_nothing_else(smollm2_tokenizer, frame):
    prompts = in_frame(frame, "digits,numwords,months,days,letters,roman,control:0-5")
    kept, dropped = drop_unusable(tokenize(prompts, smollm2_tokenizer, bos=True))
    assert [prompt for prompt in prompts if prompt.family != "digits"] == list(kept.prompts)
    assert set(dropped["family"]) == {"digits"}


def test_a_text_that_brings_its_own_bos_is_refused_where_bos_is_put_before_it(tokenizer):
    prompts = Prompts.from_texts(["1,2,", "<|endoftext|>1,2,"])
    message = (
        r"^the prompt '<\|endoftext\|>1,2,' begins with the BOS token, which is put before every text: leave it out of "
        r"the text, or use --no-bos \(bos=False\)$"
    )
    with pytest.raises(InputError, match=message):
        tokenize(prompts, tokenizer, bos=True)
    plain, own = tokenize(prompts, tokenizer, bos=False).ids
    assert own.tolist() == [tokenizer.bos_token_id, *plain.tolist()]


def test_bos_further_on_is_a_token_like_others(tokenizer):
    assert tokenizer.bos_token_id in tokenize(Prompts.from_texts(["1,<|endoftext|>2"]), tokenizer, bos=True).ids[0]


@pytest.mark.parametrize("kind", sorted(AS_THEY_ARE))
def test_what_nobody_constructed_is_kept_whatever_its_tokens(tokenizer, kind):
    tokens = tokenized(
        tokenizer, Prompt("xyzzy plugh", kind=kind), shown("1,", "1", answer="2"), shown("xyzzy,", "xyzzy", template=1)
    )
    kept, dropped = drop_unusable(tokens)
    assert [prompt.kind for prompt in kept.prompts] == [kind, "made"]
    assert dropped["n_prompts"].tolist() == [1]
