"""Families of members that stand in an order: digits, number words, months, and controls that have none."""

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter

from cache.errors import InputError, NotAvailableError
from cache.families.controls import CONTROL_PREFIX, Draws, control_members, control_name, is_draw, parse_draws


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


def control_family(draw: int, ordinals: range, token_class: str = "words") -> Family:
    """A seeded ordered draw of one-token words that have no order of their own.

    Draws of `words` are animals, parts of the body, materials, food, places, people and objects in turn, of
    `capitals` lands, peoples, persons and other nouns (the class of months and days), of `characters` symbols and
    accented letters (the class of digits and letters). A member depends on the draw and on its ordinal alone, so
    that `control:4` is the same family in every data set; no two draws have the same word at the same ordinal, nor
    has a built-in family any of their words. From so many ordinals on as the smallest category has words, the next
    category's come, and so on.

    Args:
        draw: which draw, from 0; it is the seed.
        ordinals: the ordinals to cover, those of the families that the control is compared with.
        token_class: `words`, `capitals` or `characters`.

    Raises:
        InputError: there is no such draw: one more would repeat a word at a place (`controls.n_controls`).
    """
    return Family(control_name(draw, token_class), control_members(draw, ordinals, token_class), first=ordinals.start)


def parse_families(names: Iterable[str], beside: Mapping[int, Collection[str]] | None = None) -> tuple[Family, ...]:
    """The families that a data set's words name, in the order given.

    Args:
        names: built-in families (`digits`), controls (`control:3`, `control:0-19`, `control:capitals:0-19`,
            `control:characters:0-19`), `family:PATH` for a user's own family, and `control:PATH` for a user's own
            control. Drawn controls cover the ordinals of the others (1 to 12 if there are none).
        beside: by ordinal the words of prompts of one's own: drawn controls cover their ordinals, and
            no control has one of them there.

    Raises:
        InputError: a name is not known; the message suggests the nearest. A name is given twice. Or a control has
            the same word at the same ordinal, in whatever case, as another family or control.
        NotAvailableError: a family's file is not there.
    """
    entries = [_entry(name) for name in names]
    beside = beside or {}
    spans = [entry.ordinals for entry in entries if isinstance(entry, Family)]
    spans += [range(min(beside), max(beside) + 1)] if beside else []
    ordinals = range(min(s.start for s in spans), max(s.stop for s in spans)) if spans else range(1, 13)
    chosen = tuple(family for entry in entries for family in _families(entry, ordinals))
    labels = [family.name for family in chosen]
    if len(set(labels)) < len(labels):
        raise InputError(f"a family is named twice: {', '.join(sorted({n for n in labels if labels.count(n) > 1}))}")
    if not chosen:
        raise InputError("no families given; try digits,numwords,months")
    _check_controls(chosen, beside)
    return chosen


def _entry(name: str) -> Family | Draws:
    """What one name of a data set stands for: a family, or draws still to be made."""
    if is_draw(name):
        return parse_draws(name)
    if name.startswith(CONTROL_PREFIX):
        return _own_control(name.removeprefix(CONTROL_PREFIX))
    if name.startswith("family:"):
        return read_family(name.removeprefix("family:"))
    if name in FAMILIES:
        return FAMILIES[name]
    near = difflib.get_close_matches(name, FAMILIES, n=2) or FAMILIES
    known = f"{', '.join(near)}, control:K and family:FILE (one member a line)"
    raise InputError(f"no family {name!r}; known are {known}; texts go in a file or, from Python, in a list")


def _own_control(path: str) -> Family:
    named = CONTROL_PREFIX + Path(path).stem
    if not _is_file(Path(path)) and not Path(path).suffix and "/" not in path:
        raise InputError(
            f"no control {CONTROL_PREFIX + path!r}; give control:0-19, control:capitals:0-19, "
            "control:characters:0-19, or control:FILE (one member a line)"
        )
    family = read_family(path)
    if is_draw(named):
        raise InputError(f"the control of {path} would be called {named}, as a draw is; give the file another name")
    return replace(family, name=named)


def _families(entry: Family | Draws, ordinals: range) -> list[Family]:
    if isinstance(entry, Family):
        return [entry]
    return [control_family(draw, ordinals, entry.token_class) for draw in entry.numbers]


def _check_controls(families: Sequence[Family], beside: Mapping[int, Collection[str]]) -> None:
    """Refuse a control that has the same word at the same ordinal as another family or control."""
    holders: dict[tuple[int, str], str] = {
        (ordinal, word.casefold()): "your own" for ordinal, words in beside.items() for word in words
    }
    clashes: dict[str, str] = {}
    for family in sorted(families, key=lambda family: family.name.startswith(CONTROL_PREFIX)):
        for ordinal, member in zip(family.ordinals, family.members, strict=True):
            other = holders.setdefault((ordinal, member.casefold()), family.name)
            if other != family.name and family.name.startswith(CONTROL_PREFIX):
                clashes.setdefault(family.name, f"{family.name} and {other} both have {member!r} at {ordinal}")
    if clashes:
        raise InputError(
            f"{next(iter(clashes.values()))}, and a control shares no word at a place with the others; "
            f"leave {', '.join(clashes)} out"
        )


_MEMBERS = TypeAdapter(list[str])


def read_family(path: str | Path) -> Family:
    """A user's family: a JSON list of members, or a text file with one member a line; ordinals from 1.

    Raises:
        NotAvailableError: there is no such file.
        InputError: the file is not such a list; the message says what is wrong.
    """
    path = Path(path)
    if not _is_file(path):
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False
