"""Prompts: texts with labels that come from their construction, and the key that matches them over families."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.shown.cards import card

if TYPE_CHECKING:
    import pandas as pd

OWN, BY_LINE = "own", "by line"
"""The kinds of a user's own prompts; those of the second are paired by nothing but their order."""

DOCUMENT, TEXT = "document", "text"
"""The kinds of running text: a whole document, and a window of one, as it is recorded. Neither has a family."""

AS_THEY_ARE = frozenset((OWN, BY_LINE, DOCUMENT, TEXT))
"""The kinds that are recorded whatever their tokens: nothing constructed them to have one a member."""

_NAME = re.compile(r"[^\s/](?:[^/\n]*[^\s/])?")
"""A label's name, as files of results can hold it: no slash, no space around."""

ROW_LABELS = tuple("row prompt position token token_text member is_last value shown unit pair_key".split())
"""What stores say of a row beside the labels of its prompt: names that no further label may have."""


@dataclass(frozen=True)
class Prompt:
    """One text and what is known about it.

    Attributes:
        text: what the model reads.
        family: the family of its members; two joined by `+` when they alternate.
        frame: how the members are shown; `own` for a user's own text.
        template: which draw of names and objects (frames), or which repetition of its labels (own texts).
        kind: the rule of the sequence (`increasing`, `random`...); `own` for a user's own text; `document` and `text`
            for running text and a window of it.
        values: the ordinals of the shown members.
        members: the shown members.
        spans: for each shown member the characters `[start, end)` that it takes up in the text.
        answer: the continuation that is measured, with its leading space where it has one; empty if none.
        distractor: a wrong continuation to set against it: the last shown member, or where that is the
            answer, its neighbour; where families alternate, the other one's member of the answer's ordinal.
        group: a user's own label, by which any two sets of prompts can be compared; of running text its document.
        labels: a user's further labels by name, texts or numbers: columns of a store's rows.
    """

    text: str
    family: str = ""
    frame: str = "own"
    template: int = 0
    kind: str = "own"
    values: tuple[int, ...] = ()
    members: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    answer: str = ""
    distractor: str = ""
    group: str = ""
    labels: tuple[tuple[str, str | int | float], ...] = ()

    def __post_init__(self) -> None:
        if not self.text:
            raise InputError("a prompt has no text; give one or leave its line out")
        taken = [name for name, _ in self.labels if name in (*_FIELDS, *ROW_LABELS) or not _NAME.fullmatch(name)]
        if taken or len(dict(self.labels)) < len(self.labels):
            raise InputError(
                f"a label of prompts cannot have the name {(taken or ['of another'])[0]!r}; choose another"
            )
        labels = [str(part) for label in self.labels for part in label]
        texts = (self.text, self.family, self.frame, self.kind, self.answer, self.distractor, self.group)
        for content in (*texts, *labels):
            if "\0" in content or any("\ud800" <= c <= "\udfff" for c in content):
                raise InputError(f"a prompt's text and labels must be Unicode without NUL; got {content!r:.60}")
        if not len(self.values) == len(self.members) == len(self.spans):
            raise InputError(
                f"a prompt needs one value and one span a member; got {len(self.members)} members, "
                f"{len(self.values)} values, {len(self.spans)} spans in {self.text!r:.60}"
            )
        for member, (start, end) in zip(self.members, self.spans, strict=True):
            if self.text[start:end] != member or not member:
                raise InputError(
                    f"characters {start} to {end} of {self.text!r:.60} are {self.text[start:end]!r}, not {member!r}"
                )

    @property
    def pair_key(self) -> str:
        """What matched prompts of two families have in common: frame, template, kind and shown ordinals."""
        return f"{self.frame}|{self.template}|{self.kind}|{','.join(map(str, self.values))}"


def check_pairs(numbered: Iterable[tuple[int, object]]) -> None:
    """Refuse own prompts whose pairs were numbered apart, as those of two saved files or stores may be.

    Args:
        numbered: the number of each prompt's pair, and the pair's name.

    Raises:
        InputError: two pairs have one number.
    """
    pairs: dict[int, str] = {}
    for number, pair in numbered:
        if pairs.setdefault(number, str(pair)) != str(pair):
            raise InputError(
                f"pairs {pairs[number]!r} and {str(pair)!r} have the same number, since they were read apart; read the "
                "tables that they come from at once, and record them together"
            )


_FIELDS = tuple(field.name for field in fields(Prompt))

SHOWN = ("text", "family", "frame", "kind", "answer")
"""What a notebook shows of each."""


