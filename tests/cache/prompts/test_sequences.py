"""Sequences: every label follows from how the prompt was made, checked by arithmetic on what is shown."""

import os
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from cache import SequenceDesign, load_dataset
from cache.errors import InputError
from cache.families.family import FAMILIES, Family, parse_families
from cache.prompts.frames import FRAMES
from cache.prompts.prompt import Prompt, Prompts
from cache.prompts.sequences import make_prompts

RULED = ("increasing", "decreasing", "step:2", "step:-3", "repeated", "copy", "wrap")
UNRULED = ("permuted", "shuffled-same-last", "random")
EVERY_FAMILY = [*FAMILIES, "control:0"]
ITEMS = {
    "list": r"(\w+),",
    "lines": r"(\w+):\n",
    "quote": r'\w+ done in "(\w+)"\.',
    "paren": r"\w+ \((\w+)\),",
    "eq": r"\w+=(\w+);",
    "comma-space": r"(\w+),",
    "space": r"(\w+)",
    "done": r"\w+ done in (\w+)\.",
    "lost": r"\w+ lost in (\w+)\.",
    "born": r"\w+ born in (\w+)\.",
}
TEMPLATE_WORD = r"(\w+)(?= done in| lost in| born in| \(|=)"
IN_A_FRESH_PROCESS = """
import hashlib
from cache import SequenceDesign, load_dataset
from cache.families.family import FAMILIES
kinds = ("increasing", "permuted", "shuffled-same-last", "copy", "wrap")
design = SequenceDesign((FAMILIES["digits"],), kinds=kinds, sample=40, seed=5)
print(hashlib.sha256(repr(load_dataset("digits,months,control:0-2", design)).encode()).hexdigest(), end="")
"""


def made(families: str = "digits", **fields) -> Prompts:
    """Prompts in the frame `list` unless another is asked for."""
    return make_prompts(SequenceDesign(parse_families(families.split(",")), **{"frames": ("list",), **fields}))


def numbers(prompt: Prompt) -> tuple[list[int], int, int]:
    """Shown digits, answer and distractor as numbers, read off the prompt's words."""
    return [int(member) for member in prompt.members], int(prompt.answer), int(prompt.distractor)


# every prompt


@pytest.mark.parametrize("kind", [*RULED, *UNRULED, "reordered:4"])
def test_every_prompt_shows_its_members_where_its_spans_say(kind):
    length = {"step:-3": 2, "step:2": 3}.get(kind, 4)
    prompts = made(",".join(EVERY_FAMILY), kinds=(kind,), frames=tuple(FRAMES), lengths=(length,), templates=1)
    assert {prompt.frame for prompt in prompts} == set(FRAMES)
    assert {prompt.family for prompt in prompts} == ({"months", "days"} if kind == "wrap" else set(EVERY_FAMILY))
    families = {family.name: family for family in parse_families(EVERY_FAMILY)}
    for prompt in prompts:
        found = list(re.finditer(ITEMS[prompt.frame], prompt.text))
        assert prompt.members == tuple(match[1] for match in found)
        assert prompt.spans == tuple(match.span(1) for match in found)
        family = families[prompt.family]
        assert prompt.members == tuple(family.members[value - family.first] for value in prompt.values)


def test_a_quoted_prompt_reads_so():
    prompt = made(frames=("quote",), lengths=(1,), starts=(1,), templates=1)[0]
    van, hat = re.findall(TEMPLATE_WORD, prompt.text)
    assert prompt.text == f'{van} done in "1". {hat} done in "'
    assert (prompt.answer, prompt.distractor, prompt.values) == ("2", "1", (1,))


@pytest.mark.parametrize("kind", [*RULED, *UNRULED, "reordered:4"])
@pytest.mark.parametrize("frame", FRAMES)
def test_answer_and_distractor_are_two_members_led_as_the_frame_leads_them(kind, frame):
    for prompt in made("months", kinds=(kind,), frames=(frame,), lengths=(3,)):
        assert prompt.answer != prompt.distractor
        for word in (prompt.answer, prompt.distractor):
            lead = " " if frame in ("comma-space", "space", "done", "lost", "born") else ""
            assert word.startswith(lead)
            assert word.removeprefix(lead) in FAMILIES["months"].members


# kinds with a rule


