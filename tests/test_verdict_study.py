"""The lists of `scripts/verdict_study.py`: what each is said to be, and one token a member in SmolLM2."""

import sys
from itertools import combinations
from pathlib import Path

import pytest

from cache import SequenceDesign
from cache.families.family import FAMILIES, parse_families, read_family
from cache.models.tokens import token_faults, tokenize
from cache.prompts.sequences import make_prompts

ROOT = Path(__file__).parents[1]
LISTS = {path.stem: read_family(path) for path in sorted((ROOT / "scripts" / "families").glob("*.txt"))}
SHORT = {"numwords_capital": 8, "roman_lower": 10, "months_short": 12}
WORDS = {"singular": "plural", "present": "past", "infinitive": "gerund"}


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import verdict_study
    finally:
        sys.path.pop(0)
    return verdict_study


def test_there_are_the_pairs_that_are_asked_for(script):
    kinds = [kind for study in script.STUDIES for kind in study.pairs.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"unrelated": 66, "ordered": 14, "unordered": 8}
    used = {family for study in script.STUDIES for family in study.families}
    assert used == set(LISTS) | {"digits", "numwords", "roman", "months", "letters"}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_has_eleven_members_but_for_those_that_have_not_so_many(name):
    assert len(LISTS[name].members) == SHORT.get(name, 11)


@pytest.mark.parametrize("name", LISTS)
def test_every_member_is_one_token_of_smollm2(smollm2_tokenizer, name):
    design = SequenceDesign((LISTS[name],), frames=("quote", "list", "lines"), lengths=(3,), templates=6)
    reasons = token_faults(tokenize(make_prompts(design), smollm2_tokenizer, bos=True))
    assert {reason for reason in reasons if reason} == set()


def test_unrelated_lists_share_no_word(script):
    for one, other in combinations(script.UNRELATED, 2):
        assert {m.casefold() for m in LISTS[one].members}.isdisjoint(m.casefold() for m in LISTS[other].members)


def test_unordered_pairs_share_no_word_with_one_another(script):
    words = [m.casefold() for pair in script.UNORDERED for m in LISTS[pair[0]].members]
    assert len(set(words)) == len(words)


def test_matched_lists_are_alike_at_each_place(smollm2_tokenizer):
    def places(name):
        return zip(LISTS[f"{name}_1"].members, LISTS[f"{name}_2"].members, strict=True)

    assert all(len(a) == len(b) for a, b in places("length"))
    assert all(a[0] == b[0] for a, b in places("letter"))
    rank = smollm2_tokenizer.get_vocab()
    assert all(abs(rank[a] / rank[b] - 1) < 0.07 for a, b in places("frequency"))
    for lists in ([len(a) for a, _ in places("length")], [rank[a] for a, _ in places("frequency")]):
        assert len(set(lists)) == 11
        assert lists not in (sorted(lists), sorted(lists, reverse=True))


def test_two_spellings_are_two_spellings_of_the_same_members(script):
    for one, other in (*script.ORDERED[1:3], *script.UNORDERED):
        a = LISTS[one].members if one in LISTS else FAMILIES[one].members
        b = LISTS[other].members
        if one in WORDS:
            assert all(y in (x + "s", x + "ed", x + "ing") for x, y in zip(a, b, strict=True))
        else:
            assert [x.casefold() for x in a[: len(b)]] == [x.casefold() for x in b]
    assert [m[:3] for m in FAMILIES["months"].members] == list(LISTS["months_short"].members)
    assert [m.upper() for m in LISTS["roman_lower"].members] == list(FAMILIES["roman"].members)
    assert [m.lower() for m in LISTS["numwords_capital"].members] == list(FAMILIES["numwords"].members[1:9])


def test_the_study_s_controls_stand_beside_its_lists(script):
    for study in script.STUDIES:
        families = parse_families([*script.dataset(study.families).split(","), script.CONTROLS])
        assert len(families) == len(study.families) + 20


def test_reordered_lists_end_at_the_increasing_ones_members(script):
    for study in script.STUDIES[1:]:
        prompts = script.prompts_of(study, "control:0", 2, "reordered:0-1")
        for family in study.reordered:
            lasts = {
                k: {p.values[-1] for p in prompts if (p.family, p.kind) == (family, k)}
                for k in ("increasing", "reordered:1")
            }
            assert lasts["reordered:1"] <= lasts["increasing"]
            assert len(lasts["reordered:1"]) >= 6
