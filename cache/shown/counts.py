"""How many there are of something, in words."""

from typing import Any


def number_of(n: int, thing: str, several: str = "") -> str:
    """A number with what it counts: one of it, or several.

    Args:
        n: how many.
        thing: the word for one.
        several: the word for none or many; empty for `thing` with an s.

    Example:
        >>> number_of(1, "row"), number_of(1076, "row"), number_of(2, "family", "families")
        ('1 row', '1,076 rows', '2 families')
    """
    return f"{n:,} {thing if n == 1 else several or thing + 's'}"


def numbers_in(line: Any, *things: str, **called: str) -> str:
    """What a line of a table counts, in its columns `n_rows`, `n_members` and so on.

    Args:
        line: a mapping or series, by column.
        things: what is counted: `row`, `member` ...
        called: other words for it.

    Example:
        >>> numbers_in({"n_rows": 1076, "n_members": 1}, "row", "member", row="prompt")
        '1,076 prompts, 1 member'
    """
    return ", ".join(number_of(int(line[f"n_{thing}s"]), called.get(thing, thing)) for thing in things)
