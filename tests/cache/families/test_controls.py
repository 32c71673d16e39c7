"""Controls: a word depends on draw and ordinal alone, and no two draws have the same word at the same place."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError
from cache.families.controls import Draws, control_members, control_name, is_draw, n_controls, parse_draws
from cache.families.words import CONTROL_CLASSES

CLASSES = list(CONTROL_CLASSES)
any_draw = st.sampled_from(CLASSES).flatmap(lambda c: st.tuples(st.just(c), st.integers(0, n_controls(c) - 1)))


@pytest.mark.parametrize("token_class", CLASSES)
def test_no_two_draws_have_the_same_word_at_the_same_place(token_class):
    every = range(n_controls(token_class))
    draws = [control_members(draw, every, token_class) for draw in every]
    for one, other in combinations(draws, 2):
        assert not any(a == b for a, b in zip(one, other, strict=False))


def test_there_are_sixty_controls_and_twenty_of_every_class():
    assert {token_class: n_controls(token_class) for token_class in CLASSES} == {
        "words": 189,
        "capitals": 112,
        "characters": 54,
    }


@given(any_draw, st.integers(0, 60), st.integers(2, 40), st.integers(0, 60), st.integers(2, 40))
def test_a_member_depends_on_the_draw_and_its_ordinal_alone(which, start, length, other_start, other_length):
    token_class, draw = which
    one = control_members(draw, range(start, start + length), token_class)
    other = control_members(draw, range(other_start, other_start + other_length), token_class)
    known = dict(zip(range(start, start + length), one, strict=False))
    assert all(
        known.get(o, m) == m for o, m in zip(range(other_start, other_start + other_length), other, strict=False)
    )


@given(any_draw, st.integers(0, 60), st.integers(2, 250))
def test_a_draw_has_different_words_of_one_category_after_the_other(which, start, length):
    token_class, draw = which
    categories = list(CONTROL_CLASSES[token_class].values())
    size = min(map(len, categories))
    members = control_members(draw, range(start, start + length), token_class)
    for ordinal, member in enumerate(members, start):
        assert member in categories[(draw + ordinal // size) % len(categories)]
    assert len(set(members)) == len(members) == min(length, size * len(categories) - start % size)


@pytest.mark.parametrize("token_class", CLASSES)
def test_a_draw_is_in_no_order_that_it_was_listed_in(token_class):
    categories = list(CONTROL_CLASSES[token_class].values())
    for draw in range(n_controls(token_class)):
        places = [categories[draw % len(categories)].index(m) for m in control_members(draw, range(1, 13), token_class)]
        assert places != sorted(places)
        assert places != sorted(places, reverse=True)


@pytest.mark.parametrize("token_class", CLASSES)
def test_two_draws_hardly_ever_show_the_same_window(token_class):
    """Three words in a row are as rarely the same as in independent orders: about one pair of draws in fifty."""
    draws = [control_members(draw, range(1, 13), token_class) for draw in range(n_controls(token_class))]
    windows = [{draw[i : i + 3] for i in range(len(draw) - 2)} for draw in draws]
    shared = [bool(one & other) for one, other in combinations(windows, 2)]
    assert sum(shared) / len(shared) < 0.02


def test_draws_are_the_same_in_every_release():
    assert control_members(0, range(1, 5)) == ("ox", "bat", "worm", "python")
    assert control_members(1, range(1, 5), "capitals") == ("British", "Islamic", "Soviet", "Greek")
    assert control_members(2, range(1, 5), "characters") == ("»", "–", "×", "•")  # noqa: RUF001


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("control:0", Draws("words", range(1))),
        ("control:3-7", Draws("words", range(3, 8))),
        ("control:capitals:0-19", Draws("capitals", range(20))),
        ("control:characters:53", Draws("characters", range(53, 54))),
    ],
)
def test_a_name_says_which_draws(name, draws):
    assert is_draw(name)
    assert parse_draws(name) == draws


@given(any_draw)
def test_a_draw_s_name_names_it(which):
    token_class, draw = which
    assert parse_draws(control_name(draw, token_class)) == Draws(token_class, range(draw, draw + 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "control:x.txt",
            r"a control is named as control:3, control:0-19 or control:capitals:0-19; got 'control:x\.txt'",
        ),
        ("control:19-0", "a range of controls runs upwards, as in control:0-19; got control:19-0"),
        (
            "control:words:3",
            "no class 'words' of controls; give control:capitals:0-19 or control:characters:0-19, or con",
        ),
        (
            "control:189",
            "there are control:0 to 188, more would have a word at the same place as another; got control:189",
        ),
        ("control:0-189", "there are control:0 to 188"),
        ("control:capitals:112", "there are control:capitals:0 to 111, .*; got control:capitals:112"),
        ("control:characters:50-60", "there are control:characters:0 to 53, .*; got control:characters:60"),
    ],
)
def test_a_name_that_names_no_draw_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        parse_draws(name)


@pytest.mark.parametrize("draw", [-1, 189])
def test_a_draw_that_is_not_there_is_refused(draw):
    with pytest.raises(InputError, match=f"there are control:0 to 188, .*; got control:{draw}"):
        control_members(draw, range(5))
