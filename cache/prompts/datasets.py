"""Data sets: families, controls and files by name, as one comma-separated string; and tables and lists as they are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.families.family import FAMILIES, parse_families
from cache.families.relations import RELATION_PREFIX, parse_relation
from cache.prompts.files import SUFFIXES, is_saved, read_prompts, read_records, saved_prompts
from cache.prompts.own import Record, own_prompts
from cache.prompts.prompt import OWN, Prompt, Prompts
from cache.prompts.sequences import SequenceDesign, make_prompts
from cache.prompts.text import TEXT_PREFIX, documents, read_documents

_BY_LINE = "by-line:"


def load_dataset(data: Any, design: SequenceDesign | None = None) -> Prompts:
    """Prompts from families and files by name, or from a table or list of one's own.

    Args:
        data: comma-separated names: families (`digits`), controls (`control:0-19`), a family or a control of one's own
            (`family:planets.txt`, `control:birds.txt`), and files of prompts (`mine.jsonl`, `.json`, `.csv`, `.tsv`,
            `.parquet`, `.txt`; `by-line:mine.csv` pairs what no column pairs by its order); running text
            (`text:books`, a folder of `.txt`; `text:corpus.jsonl`; `text:novel.txt`: `cache.prompts.text`), whose
            documents a recording cuts into windows. Or a path; a pandas DataFrame; a Hugging Face `Dataset`; a list of
            texts, or of dictionaries (`own_prompts`).
        design: how families are shown; its own families are replaced by those named. Prompts of one's own are
            taken as they are; controls that are named beside them alone are shown in their texts (`with_controls`).

    Raises:
        InputError: a name is unknown, or something cannot be read as prompts.
        NotAvailableError: a file is not there.

    Example:
        >>> prompts = load_dataset("digits,months")
        >>> prompts[0].text, prompts[0].answer
        ('Snow done in "0". Card done in "1". Mask done in "2". Bus done in "3". Pot done in "', '4')
        >>> mine = load_dataset([{"text": "so big", "pair": "size"}, {"text": "so small", "pair": "size"}])
        >>> mine[0].members, mine[0].values
        (('so big',), (1,))
    """
    if isinstance(data, Path):
        return read_prompts(data)
    if not isinstance(data, str):
        return _from_records(data)
    parts = [part.strip() for part in data.split(",") if part.strip()]
    design = design or SequenceDesign((FAMILIES["digits"],))
    texts = [part for part in parts if part.startswith(TEXT_PREFIX)]
    others = [part for part in parts if part not in texts]
    if not texts:
        return _named(others, design)
    found = documents([record for name in texts for record in read_documents(name.removeprefix(TEXT_PREFIX))])
    return Prompts((*(_named(others, design) if others else ()), *found), design.seed)


def _named(parts: Sequence[str], design: SequenceDesign) -> Prompts:
    """The prompts of all names but those of running text."""
    files = [part for part in parts if part.lower().endswith(SUFFIXES) and not part.startswith(("family:", "control:"))]
    relations = [part for part in parts if part.startswith(RELATION_PREFIX) and part not in files]
    names = [part for part in parts if part not in files + relations]
    if not parts:
        raise InputError("no data set given; try digits,numwords,months or a file of prompts")
    own = _own(files, [(name, record) for name in relations for record in parse_relation(name).records()])
    mine = Prompts(tuple(prompt for prompts in own for prompt in prompts), own[0].seed) if own else None
    alone = mine is not None and all(name.startswith(CONTROL_PREFIX) for name in names)
    if mine is not None and names and alone and any(prompt.kind == OWN and prompt.values for prompt in mine):
        return with_controls(mine, names)
    made = [make_prompts(replace(design, families=parse_families(names)))] if names else []
    sets = made + own
    if len(sets) == 1:
        return sets[0]
    return Prompts(tuple(prompt for prompts in sets for prompt in prompts), design.seed)


def with_controls(prompts: Prompts, names: Sequence[str]) -> Prompts:
    """Prompts of one's own, and controls that stand in their texts: random words at the places of the members.

    A control has a prompt for each context (frame and template) and ordinal: the first such text, its member exchanged
    for the control's word there. Ordinals with gaps are counted up first, so that controls have words for all.

    Args:
        prompts: of `own_prompts`.
        names: controls as data sets name them (`control:0-19`, `control:capitals:0-19`, `control:FILE`).

    Raises:
        InputError: no such control, one that shares a word with a family at an ordinal, or a text of several words
            that is a member as a whole, so that there is no place to exchange.
    """
    texts: dict[tuple[str, int, int], Prompt] = {}
    words: dict[int, set[str]] = defaultdict(set)
    for prompt in (one for one in prompts if one.kind == OWN and one.values):
        texts.setdefault((prompt.frame, prompt.template, prompt.values[0]), prompt)
        words[prompt.values[0]].add(prompt.members[0])
        if prompt.members == (prompt.text,) and len(prompt.text.split()) > 1:
            raise InputError(
                f"controls take the place of members, and {prompt.text!r:.60} names none; give your prompts a column "
                "member, or leave the controls out"
            )
    rank = {ordinal: min(words) + i for i, ordinal in enumerate(sorted(words))}
    controls = parse_families(names, {rank[ordinal]: own for ordinal, own in words.items()})
    made = [
        _exchanged(prompt, control.name, control.member(rank[ordinal]))
        for control in controls
        for (*_, ordinal), prompt in texts.items()
        if rank[ordinal] in control.ordinals
    ]
    return Prompts((*prompts, *made), prompts.seed)


def _exchanged(prompt: Prompt, family: str, word: str) -> Prompt:
    """A prompt with another member in the place of its first."""
    ((start, end),) = prompt.spans
    return Prompt(
        prompt.text[:start] + word + prompt.text[end:],
        family=family,
        template=prompt.template,
        frame=prompt.frame,
        values=prompt.values,
        members=(word,),
        spans=((start, start + len(word)),),
    )


def _own(names: list[str], records: list[Record]) -> list[Prompts]:
    """Prompts of each file that `write_prompts` wrote, and of all others with further records: pairs may lie in two."""
    by_line = [one.startswith(_BY_LINE) for one in names]
    if len(set(by_line)) > 1:
        raise InputError(f"{_BY_LINE} is asked for one file and not for another; write it before all of them or none")
    found = [read_records(one.removeprefix(_BY_LINE)) for one in names]
    own = records + [record for file in found if not is_saved(file) for record in file]
    saved = [saved_prompts(file) for file in found if is_saved(file)]
    return saved + ([own_prompts(own, by_line=any(by_line))] if own else [])


def _from_records(data: Any) -> Prompts:
    """Prompts of a table or list that is in memory."""
    if isinstance(data, pd.DataFrame) and not data.columns.is_unique:
        twice = data.columns[data.columns.duplicated()][0]
        raise InputError(f"a table's columns have names of their own; {str(twice)!r} comes twice")
    rows = data.to_dict(orient="records") if isinstance(data, pd.DataFrame) else data
    if isinstance(rows, Prompts):
        return rows
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        kind = type(data).__name__
        raise InputError(
            f"prompts come as names, a path, a table or a list of texts or dictionaries; got {kind}"
            + (": choose one of its splits" if isinstance(data, Mapping) else "")
        )
    records = [(f"item {number}", row) for number, row in enumerate(rows, start=1)]
    if records and all(isinstance(row, str) for _, row in records):
        return Prompts.from_texts(row for _, row in records)
    return own_prompts(records)
