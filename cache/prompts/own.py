"""A user's own prompts: records of a text and its labels, and which of two families or groups belong together."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.prompts.prompt import BY_LINE, OWN, Prompt, Prompts
from cache.prompts.spans import last_span
from cache.shown.counts import number_of

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})([.][0-9]{1,17})?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)
"""A number as tables write it; `007` is a text."""

Record = tuple[str, Any]
"""Where a record stands (`mine.csv line 3`), and what it says by name."""


def _text(value: Any) -> Any:
    """A label as text: nothing for what is missing, a whole number as it is written."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, float)) else value


def _number(value: Any) -> Any:
    """An ordinal, which tables may hold as text or as a fraction; None where it is missing."""
    text = _text(value)
    if not isinstance(text, str):
        return value
    return int(text.removesuffix(".0")) if re.fullmatch("-?[0-9]{1,9}(?:[.]0)?", text) else text or None


Label = Annotated[str, BeforeValidator(_text)]


class _Line(BaseModel):
    """A record of a user's; what has another name is kept as a further label."""

    model_config = ConfigDict(extra="allow", strict=True)
    text: str
    family: Label = ""
    member: Label = ""
    pair: Label = ""
    ordinal: Annotated[int | None, BeforeValidator(_number)] = None
    answer: Label = ""
    group: Label = ""
    frame: Label = ""
    template: Label = ""


KNOWN = tuple(_Line.model_fields)
"""The names that mean something; all others are further labels."""


def own_prompts(records: Sequence[Record], *, by_line: bool = False) -> Prompts:
    """Prompts of records, whose labels are all optional but `text`.

    Which prompts of two families or groups belong together is said by `pair` (equal labels) or `ordinal` (equal
    numbers; members are ordered by it), else by equal `member`s, or equal `template`s. Nothing else is paired, unless
    `by_line` pairs the k-th prompt of one with the k-th of the other. Where there are pairs and groups, and no
    families, the groups are the families.

    A member is marked where it last stands in its text as a whole word; of a prompt with a pair or an ordinal and
    without a member, the whole text is the member. `template` numbers phrasings as they first come; without it,
    prompts of equal labels are repetitions, numbered in turn.

    Args:
        records: where each stands, for messages, and what it says by name.
        by_line: pair what nothing else pairs by its order.

    Raises:
        InputError: a record is none, its member does not stand in its text, a pair has two ordinals or an ordinal two
            pairs, or a label has a name or a value that stores cannot keep.
    """
    lines = [(where, _validated(where, record)) for where, record in records]
    ordinals = _ordinals(lines)
    templates = _templates([line for _, line in lines], ordinals, by_line=by_line)
    labels = further_labels([(where, line.model_extra or {}) for where, line in lines])
    of_groups = any(ordinal is not None for ordinal in ordinals) and not any(line.family for _, line in lines)
    prompts = []
    for (where, line), ordinal, template, further in zip(lines, ordinals, templates, labels, strict=True):
        member = "" if ordinal is None else line.member or line.text
        fields = {
            "text": line.text,
            "family": line.group if of_groups else line.family,
            "frame": line.frame or OWN,
            "template": template,
            "kind": BY_LINE if by_line and ordinal is None else OWN,
            "values": () if ordinal is None else (ordinal,),
            "members": (member,) if member else (),
            "spans": (at(where, _span, line.text, line.member),) if member else (),
            "answer": line.answer,
            "group": line.group,
            "labels": (*_pair_label(line, ordinal), *further),
        }
        prompts.append(at(where, Prompt, **fields))
    return Prompts(tuple(prompts))


def pairings(prompts: Prompts, *, most: int = 6) -> list[str]:
    """How many prompts of two groups (or families) of a user's own belong together, and by what, in words.

    Args:
        prompts: the prompts; of those that are not a user's own nothing is said.
        most: so many pairs of groups, at most, are looked at; of others it is said how many there are.
    """
    mine = tuple(prompt for prompt in prompts if prompt.kind in (OWN, BY_LINE))
    groups, families = (
        list(dict.fromkeys(filter(None, (getattr(p, name) for p in mine)))) for name in ("group", "family")
    )
    labels = [name for name in (groups if len(groups) > 1 else families) if not name.startswith(CONTROL_PREFIX)]
    if len(labels) < 2:
        return []
    own = Prompts(mine)
    both = itertools.islice(itertools.combinations(labels, 2), most)
    more = len(labels) * (len(labels) - 1) // 2 - most
    return [*(f"{a} and {b}: {_pairing(own, a, b)}" for a, b in both), *[f"and {more} more"] * (more > 0)]


