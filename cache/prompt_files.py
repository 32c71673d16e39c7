"""Prompts in files: a user's own (JSONL, CSV, TXT) and ours, written and read back whole."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from cache.errors import InputError, NotAvailableError
from cache.prompts import Prompt, Prompts

SUFFIXES = (".jsonl", ".csv", ".txt")


class _OwnPrompt(BaseModel):
    """A line of a user's file."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str
    family: str = ""
    member: str = ""
    answer: str = ""
    group: str = ""


class _SavedPrompt(BaseModel):
    """A line written by `write_prompts`: every field of `Prompt`."""

    model_config = ConfigDict(extra="forbid")
    text: str
    family: str
    frame: str
    template: int
    kind: str
    values: tuple[int, ...]
    members: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    answer: str
    distractor: str
    group: str
    seed: int


def read_prompts(path: str | Path) -> Prompts:
    r"""Prompts from a JSONL, CSV or TXT file.

    TXT has one prompt a line. JSONL objects and CSV columns are `text` and, if wanted, `family`, `member`,
    `answer` and `group`. A member is marked where it last stands in its text; members are numbered in the
    order in which the file first names them, and two groups (or families) that show the same members the same
    number of times are matched member by member. Files written by `write_prompts` come back as they were.

    Raises:
        NotAvailableError: there is no such file.
        InputError: a line cannot be read; the message gives its number and what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise NotAvailableError(f"no prompt file {str(path)!r}")
    try:
        if path.suffix.lower() == ".txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            return Prompts.from_texts([line for line in lines if line.strip()])
        if path.suffix.lower() == ".jsonl":
            records = list(_json_lines(path))
        elif path.suffix.lower() == ".csv":
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            records = [(i + 2, dict(row)) for i, row in enumerate(frame.to_dict("records"))]
        else:
            raise InputError(f"prompts come as {', '.join(SUFFIXES)}; got {str(path)!r}")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from error
    return _from_records(path, records)


def write_prompts(prompts: Prompts, path: str | Path) -> None:
    """Write every field of every prompt as JSON lines, which `read_prompts` reads back unchanged."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({**asdict(p), "seed": prompts.seed}, ensure_ascii=False) for p in prompts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InputError(f"{path} line {number} is not JSON: {error}") from error


def _from_records(path: Path, records: list[tuple[int, Any]]) -> Prompts:
    if not records:
        raise InputError(f"{path} holds no prompts")
    saved = isinstance(records[0][1], dict) and "spans" in records[0][1]
    lines = []
    for number, record in records:
        try:
            lines.append((_SavedPrompt if saved else _OwnPrompt).model_validate(record))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "line"
            raise InputError(
                f"{path} line {number}: {where}: {first['msg']}; known fields are text, family, member, answer, group"
            ) from error
    if saved:
        fields = [line.model_dump() for line in lines]
        seeds = {field.pop("seed") for field in fields}
        return Prompts(tuple(Prompt(**field) for field in fields), seed=min(seeds))
    return Prompts(_own_prompts(lines))


def _own_prompts(lines: list[Any]) -> tuple[Prompt, ...]:
    ordinals = {member: i for i, member in enumerate(dict.fromkeys(line.member for line in lines if line.member), 1)}
    repetitions: Counter[tuple[str, str, str]] = Counter()
    prompts = []
    for line in lines:
        labels = (line.family, line.group, line.member)
        start = line.text.rfind(line.member) if line.member else -1
        shown = start >= 0
        prompts.append(
            Prompt(
                text=line.text,
                family=line.family,
                template=repetitions[labels],
                values=(ordinals[line.member],) if shown else (),
                members=(line.member,) if shown else (),
                spans=((start, start + len(line.member)),) if shown else (),
                answer=line.answer,
                group=line.group,
            )
        )
        repetitions[labels] += 1
    return tuple(prompts)
