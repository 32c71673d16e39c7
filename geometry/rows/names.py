"""Names as a caller gives them: one by one, or in one string; and pairs of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from cache.errors import InputError


def names_of(given: Iterable[str]) -> list[str]:
    """Different names in their order: of a list, or of one string with commas as on the command line.

    Example:
        `names_of("digits,numwords") == names_of(["digits", "numwords"])`
    """
    parts = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    return list(dict.fromkeys(name for name in parts if name))


def pairs_of(given: Sequence[Any]) -> list[tuple[str, str]]:
    """Pairs of names, each of any make; a single pair may stand alone.

    Raises:
        InputError: something is no pair of two names.
    """
    alone = len(given) == 2 and all(isinstance(one, str) for one in given)
    pairs = [tuple(given)] if alone else [one if isinstance(one, str) else tuple(one) for one in given]
    for pair in [given] if isinstance(given, str) else pairs:
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise InputError(f"pairs are given as [('digits', 'numwords')]; got {given!r:.80}")
    return [(pair[0], pair[1]) for pair in pairs]
