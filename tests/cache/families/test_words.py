"""Words: one token each in the real model's vocabulary, and none that a family or another list holds."""

import pytest

from cache.families.controls import control_name, n_controls
from cache.families.family import FAMILIES, parse_families
from cache.families.words import CONTROL_CAPITALS, CONTROL_CHARACTERS, CONTROL_CLASSES, CONTROL_WORDS, NAMES, OBJECTS
from cache.models.tokens import token_faults, tokenize
from cache.prompts.sequences import SequenceDesign, make_prompts

SPACED = {"NAMES": NAMES, "OBJECTS": OBJECTS, **CONTROL_WORDS, **CONTROL_CAPITALS}
LISTS = {**SPACED, **CONTROL_CHARACTERS}
NO_SPACE = ("list", "lines", "quote", "paren", "eq")


@pytest.mark.parametrize("lead", ["", " "], ids=["bare", "with a space before"])
@pytest.mark.parametrize("name", SPACED)
def test_every_word_is_one_token_of_smollm2(smollm2_tokenizer, name, lead):
    ids = smollm2_tokenizer([lead + word for word in SPACED[name]], add_special_tokens=False)["input_ids"]
    assert [word for word, tokens in zip(SPACED[name], ids, strict=True) if len(tokens) != 1] == []


@pytest.mark.parametrize("token_class", CONTROL_CLASSES)
def test_every_control_is_one_token_a_member_in_every_frame_without_a_space(smollm2_tokenizer, token_class):
    names = [control_name(draw, token_class) for draw in range(n_controls(token_class))]
    families = parse_families([*names, "digits"])
    prompts = make_prompts(SequenceDesign(families, frames=NO_SPACE, lengths=(3,), templates=1))
    assert {reason for reason in token_faults(tokenize(prompts, smollm2_tokenizer, bos=False)) if reason} == set()


def test_no_word_stands_twice():
    words = [word for listed in LISTS.values() for word in listed]
    assert sorted(set(words)) == sorted(words)


def test_no_two_controls_have_a_word_in_common_but_for_its_case():
    words = [word.casefold() for pool in CONTROL_CLASSES.values() for listed in pool.values() for word in listed]
    assert sorted(set(words)) == sorted(words)


@pytest.mark.parametrize("name", LISTS)
def test_no_word_is_a_member_of_an_ordered_family(name):
    members = {member.casefold() for family in FAMILIES.values() for member in family.members}
    assert members.isdisjoint(word.casefold() for word in LISTS[name])


@pytest.mark.parametrize("name", SPACED)
def test_names_objects_and_capitals_have_capitals_and_control_words_have_none(name):
    assert {word[0].isupper() for word in SPACED[name]} == {name not in CONTROL_WORDS}
    assert {word[1:].islower() for word in SPACED[name]} == {True}


@pytest.mark.parametrize("name", CONTROL_CHARACTERS)
def test_characters_are_single_and_neither_digits_nor_plain_letters(name):
    assert {len(word) for word in CONTROL_CHARACTERS[name]} == {1}
    assert not any(word.isdigit() or (word.isascii() and word.isalpha()) for word in CONTROL_CHARACTERS[name])


@pytest.mark.parametrize("name", [name for name in LISTS if name not in ("NAMES", "OBJECTS")])
def test_a_control_category_covers_the_alphabet(name):
    assert len(LISTS[name]) >= 26