@pytest.mark.parametrize(
    ("kind", "step"), [("increasing", 1), ("decreasing", -1), ("step:2", 2), ("step:+2", 2), ("step:-3", -3)]
)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_constant_difference_goes_on_in_the_answer_and_the_distractor_is_the_last_shown(kind, step, length):
    prompts = made(kinds=(kind,), lengths=(length,))
    for shown, answer, distractor in map(numbers, prompts):
        assert [after - before for before, after in pairwise([*shown, answer])] == [step] * length
        assert distractor == shown[-1]
    fitting = [start for start in range(10) if 0 <= start + step * length <= 9]
    assert [prompt.values[0] for prompt in prompts] == fitting


def test_a_repeated_member_is_its_own_answer_against_its_successor_or_at_the_end_its_predecessor():
    seen = {tuple(shown): (answer, wrong) for shown, answer, wrong in map(numbers, made(kinds=("repeated",)))}
    assert seen == {(digit,) * 4: (digit, digit + 1 if digit < 9 else 8) for digit in range(10)}


@pytest.mark.parametrize("kind", ["repeated", "copy"])
def test_in_a_cycle_the_last_member_too_is_set_against_its_successor(kind):
    assert ("December", "January") in {(prompt.answer, prompt.distractor) for prompt in made("months", kinds=(kind,))}


@pytest.mark.parametrize("length", [3, 4, 5, 6])
def test_a_copy_shows_pairs_and_wants_the_second_of_the_last_one(length):
    prompts = made(kinds=("copy",), lengths=(length,))
    for shown, answer, distractor in map(numbers, prompts):
        whole = [*shown, answer] if length % 2 else [shown[0], *shown, answer]
        assert whole[::2] == whole[1::2]
        assert len(set(whole)) == len(whole) // 2
        assert answer == shown[-1] == max(shown)
        assert distractor == (answer + 1 if answer < 9 else 8)
    assert [prompt.values[-1] for prompt in prompts] == list(range(length - 1, 10))


def test_a_copy_needs_three_members():
    with pytest.raises(InputError, match=r"no window of length \(2,\) and kind copy fits digits"):
        made(kinds=("copy",), lengths=(2,))


@pytest.mark.parametrize(("family", "size"), [("months", 12), ("days", 7)])
def test_a_wrap_goes_on_over_the_end_of_the_cycle(family, size):
    prompts = made(family, kinds=("wrap",), lengths=(3,))
    members = FAMILIES[family].members
    for prompt in prompts:
        places = [members.index(word) for word in (*prompt.members, prompt.answer)]
        assert [(after - before) % size for before, after in pairwise(places)] == [1, 1, 1]
        assert places != sorted(places)
        assert prompt.distractor == prompt.members[-1]
        assert prompt.values == tuple(place + 1 for place in places[:-1])
    assert [prompt.values[0] for prompt in prompts] == [size - 2, size - 1, size]


def test_a_wrap_shows_no_member_twice():
    with pytest.raises(InputError, match=r"no window of length \(7,\) and kind wrap fits days"):
        made("days", kinds=("wrap",), lengths=(7,))
    assert {len(set(p.members)) for p in made("days", kinds=("wrap",), lengths=(6,))} == {6}


def test_only_cyclic_families_wrap_and_only_when_asked_to():
    assert {prompt.family for prompt in made("digits,months,letters,days", kinds=("wrap",))} == {"months", "days"}
    for prompt in made("months,days", kinds=("increasing", "decreasing", "copy", "repeated", "permuted")):
        members = FAMILIES[prompt.family].members
        assert sorted(prompt.members, key=members.index) == [members[v - 1] for v in sorted(prompt.values)]
        if prompt.kind == "increasing":
            assert members.index(prompt.answer) == members.index(prompt.members[-1]) + 1


# reordered lists


@pytest.mark.parametrize("starts", [None, (1, 3, 4)])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_reordered_window_ends_where_the_increasing_one_does_in_the_families_common_ordinals(length, starts):
    fields = {"lengths": (length,), "frames": ("quote", "list"), "starts": starts}
    prompts = made("digits,numwords,months", kinds=("reordered:0-2",), **fields)
    increasing = {p.values[-1] for p in made("digits,numwords,months", **fields)}
    common = {last for last in increasing if length <= last < 9}
    for family in ("digits", "numwords", "months"):
        for kind in ("reordered:0", "reordered:1", "reordered:2"):
            for frame in ("quote", "list"):
                mine = [p for p in prompts if (p.family, p.kind, p.frame) == (family, kind, frame)]
                assert [p.values[-1] for p in mine if p.template == 0] == sorted(common)