def _pairing(prompts: Prompts, a: str, b: str) -> str:
    try:
        both = [(prompts[i], prompts[j]) for i, j in prompts.pairs(a, b)]
    except InputError as error:
        return str(error)
    if not both:
        return "no pairs; give your prompts a column pair, or ask for by-line:FILE"
    if any(one.kind == BY_LINE for one, _ in both):
        return f"{number_of(len(both), 'pair')}, by their order in the file alone"
    return f"{number_of(len(both), 'pair')}, matched by {_matched_by(both)}"


def _matched_by(both: list[tuple[Prompt, Prompt]]) -> str:
    """What prompts that belong together have in common."""
    if not any(one.values for one, _ in both):
        return "template"
    if all(x.members == y.members for x, y in both):
        return "member"
    return "the column pair" if any(dict(one.labels).get("pair") for one, _ in both) else "the column ordinal"


def _validated(where: str, record: Any) -> _Line:
    if isinstance(record, Mapping):
        names = [_known(str(name)) for name in record]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(f"{where} has two fields {twice[0]!r}")
        record = dict(zip(names, record.values(), strict=True))
    try:
        return _Line.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "line"
        raise InputError(f"{where}: {place}: {first['msg']}; known fields are {', '.join(KNOWN)}") from error


def _known(name: str) -> str:
    """A field's name, in whatever letters and between whatever spaces a table has it."""
    return name.strip().lower() if name.strip().lower() in KNOWN else name


def _ordinals(lines: Sequence[tuple[str, _Line]]) -> list[int | None]:
    """What each record is matched on, as a number; None for what is matched with nothing."""
    keys = [("pair", line.pair) if line.pair else ("member", line.member) if line.member else None for _, line in lines]
    if all(line.ordinal is None for _, line in lines):
        number = {key: i for i, key in enumerate(dict.fromkeys(filter(None, keys)), 1)}
        return [number.get(key) if key else None for key in keys]
    first: dict[Hashable, Hashable] = {}
    for (where, line), key in zip(lines, keys, strict=True):
        if line.ordinal is None and key:
            raise InputError(f"{where} has no ordinal, and others have; give every {key[0]} one")
        if line.ordinal is not None and line.ordinal < 0:
            raise InputError(f"{where}: an ordinal is 0 or more; got {line.ordinal}")
        if line.pair:
            ordinal, pair = (
                first.setdefault(("pair", line.pair), line.ordinal),
                first.setdefault(line.ordinal, line.pair),
            )
            if (ordinal, pair) != (line.ordinal, line.pair):
                raise InputError(
                    f"{where}: pair {line.pair!r} and ordinal {line.ordinal} belong to others before; use one"
                )
    return [line.ordinal for _, line in lines]


def _templates(lines: Sequence[_Line], ordinals: Sequence[int | None], *, by_line: bool) -> list[int]:
    if any(line.template for line in lines):
        number = {name: i for i, name in enumerate(dict.fromkeys(line.template for line in lines))}
        return [number[line.template] for line in lines]
    seen: Counter[Hashable] = Counter()
    templates = []
    for i, (line, ordinal) in enumerate(zip(lines, ordinals, strict=True)):
        labels = (line.family, line.group, line.frame, ordinal)
        templates.append(i if ordinal is None and not by_line else seen[labels])
        seen[labels] += 1
    return templates


def _pair_label(line: _Line, ordinal: int | None) -> list[tuple[str, str]]:
    """The name of a prompt's pair, by which numbers that were given apart are known; a member may be its own."""
    name = line.pair or (line.member if ordinal is not None and line.ordinal is None else "")
    return [("pair", name)] if name else []


def _span(text: str, member: str) -> tuple[int, int]:
    return last_span(text, member) if member else (0, len(text))


def further_labels(records: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[tuple[str, Any], ...]]:
    """The labels of records under names that mean nothing; numbers where a table of texts holds nothing but numbers.

    Raises:
        InputError: one is neither text nor a finite number; the message says where.
    """
    found: list[dict[str, Any]] = [{} for _ in records]
    for name in dict.fromkeys(name for _, further in records for name in further):
        values = [_plain(where, name, further.get(name)) for where, further in records]
        numbers = [_as_number(value) for value in values]
        kept = values if None in numbers else numbers
        for labels, value in zip(found, kept, strict=True):
            labels[name] = value
    return [tuple(labels.items()) for labels in found]


def _plain(where: str, name: str, value: Any) -> str | int | float:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (str, int, float)) and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    raise InputError(f"{where}: {name}: a label is text or a finite number; got {value!r:.40}")


def _as_number(value: str | int | float) -> int | float | None:
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value):
        return None
    return int(value) if value.lstrip("-").isdigit() else float(value)


def at(where: str, make: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a function makes of a record; where it refuses, the message says which one."""
    try:
        return make(*given, **named)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
