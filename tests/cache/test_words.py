"""Words: one token each in the real model's vocabulary, and none that a family or another list holds."""

import pytest

from cache.errors import NotAvailableError
from cache.families import FAMILIES
from cache.words import CONTROL_WORDS, NAMES, OBJECTS

LISTS = {"NAMES": NAMES, "OBJECTS": OBJECTS, **CONTROL_WORDS}


@pytest.fixture(scope="module")
def smollm2_tokenizer():
    from transformers import AutoTokenizer

    from cache.gguf import convert_once, demo_gguf

    try:
        gguf = demo_gguf()
    except NotAvailableError as error:
        pytest.skip(str(error))
    return AutoTokenizer.from_pretrained(convert_once(gguf), local_files_only=True)


@pytest.mark.parametrize("lead", ["", " "], ids=["bare", "with a space before"])
@pytest.mark.parametrize("name", LISTS)
def test_every_word_is_one_token_of_smollm2(smollm2_tokenizer, name, lead):
    ids = smollm2_tokenizer([lead + word for word in LISTS[name]], add_special_tokens=False)["input_ids"]
    assert [word for word, tokens in zip(LISTS[name], ids, strict=True) if len(tokens) != 1] == []


def test_no_word_stands_twice():
    words = [word for listed in LISTS.values() for word in listed]
    assert sorted(set(words)) == sorted(words)


@pytest.mark.parametrize("name", LISTS)
def test_no_word_is_a_member_of_an_ordered_family(name):
    members = {member.casefold() for family in FAMILIES.values() for member in family.members}
    assert members.isdisjoint(word.casefold() for word in LISTS[name])


@pytest.mark.parametrize("name", LISTS)
def test_names_and_objects_have_capitals_and_control_words_have_none(name):
    assert {word[0].isupper() for word in LISTS[name]} == {name in ("NAMES", "OBJECTS")}


def test_a_control_category_covers_a_year():
    assert min(len(words) for words in CONTROL_WORDS.values()) > 12
