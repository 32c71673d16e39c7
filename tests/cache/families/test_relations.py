"""Relations: as many words a side, one token each where they can be, and room for the controls beside them."""

from collections import Counter

import pytest

from cache.errors import InputError
from cache.families.relations import RELATIONS, Relation, Side, parse_relation
from cache.prompts.datasets import load_dataset

SEVERAL_TOKENS = ("languages", "scripts")


@pytest.mark.parametrize("name", RELATIONS)
def test_every_side_stands_in_every_text_beside_its_pairs(name):
    relation, prompts = RELATIONS[name], load_dataset(f"relation:{name}")
    first = relation.sides[0]
    assert len(prompts) == len(relation.texts) * len(relation.sides) * len(first.words)
    for side in relation.sides[1:]:
        both = [(prompts[i], prompts[j]) for i, j in prompts.pairs(first.family, side.family)]
        assert len(both) == len(relation.texts) * len(first.words)
        want = dict(zip(first.words, side.words, strict=True))
        for one, other in both:
            assert other.members == (want[one.members[0]],)
            (start, end), (other_start, other_end) = one.spans[0], other.spans[0]
            assert one.text[:start] == other.text[:other_start]
            assert one.text[end:] == other.text[other_end:]


@pytest.mark.parametrize("name", RELATIONS)
def test_twenty_controls_stand_in_the_texts_of_every_relation(name):
    relation, prompts = RELATIONS[name], load_dataset(f"relation:{name},control:0-19")
    count = Counter(prompt.family for prompt in prompts)
    assert {count[f"control:{i}"] for i in range(20)} == {len(relation.texts) * len(relation.sides[0].words)}


@pytest.mark.parametrize("name", [name for name in RELATIONS if name not in SEVERAL_TOKENS])
def test_words_and_answers_are_one_token_of_smollm2(smollm2_tokenizer, name):
    sides = RELATIONS[name].sides
    texts = [f" {word}" for side in sides for word in side.words] + [
        answer for side in sides for answer in side.answers
    ]
    ids = smollm2_tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert [text for text, tokens in zip(texts, ids, strict=True) if len(tokens) != 1] == []


def test_relations_stand_beside_each_other_and_are_not_matched():
    prompts = load_dataset("relation:plural,relation:gender")
    assert {prompt.family for prompt in prompts} == {"singular", "plural", "male", "female"}
    assert len(prompts.pairs("singular", "plural")) == 36
    assert len(prompts.pairs("singular", "male")) == 0


def test_a_relation_stands_beside_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.csv").write_text("text,family,pair\nso hot,hot,1\nso cold,cold,1\n")
    prompts = load_dataset(f"relation:plural,{tmp_path / 'mine.csv'}")
    assert len(prompts.pairs("hot", "cold")) == 1
    assert len(prompts.pairs("singular", "plural")) == 36


def test_the_answer_of_a_word_is_its_opposite():
    word, opposite = RELATIONS["antonyms"].sides
    assert [word.answer(k) for k in range(len(word.words))] == [f" {one}" for one in opposite.words]
    assert [opposite.answer(k) for k in range(len(word.words))] == [f" {one}" for one in word.words]


def test_answers_are_one_a_word_or_one_for_all():
    assert [Side("a", ("x", "y"), answers).answer(1) for answers in ((), (" z",), (" u", " v"))] == ["", " z", " v"]


@pytest.mark.parametrize(
    ("sides", "text", "message"),
    [
        ((("a", "b"), ("c",)), "{}", "as many words as each other"),
        ((("a", "a"), ("c", "d")), "{}", "all different"),
        ((("a", "b"), ("c", "d")), "no place", "needs one {}"),
    ],
)
def test_what_is_no_relation_is_refused(sides, text, message):
    with pytest.raises(InputError, match="no answer, one for all words, or one a word"):
        Relation("mine", (Side("a", ("x", "y", "z"), (" u", " v")),), ("{}",))
    with pytest.raises(InputError, match=message):
        Relation("mine", tuple(Side(str(i), words) for i, words in enumerate(sides)), (text,))


def test_a_relation_that_is_not_there_is_refused_and_the_nearest_named():
    with pytest.raises(InputError, match=r"^no relation 'plurals'; known are plural, and a file with a column pair"):
        parse_relation("relation:plurals")
    with pytest.raises(InputError, match=r"^no relation 'x'; known are plural, gender"):
        load_dataset("relation:x")
