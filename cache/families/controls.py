"""Controls: seeded draws of words without an order, no two of which have the same word at the same place."""

import re
import zlib
from dataclasses import dataclass

import numpy as np

from cache.errors import InputError
from cache.families.words import CONTROL_CLASSES

CONTROL_PREFIX = "control:"
"""How the name of a control begins, drawn or one's own."""

_SEED = 20231104
_DRAWS = re.compile(r"control:(?:([A-Za-z]+):)?([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True)
class Draws:
    """Controls of one token class, by number.

    Attributes:
        token_class: `words`, `capitals` or `characters`.
        numbers: which draws.
    """

    token_class: str
    numbers: range


def is_draw(name: str) -> bool:
    """Whether a name has the form of a drawn control, such as `control:3`, `control:capitals:0-19`."""
    return _DRAWS.fullmatch(name) is not None


def parse_draws(name: str) -> Draws:
    """The draws that `control:3`, `control:0-19` or `control:capitals:0-19` names.

    Raises:
        InputError: the token class is not known, the range runs downwards, or there are not so many draws.
    """
    match = _DRAWS.fullmatch(name)
    if match is None:
        raise InputError(f"a control is named as control:3, control:0-19 or control:capitals:0-19; got {name!r}")
    token_class = match[1] or "words"
    if match[1] and (match[1] not in CONTROL_CLASSES or match[1] == "words"):
        known = " or ".join(f"control:{other}:0-19" for other in CONTROL_CLASSES if other != "words")
        raise InputError(f"no class {match[1]!r} of controls; give {known}, or control:0-19; got {name}")
    numbers = range(int(match[2]), int(match[3] or match[2]) + 1)
    if not numbers:
        raise InputError(f"a range of controls runs upwards, as in control:0-19; got {name}")
    check_draw(numbers[-1], token_class)
    return Draws(token_class, numbers)


def n_controls(token_class: str = "words") -> int:
    """How many draws a token class has: its categories times the words of the smallest.

    That is 189 `words`, 112 `capitals` and 54 `characters`. One more would have to repeat a word at a place.
    """
    categories = CONTROL_CLASSES[token_class].values()
    return len(categories) * min(map(len, categories))


def control_name(draw: int, token_class: str = "words") -> str:
    """The name of a drawn control: `control:3`, or `control:capitals:3`."""
    return f"control:{draw}" if token_class == "words" else f"control:{token_class}:{draw}"


def control_members(draw: int, ordinals: range, token_class: str = "words") -> tuple[str, ...]:
    """The words of a draw at these ordinals, or at as many of the first as its class has words for.

    Draws take the categories of their class in turn, and the next one after every so many ordinals as the smallest has
    words. Within a category they are the rows of a Latin square whose rows, columns and words are each in random order:
    a draw has no word twice, and no two draws have the same word at the same ordinal. A word depends on the draw and
    its ordinal alone.

    Args:
        draw: which draw, from 0.
        ordinals: the ordinals to cover.
        token_class: `words`, `capitals` or `characters`.

    Raises:
        InputError: there is no such draw.

    Example:
        >>> control_members(0, range(1, 4))
        ('ox', 'bat', 'worm')
    """
    check_draw(draw, token_class)
    names = list(CONTROL_CLASSES[token_class])
    size = n_controls(token_class) // len(names)
    most = size * len(names) - ordinals.start % size
    chosen = [names[(draw + ordinal // size) % len(names)] for ordinal in ordinals[:most]]
    rows = {name: _row(token_class, name, draw // len(names)) for name in dict.fromkeys(chosen)}
    return tuple(rows[name][ordinal % len(rows[name])] for name, ordinal in zip(chosen, ordinals, strict=False))


def _row(token_class: str, category: str, number: int) -> list[str]:
    """A row of a category's Latin square."""
    words = CONTROL_CLASSES[token_class][category]
    rng = np.random.default_rng([_SEED, zlib.crc32(category.encode())])
    rows, columns, symbols = (rng.permutation(len(words)) for _ in range(3))
    return [words[symbols[(rows[number] + column) % len(words)]] for column in columns]


def check_draw(draw: int, token_class: str = "words") -> None:
    """Refuse a number that no draw of this class has.

    Raises:
        InputError: the draw is negative, or beyond the last.
    """
    last, got = n_controls(token_class) - 1, control_name(draw, token_class)
    if not 0 <= draw <= last:
        raise InputError(
            f"there are {control_name(0, token_class)} to {last}, more would have a word at the same place as another; "
            f"got {got}"
        )
