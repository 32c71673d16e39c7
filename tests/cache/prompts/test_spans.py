"""A member is found as a word of its own: against regular expressions in Latin, by hand in other scripts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import InputError
from cache.prompts.spans import last_span


@pytest.mark.parametrize(
    ("text", "member", "start"),
    [
        ("Paris is in France", "Paris", 0),
        ("Rome, Rome is in Italy", "Rome", 6),
        ("Niger is not Nigeria", "Niger", 0),
        ("Nigeria is not Niger", "Niger", 15),
        ("12, 1, 21", "1", 4),
        ("3.1", "1", 2),
        ("C, C++20", "C++", 3),
        ("I like C++.", "C++", 7),
        ("(one)", "one", 1),
        ("one's", "one", 0),
        ("état d'été", "été", 7),
        ("New York, New York", "New York", 10),
        ("x Paris y", " Paris", 1),
        ("我住在北京市", "北京", 3),
        ("私は東京に住む", "東京", 2),
        ("ฉันอยู่กรุงเทพฯ", "กรุงเทพ", 7),
        ("나는 서울에 산다", "서울", 3),
        ("3月1日", "1", 2),
        ("aa aaa", "aa", 0),
        ("👩‍🚀 and 🚀", "🚀", 8),
    ],
)
def test_a_member_is_found_where_it_last_stands_as_a_word(text, member, start):
    assert last_span(text, member) == (start, start + len(member))


@pytest.mark.parametrize(
    ("text", "member", "reason"),
    [
        ("Paris is in France", "paris", "; it stands there as 'Paris'"),
        ("PARIS, Paris", "paris", "; it stands there as 'PARIS'"),
        ("Nigeria", "Niger", "; it stands there inside 'Nigeria'"),
        ("12 and 212", "1", "; it stands there inside '212'"),
        ("12月", "1", "; it stands there inside '12'"),
        ("nigeria", "Niger", "; it stands there inside 'nigeria'"),
        ("snake_case", "case", "; it stands there inside 'snake_case'"),
        ("cafe\u0301", "cafe", "; it stands there inside 'cafe\u0301'"),
        ("हिन्दी", "हिन्द", "; it stands there inside 'हिन्दी'"),
        ("Rome", "Paris", "; write it as the text does, or leave it out"),
    ],
)
def test_an_absent_member_is_told_with_what_stands_in_its_place(text, member, reason):
    with pytest.raises(InputError) as refusal:
        last_span(text, member)
    assert str(refusal.value) == f"member {member!r} does not stand in {text!r} as a whole word{reason}"


@given(st.text("ab1_ ,+", max_size=12), st.text("ab1_+", min_size=1, max_size=3))
def test_in_latin_it_is_what_a_regular_expression_finds(text, member):
    lead, trail = (r"(?<!\w)" if member[0] != "+" else ""), (r"(?!\w)" if member[-1] != "+" else "")
    found = [match.start() for match in re.finditer(f"(?={lead}{re.escape(member)}{trail})", text)]
    if found:
        assert last_span(text, member) == (found[-1], found[-1] + len(member))
    else:
        with pytest.raises(InputError, match="does not stand in"):
            last_span(text, member)


def test_a_long_text_takes_no_long_time():
    with pytest.raises(InputError, match="it stands there inside"):
        last_span("a" * 20_000, "aa")