def test_reordered_windows_are_pieces_of_one_circle_whose_next_member_is_the_answer():
    prompts = made("digits,months", kinds=("reordered:5",), lengths=(4,), frames=("quote",))
    follows = {}
    for prompt in (p for p in prompts if p.family == "digits"):
        shown = [*prompt.values, int(prompt.answer)]
        assert len(set(shown)) == 5
        assert prompt.distractor == prompt.members[-1]
        for before, after in pairwise(shown):
            assert follows.setdefault(before, after) == after
    assert len(set(follows.values())) == len(follows)


def test_reordered_families_stay_aligned_by_the_word_shown():
    prompts = made("digits,numwords,months,control:0", kinds=("reordered:0-4",), lengths=(3,))
    digits = [p for p in prompts if p.family == "digits"]
    assert len(digits) == 5 * 6
    for family in ("numwords", "months", "control:0"):
        assert len(prompts.pairs("digits", family)) == len(digits)
    for prompt in digits:
        assert prompt.values == tuple(map(int, prompt.members))


def test_the_order_is_the_same_in_every_template_frame_and_length_and_another_with_another_seed():
    fields = {"kinds": ("reordered:7",), "frames": ("list", "quote", "eq"), "templates": 3}
    prompts = made("digits", **fields, lengths=(2, 3))
    before = {(p.values[-1], p.values[-2]) for p in prompts}
    assert len(before) == len({p.values[-1] for p in prompts})
    assert before != {(p.values[-1], p.values[-2]) for p in made("digits", **fields, seed=1, lengths=(2, 3))}


def test_kinds_named_twice_are_made_once():
    prompts = made("digits", kinds=("reordered:0-3", "reordered:2", "increasing", "reordered:3-4"))
    assert list(dict.fromkeys(p.kind for p in prompts)) == [
        *(f"reordered:{k}" for k in range(4)),
        "increasing",
        "reordered:4",
    ]


# kinds without one


@pytest.mark.parametrize("kind", UNRULED)
@pytest.mark.parametrize("length", [3, 4, 5])
def test_without_a_rule_no_member_is_shown_twice_and_the_order_is_not_the_increasing_one(kind, length):
    for prompt in made("digits,letters", kinds=(kind,), lengths=(length,)):
        assert len(set(prompt.values)) == length
        assert any(after != before + 1 for before, after in pairwise(prompt.values))


@pytest.mark.parametrize("kind", ["permuted", "shuffled-same-last"])
@pytest.mark.parametrize("length", [3, 4, 8, 9])
def test_a_permuted_or_shuffled_window_has_the_increasing_one_s_members_answer_and_starts(kind, length):
    prompts = made("letters", kinds=(kind,), lengths=(length,))
    labels = [(tuple(sorted(prompt.values)), prompt.answer) for prompt in prompts]
    assert labels == [(p.values, p.answer) for p in made("letters", lengths=(length,))]
    assert {prompt.distractor == prompt.members[-1] for prompt in prompts} == {True}


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_permuted_ends_on_another_member_than_the_one_before_the_answer(length):
    for seed in range(5):
        for shown, answer, _ in map(numbers, made(kinds=("permuted",), lengths=(length,), seed=seed)):
            assert shown[-1] != answer - 1
            assert shown[-1] != answer


@pytest.mark.parametrize("length", [3, 4, 5])
def test_shuffled_same_last_ends_as_increasing_does(length):
    for seed in range(5):
        for shown, answer, _ in map(numbers, made(kinds=("shuffled-same-last",), lengths=(length,), seed=seed)):
            assert shown[-1] == answer - 1
            assert shown != sorted(shown)


@pytest.mark.parametrize("kind", ["permuted", "shuffled-same-last"])
def test_different_templates_and_windows_are_shuffled_differently(kind):
    prompts = made("letters", kinds=(kind,), frames=("quote",), lengths=(6,), templates=4)
    orders = {tuple(value - min(prompt.values) for value in prompt.values) for prompt in prompts}
    assert len(orders) > 20