def family_counts(families: Iterable[str], kinds: Iterable[str]) -> dict[str, int]:
    """How many prompts each family has, by the family and kind of each; those without one are `own`, or `text`."""
    unnamed = {DOCUMENT: TEXT, TEXT: TEXT}
    return dict(Counter(family or unnamed.get(kind, OWN) for family, kind in zip(families, kinds, strict=True)))


@dataclass(frozen=True, repr=False)
class Prompts(Sequence[Prompt]):
    """An ordered set of prompts; pair keys are unique within a family and group.

    Attributes:
        items: the prompts.
        seed: the seed that names, objects and shuffled orders were drawn with.

    Raises:
        InputError: there are none, or two constructed prompts of one family and group share a pair key.

    Example:
        >>> mine = Prompts.from_texts(["1,2,3,", "one,two,three,"])
        >>> len(mine), mine[1].text
        (2, 'one,two,three,')
        >>> prompts.pairs("digits", "numwords").shape  # (pair, side), as of load_dataset's prompts
        (30, 2)
    """

    items: tuple[Prompt, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError("no prompts; give at least one")
        paired = [(p.values[-1], dict(p.labels).get("pair", "")) for p in self.items if p.kind == OWN and p.values]
        check_pairs((number, pair) for number, pair in paired if pair != "")
        seen: dict[tuple[str, str, str], Prompt] = {}
        for prompt in self.items:
            if prompt.values:
                key = (prompt.family, prompt.group, prompt.pair_key)
                if key in seen:
                    raise InputError(
                        f"two prompts of family {prompt.family!r} share the pair key {prompt.pair_key!r}: "
                        f"{seen[key].text!r:.40} and {prompt.text!r:.40}"
                    )
                seen[key] = prompt

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "Prompts":
        """Plain strings as prompts without labels.

        Raises:
            InputError: one string was given in place of several, or one of them is empty.
        """
        if isinstance(texts, str):
            raise InputError(f"give a list of texts, not one string; got {texts!r:.60}")
        return cls(tuple(Prompt(text, template=i) for i, text in enumerate(texts)))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.items)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204  # Sequence's two overloads
        return self.items[index]

    def subset(self, indices: Iterable[int]) -> "Prompts":
        """The prompts at these indices, in the order given."""
        return Prompts(tuple(self.items[i] for i in indices), self.seed)

    def pairs(self, a: str, b: str) -> Int[np.ndarray, "pair 2"]:
        """Indices of matched prompts: column 0 of family (or group) `a`, column 1 of `b`, equal pair keys.

        Raises:
            InputError: `a` or `b` labels no prompt, or a label's prompts repeat a pair key.
        """
        left, right = self._by_key(a), self._by_key(b)
        return np.array([(i, right[key]) for key, i in left.items() if key in right], dtype=np.int64).reshape(-1, 2)

    def _by_key(self, label: str) -> dict[str, int]:
        chosen = [i for i, p in enumerate(self.items) if p.family == label]
        chosen = chosen or [i for i, p in enumerate(self.items) if p.group == label]
        if not chosen:
            known = sorted(({p.family for p in self.items} | {p.group for p in self.items}) - {""})
            there = f"there are {', '.join(known)}" if known else "they have no labels"
            raise InputError(f"no family or group {label!r} among these prompts; {there}")
        keys = {self.items[i].pair_key: i for i in chosen}
        if len(keys) < len(chosen):
            raise InputError(f"prompts labelled {label!r} repeat a pair key; compare its families or groups one by one")
        return keys

    def table(self) -> "pd.DataFrame":
        """A data frame with one row a prompt: the fields of `Prompt` and `pair_key`, and each further label."""
        columns: dict[str, list[object]] = {
            name: [getattr(p, name) for p in self.items] for name in _FIELDS if name != "labels"
        }
        labels = [dict(p.labels) for p in self.items]
        further = {name: [one.get(name, "") for one in labels] for name in {n: 0 for one in labels for n in one}}
        import pandas as pd  # who asks what a file holds does without

        return pd.DataFrame({**columns, "pair_key": [p.pair_key for p in self.items], **further})

    def __repr__(self) -> str:
        return f"<Prompts: {len(self)}, the first {self[0].text!r:.60}>"

    def _repr_html_(self) -> str:
        text = (DOCUMENT, TEXT)
        families = Counter(p.family or (TEXT if p.kind in text else p.group) for p in self.items)
        known = {name: n for name, n in families.items() if name and not name.startswith(CONTROL_PREFIX)}
        facts = {
            "families": ", ".join(f"{name} ({n})" for name, n in known.items()),
            "controls": sum(name.startswith(CONTROL_PREFIX) for name in families) or "",
        }
        table = self.table()[[*SHOWN]]
        return card(f"{len(self)} prompts", facts, table, ("record(model, prompts)", "prompts.table()"))
