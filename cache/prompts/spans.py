"""Where a member stands in a text: as a word of its own, and not inside another."""

import re
import unicodedata
from collections.abc import Iterator

from cache.errors import InputError

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts whose words stand side by side without spaces, or, in Korean, with particles on them."""


def last_span(text: str, member: str) -> tuple[int, int]:
    """The characters `[start, end)` at which a member last stands in a text as a whole word.

    No letter, digit or underscore may stand beside a letter, digit or underscore of the member's: `1` is not in `12`,
    and `C++` is in `C++20`. Between characters of scripts written without spaces (Chinese, Japanese, Thai and their
    like, and Korean) any place is a boundary, so that `北京` is in `我住在北京市`.

    Raises:
        InputError: it does not stand there; the message says what does, in other letters or inside a longer word.
    """
    for start in _starts(text, member):
        if _whole(text, start, start + len(member)):
            return start, start + len(member)
    raise InputError(f"member {member!r} does not stand in {text!r:.60} as a whole word{_instead(text, member)}")


def _starts(text: str, member: str) -> Iterator[int]:
    """Where the characters of the member begin, last place first."""
    start = text.rfind(member)
    while start >= 0:
        yield start
        start = text.rfind(member, 0, start + len(member) - 1)


def _whole(text: str, start: int, end: int) -> bool:
    return _boundary(text, start) and _boundary(text, end)


def _boundary(text: str, place: int) -> bool:
    """Whether no word goes on from the character before a place to the one after it."""
    if not 0 < place < len(text):
        return True
    before, after = text[place - 1], text[place]
    if unicodedata.category(after).startswith("M"):  # an accent or vowel sign is part of the letter before it
        return not _in_word(before)
    return not (_in_word(before) and _in_word(after)) or _unspaced(before) or _unspaced(after)


def _in_word(mark: str) -> bool:
    return mark.isalnum() or mark == "_" or unicodedata.category(mark).startswith("M")


def _unspaced(mark: str) -> bool:
    return unicodedata.name(mark, "").startswith(_UNSPACED)


def _instead(text: str, member: str) -> str:
    found = [match.span() for match in re.finditer(re.escape(member), text, re.IGNORECASE)]
    for start, end in found:
        if _whole(text, start, end):
            return f"; it stands there as {text[start:end]!r}"
    if not found:
        return "; write it as the text does, or leave it out"
    start, end = found[-1]
    while not _boundary(text, start):
        start -= 1
    while not _boundary(text, end):
        end += 1
    return f"; it stands there inside {text[start:end]!r:.60}"