@pytest.mark.parametrize(("length", "n_seeds"), [(1, 1), (2, 1), (4, 5), (5, 5)])
def test_a_random_sequence_suggests_neither_its_answer_nor_one_of_its_own(length, n_seeds):
    for seed in range(n_seeds):
        for prompt in made("digits", kinds=("random",), lengths=(length,), seed=seed):
            shown, answer, distractor = numbers(prompt)
            assert answer not in shown
            assert shown[-1] == distractor != answer - 1
            assert shown[-2:] != [shown[-1] - 1, shown[-1]]


@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_random_sequence_is_labelled_with_the_answer_of_the_increasing_one_and_the_same_in_all_families(start):
    prompts = made("digits,numwords,months,control:0", kinds=("random",), frames=("quote", "list"), starts=(start,))
    for family in parse_families("digits,numwords,months".split(",")):
        mine = [prompt for prompt in prompts if prompt.family == family.name]
        assert {prompt.answer for prompt in mine} == {family.member(start + 4)}
        assert len(mine) == 5
        assert len(prompts.pairs("control:0", family.name)) == 5


@pytest.mark.parametrize(("length", "n_seeds"), [(2, 1), (3, 3), (4, 10)])
def test_every_window_has_a_random_sequence_of_its_own(length, n_seeds):
    for seed in range(n_seeds):
        prompts = made("digits,numwords,months", kinds=("random",), lengths=(length,), seed=seed)
        for family in ("digits", "numwords", "months"):
            shown = {prompt.answer: prompt.values for prompt in prompts if prompt.family == family}
            assert set(shown) == {p.answer for p in made(family, lengths=(length,))}
            assert len(set(shown.values())) == len(shown)


@pytest.mark.parametrize(("kind", "length"), [("permuted", 3), ("permuted", 4), ("random", 3), ("random", 4)])
def test_without_a_rule_there_is_no_constant_difference_either(kind, length):
    for seed in range(5):
        for prompt in made("digits,letters", kinds=(kind,), lengths=(length,), seed=seed):
            assert len({after - before for before, after in pairwise(prompt.values)}) > 1


@pytest.mark.parametrize("kind", UNRULED)
def test_a_family_of_any_length_is_shown_to_its_end(kind):
    many = Family("many", tuple(f"word{i}" for i in range(300)))
    prompts = make_prompts(SequenceDesign((many,), frames=("list",), kinds=(kind,), starts=(1, 290)))
    assert [prompt.answer for prompt in prompts] == ["word4", "word293"]


@pytest.mark.parametrize("length", [1, 2])
def test_orders_are_drawn_for_the_windows_there_are(monkeypatch, length):
    draws, generator = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: draws.append(seed) or generator(seed))
    prompts = made("digits,numwords", kinds=("random",), lengths=(length,))
    assert len(draws) <= 50 * len(prompts)


# two families in turn


