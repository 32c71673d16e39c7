"""Families of members that stand in an order: digits, number words, months, and controls that have none."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydantic import TypeAdapter

from cache.errors import InputError, NotAvailableError
from cache.words import CONTROL_WORDS

MOST_CONTROLS = 1000


@dataclass(frozen=True)
class Family:
    """Members in their order; the ordinal is what members of different families share (3 = three = March).

    Attributes:
        name: the label that prompts and tables carry.
        members: the words, in order, all different.
        first: the ordinal of the first member (0 for digits and number words, else 1).
        cyclic: the first member follows the last, as January follows December.
    """

    name: str
    members: tuple[str, ...]
    first: int = 1
    cyclic: bool = False

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise InputError(f"family {self.name!r} has {len(self.members)} member(s); a sequence needs 2")
        repeated = sorted({m for m in self.members if self.members.count(m) > 1})
        if repeated:
            raise InputError(f"family {self.name!r} repeats {', '.join(repeated[:3])}; members must differ")
        bad = [m for m in self.members if not m.strip() or m != m.strip() or not m.isprintable()]
        if bad:
            raise InputError(f"family {self.name!r} has the member {bad[0]!r}; give words without outer spaces")

    @property
    def ordinals(self) -> range:
        """The ordinals of the members, in order."""
        return range(self.first, self.first + len(self.members))

    def member(self, ordinal: int) -> str:
        """The member with this ordinal; of a cyclic family with the ordinal taken round.

        Raises:
            InputError: the family is not cyclic and has no such ordinal.
        """
        if not self.cyclic and ordinal not in self.ordinals:
            raise InputError(f"{self.name} has the ordinals {self.first} to {self.ordinals[-1]}; got {ordinal}")
        return self.members[(ordinal - self.first) % len(self.members)]


_NUMBER_WORDS = "zero one two three four five six seven eight nine ten".split()
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety".split()

FAMILIES = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("digits", tuple("0123456789"), first=0),
            Family("numwords", tuple(_NUMBER_WORDS), first=0),
            Family("months", tuple(_MONTHS), cyclic=True),
            Family("days", tuple(_DAYS), cyclic=True),
            Family("letters", tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
            Family("roman", tuple("I II III IV V VI VII VIII IX X".split())),
            Family("ordinals", tuple(_ORDINALS)),
            Family("tens", tuple(_TENS)),
        )
    }
)
"""The families that every model can be asked for by name."""


def control_family(draw: int, ordinals: range) -> Family:
    """A seeded ordered draw of one-token words that have no order of their own.

    Draws 0, 3, 6... are animals, 1, 4, 7... objects, 2, 5, 8... colours. A member depends on the draw and on
    its ordinal alone, so `control:4` is the same family in every data set; a category with fewer words than
    ordinals gives as many members as it has.

    Args:
        draw: which draw, from 0; it is the seed.
        ordinals: the ordinals to cover, those of the families that the control is compared with.

    Raises:
        InputError: the draw is negative.
    """
    if draw < 0:
        raise InputError(f"controls are numbered from 0, as in control:0; got control:{draw}")
    category = list(CONTROL_WORDS)[draw % len(CONTROL_WORDS)]
    words = CONTROL_WORDS[category]
    order = np.random.default_rng([draw, 20231104]).permutation(len(words))
    span = list(ordinals)[: len(words)]
    return Family(f"control:{draw}", tuple(words[order[o % len(words)]] for o in span), first=span[0])


def parse_families(names: Iterable[str]) -> tuple[Family, ...]:
    """The families that a data set's words name, in the order given.

    Args:
        names: built-in families (`digits`), controls (`control:3`, `control:0-19`), or `family:PATH` for a
            user's own. Controls cover the ordinals of the others (1 to 12 if there are none).

    Raises:
        InputError: a name is not known; the message suggests the nearest. Or a name is given twice.
        NotAvailableError: a family's file is not there.
    """
    families: list[Family | range] = []
    for name in names:
        match = re.fullmatch(r"control:(\d{1,9})(?:-(\d{1,9}))?", name)
        if match:
            draws = range(int(match[1]), int(match[2] or match[1]) + 1)
            if not draws:
                raise InputError(f"a range of controls runs upwards, as in control:0-19; got {name}")
            if len(draws) > MOST_CONTROLS:
                raise InputError(f"{MOST_CONTROLS:,} controls are drawn at most, as in control:0-999; got {name}")
            families.append(draws)
        elif name.startswith("family:"):
            families.append(read_family(name.removeprefix("family:")))
        elif name in FAMILIES:
            families.append(FAMILIES[name])
        else:
            near = difflib.get_close_matches(name, FAMILIES, n=2) or FAMILIES
            raise InputError(
                f"no family {name!r}; known are {', '.join(near)}, control:K and family:FILE (one member a line)"
            )
    spans = [f.ordinals for f in families if isinstance(f, Family)]
    ordinals = range(min(s.start for s in spans), max(s.stop for s in spans)) if spans else range(1, 13)
    chosen = [
        family
        for entry in families
        for family in ([entry] if isinstance(entry, Family) else [control_family(k, ordinals) for k in entry])
    ]
    labels = [family.name for family in chosen]
    if len(set(labels)) < len(labels):
        raise InputError(f"a family is named twice: {', '.join(sorted({n for n in labels if labels.count(n) > 1}))}")
    if not chosen:
        raise InputError("no families given; try digits,numwords,months")
    return tuple(chosen)


_MEMBERS = TypeAdapter(list[str])


def read_family(path: str | Path) -> Family:
    """A user's family: a JSON list of members, or a text file with one member a line; ordinals from 1.

    Raises:
        NotAvailableError: there is no such file.
        InputError: the file is not such a list; the message says what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise NotAvailableError(f"no family file {str(path)!r}; give a JSON list or one member a line")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            members = _MEMBERS.validate_python(json.loads(text), strict=True)
        else:
            members = [line.strip() for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a list of members ({reason}); write one member a line") from error
    return Family(path.stem, tuple(members))
