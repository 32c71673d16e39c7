"""Frames: the texts, letter by letter, and the law that an answer continues its frame."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.families.words import NAMES, OBJECTS
from cache.prompts.frames import FRAMES

WORDS = ("Van", "Car", "Hat", "Pen", "Box", "Cup", "Map")

members = st.lists(st.text(min_size=1), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("frame", "one", "two"),
    [
        ("list", "1,", "1,2,"),
        ("lines", "1:\n", "1:\n2:\n"),
        ("quote", 'Van done in "1". Car done in "', 'Van done in "1". Car done in "2". Hat done in "'),
        ("paren", "Van (1), Car (", "Van (1), Car (2), Hat ("),
        ("eq", "Van=1; Car=", "Van=1; Car=2; Hat="),
        ("comma-space", "1,", "1, 2,"),
        ("space", "1", "1 2"),
        ("done", "Van done in 1. Car done in", "Van done in 1. Car done in 2. Hat done in"),
        ("lost", "Van lost in 1. Car lost in", "Van lost in 1. Car lost in 2. Hat lost in"),
        ("born", "Van born in 1. Car born in", "Van born in 1. Car born in 2. Hat born in"),
    ],
)
def test_a_frame_s_text_is_this(frame, one, two):
    assert FRAMES[frame].compose(["1"], WORDS)[0] == one
    assert FRAMES[frame].compose(["1", "2"], WORDS)[0] == two


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@given(shown=members)
@settings(deadline=None)
def test_every_span_is_its_member_whatever_characters_it_has(frame, shown):
    text, spans = frame.compose(shown, WORDS)
    assert [text[start:end] for start, end in spans] == shown
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@given(shown=members)
@settings(deadline=None)
def test_an_answer_continues_its_frame(frame, shown):
    """A text with its lead and its answer is where the frame with one more member begins."""
    *before, answer = ["0", *shown]
    text, _ = frame.compose(before, WORDS)
    longer, spans = frame.compose([*before, answer], WORDS)
    assert longer.startswith(text + frame.answer_lead + answer)
    assert spans[-1] == (len(text + frame.answer_lead), len(text + frame.answer_lead + answer))


@pytest.mark.parametrize("name", FRAMES)
def test_only_these_frames_have_no_space_before_a_member(name):
    text, spans = FRAMES[name].compose(["1", "2"], WORDS)
    assert (text[spans[1][0] - 1] != " ") == (name in ("quote", "list", "lines", "paren", "eq"))


@pytest.mark.parametrize("name", FRAMES)
def test_the_published_birth_frame_has_names_and_the_others_objects_or_none(name):
    expected = {"born": NAMES, "list": (), "lines": (), "comma-space": (), "space": ()}
    assert FRAMES[name].words == expected.get(name, OBJECTS)


@pytest.mark.parametrize("name", FRAMES)
def test_a_text_ends_without_a_space_so_that_the_answer_s_token_can_have_it(name):
    assert not FRAMES[name].compose(["1", "2"], WORDS)[0].endswith(" ")