def test_mixed_shows_two_families_in_turn_both_ways_round():
    prompts = made("digits,numwords,control:0", kinds=("mixed",), lengths=(3,), starts=(1,))
    assert [(p.family, p.text, p.answer, p.distractor) for p in prompts] == [
        ("digits+numwords", "1,two,3,", "four", "4"),
        ("numwords+digits", "one,2,three,", "4", "four"),
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_the_answer_of_mixed_is_of_the_family_whose_turn_it_is(length):
    families = {name: FAMILIES[name] for name in ("digits", "months", "letters")}
    prompts = made(",".join(families), kinds=("mixed",), lengths=(length,))
    assert len({prompt.family for prompt in prompts}) == 6
    for prompt in prompts:
        turns = [families[name] for name in prompt.family.split("+")] * 4
        words = [*prompt.members, prompt.answer]
        start = prompt.values[0]
        assert prompt.values == tuple(range(start, start + length))
        assert words == [family.member(start + i) for i, family in enumerate(turns[: length + 1])]
        assert prompt.distractor == turns[length + 1].member(start + length)


@pytest.mark.parametrize(("families", "count"), [("digits", 1), ("control:0-3", 0), ("months,control:0-3", 1)])
def test_mixed_needs_two_families_with_an_order(families, count):
    with pytest.raises(InputError, match=f"kind mixed needs two families that are not controls; got {count}"):
        made(families, kinds=("mixed",))


# the design


def test_the_default_design_holds_every_window_four_times_quoted_and_once_listed():
    counts = {"digits": 6, "numwords": 7, "months": 8}
    prompts = load_dataset(",".join(counts))
    for family, windows in counts.items():
        frames = [prompt.frame for prompt in prompts if prompt.family == family]
        assert (frames.count("quote"), frames.count("list"), len(frames)) == (4 * windows, windows, 5 * windows)


def test_a_template_has_the_same_words_in_every_family_kind_start_and_length():
    prompts = made(
        "digits,months,control:1",
        kinds=("increasing", "permuted", "mixed"),
        frames=("quote", "eq", "lost"),
        lengths=(3, 5),
        templates=3,
    )
    words = {template: set() for template in range(3)}
    for prompt in prompts:
        found = re.findall(TEMPLATE_WORD, prompt.text)
        assert len(found) == len(prompt.members) + 1
        words[prompt.template].add(tuple(found[:4]))
    assert [len(found) for found in words.values()] == [1, 1, 1]
    assert len(set.union(*words.values())) == 3


@pytest.mark.parametrize("frame", ["quote", "born"])
def test_no_name_or_object_stands_twice_in_a_prompt(frame):
    for prompt in made("letters", frames=(frame,), lengths=(24,), templates=20):
        words = re.findall(TEMPLATE_WORD, prompt.text)
        assert len(set(words)) == len(words) == 25


def test_frames_without_words_have_one_template():
    prompts = made(frames=("list", "lines", "quote"), templates=5, starts=(1,))
    assert [(p.frame, p.template) for p in prompts] == [("list", 0), ("lines", 0), *(("quote", t) for t in range(5))]


@pytest.mark.parametrize("kind", [*RULED, "permuted", "shuffled-same-last"])
def test_a_prompt_does_not_depend_on_what_else_is_asked_for(kind):
    lone = made("months", kinds=(kind,), frames=("quote",), lengths=(3,), starts=(4, 10), templates=2)
    kinds = tuple({kind: None, "increasing": None, "copy": None})
    whole = made(
        "digits,months,control:0,days", kinds=kinds, frames=("list", "quote"), lengths=(3, 5), starts=None, templates=3
    )
    assert set(lone) <= set(whole)


def test_starts_limit_the_windows_to_those_that_are_there():
    assert [prompt.values[0] for prompt in made(starts=(5, 2, 2, 6, -1, 30))] == [2, 5]


def test_a_window_needs_room_for_its_answer():
    assert [prompt.values for prompt in made("days", lengths=(6,))] == [(1, 2, 3, 4, 5, 6)]
    with pytest.raises(InputError, match=r"no window of length \(7,\) and kind increasing fits days; try a shorter"):
        made("days", lengths=(7,))


def test_a_family_too_short_for_a_length_leaves_it_to_the_others():
    prompts = made("days,letters", lengths=(4, 9))
    assert {(prompt.family, len(prompt.members)) for prompt in prompts} == {("days", 4), ("letters", 4), ("letters", 9)}


def test_a_sample_keeps_the_same_pair_keys_in_every_family():
    fields = {"starts": (1, 2, 3, 4), "kinds": ("increasing", "permuted"), "frames": ("quote",), "templates": 5}
    whole = made("digits,numwords,months", **fields)
    sampled = made("digits,numwords,months", **fields, sample=7)
    keys = {name: {p.pair_key for p in sampled if p.family == name} for name in ("digits", "numwords", "months")}
    assert len(sampled) == 21
    assert len(keys["digits"]) == 7
    assert keys["digits"] == keys["numwords"] == keys["months"]
    assert [prompt for prompt in whole if prompt.pair_key in keys["digits"]] == list(sampled)


def test_a_sample_larger_than_what_there_is_keeps_all():
    assert made(sample=1000).items == made().items


def test_samples_of_different_seeds_differ():
    fields = {"frames": ("list",), "sample": 5}
    texts = [tuple(prompt.text for prompt in made("letters", **fields, seed=seed)) for seed in range(5)]
    assert len(set(texts)) == 5


def test_another_seed_draws_other_words_and_orders():
    prompts = [
        made(frames=("quote",), kinds=("permuted",), starts=(1,), templates=1, seed=seed)[0] for seed in range(6)
    ]
    assert len({tuple(re.findall(TEMPLATE_WORD, prompt.text)) for prompt in prompts}) == 6
    assert len({prompt.values for prompt in prompts}) > 2


def test_prompts_keep_the_seed_that_made_them():
    assert made(seed=11).seed == 11


def test_the_same_seed_makes_the_same_prompts_in_every_process():
    hashes = {
        subprocess.run(
            [sys.executable, "-c", IN_A_FRESH_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4711")
    }
    assert [len(digest) for digest in hashes] == [64]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": ("list", "quotes")}, "no frame 'quotes'; known are list, lines, quote"),
        ({"kinds": ("rising",)}, "no kind 'rising'; known are increasing, .*, step:K .* and mixed"),
        ({"kinds": ("step:0",)}, "no kind 'step:0'"),
        (
            {"kinds": ("reordered",)},
            "no kind 'reordered'; known are .*, reordered:K .such as .*0-19. and mixed",
        ),
        ({"kinds": ("reordered:-1",)}, "no kind 'reordered:-1'"),
        ({"kinds": ("reordered:1-",)}, "no kind 'reordered:1-'"),
        ({"kinds": ("reordered:5-3",)}, "a range of orders runs upwards, as in reordered:0-19; got reordered:5-3"),
        ({"kinds": ("reordered:0-100",)}, "there are reordered:0 to reordered:99; got reordered:0-100"),
        ({"kinds": ("step:",)}, "no kind 'step:'"),
        ({"kinds": ("step:--2",)}, "no kind 'step:--2'"),
        ({"kinds": ("step:²",)}, "no kind 'step:²'"),
        ({"kinds": ("step:two",)}, "no kind 'step:two'"),
        ({"kinds": ("increasing", "step")}, "no kind 'step'"),
        ({"families": ()}, "families must name at least one; got none"),
        ({"frames": ()}, "frames must name at least one; got none"),
        ({"kinds": ()}, "kinds must name at least one; got none"),
        ({"lengths": ()}, "lengths must name at least one; got none"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1"),
        ({"lengths": (4, 0)}, r"lengths must be 1 to 49 members; got \(4, 0\)"),
        ({"lengths": (50,)}, r"lengths must be 1 to 49 members; got \(50,\)"),
        ({"frames": ("quote",), "lengths": (55,)}, r"lengths must be 1 to 54 members; got \(55,\)"),
        ({"templates": 0}, "templates must be 1 or more; got 0"),
        ({"sample": 0}, "sample must be 1 or more; got 0"),
        ({"sample": -3}, "sample must be 1 or more; got -3"),
    ],
)
def test_a_design_that_cannot_be_is_refused_before_anything_is_made(fields, message):
    with pytest.raises(InputError, match=message):
        SequenceDesign(**{"families": (FAMILIES["digits"],), **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"starts": (20,)}, r"no window of length \(4,\) and kind increasing fits digits; try .* other starts"),
        ({"lengths": (10, 11)}, r"no window of length \(10, 11\) and kind increasing fits digits"),
        ({"kinds": ("wrap",)}, r"no window of length \(4,\) and kind wrap fits digits"),
        ({"kinds": ("step:5", "step:-4")}, r"kind step:5, step:-4 fits digits"),
        ({"kinds": ("shuffled-same-last",), "lengths": (2,)}, "kind shuffled-same-last fits digits"),
        ({"kinds": ("permuted",), "lengths": (1,)}, "kind permuted fits digits"),
        ({"kinds": ("random",), "lengths": (9,)}, "kind random fits digits"),
        ({"kinds": ("reordered:0",), "lengths": (10,)}, "kind reordered:0 fits digits"),
        ({"kinds": ("reordered:0",), "families": (Family("two", tuple("ab")),), "lengths": (1,)}, "fits two"),
        (
            {"kinds": ("reordered:0-5",), "families": (Family("four", tuple("abcd")),), "lengths": (2,)},
            "the 4 ordinals that the families have in common stand in 5 orders besides .*; got reordered:5",
        ),
    ],
)
def test_a_design_without_any_window_says_so(fields, message):
    design = SequenceDesign(**{"families": (FAMILIES["digits"],), "frames": ("list",), **fields})
    with pytest.raises(InputError, match=message):
        make_prompts(design)
