"""Prompts in files: a user's own (JSONL, CSV, TXT) and ours, written and read back whole."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cache.errors import InputError, NotAvailableError
from cache.prompts.prompt import Prompt, Prompts
from cache.prompts.spans import last_span
from cache.whole_files import write_whole

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
    `answer` and `group`. A member is marked where it last stands in its text as a whole word (`last_span`);
    members are numbered in the order in which the file first names them, and two groups (or families) that show
    the same members the same number of times are matched member by member. Files written by `write_prompts` come
    back as they were.

    Raises:
        NotAvailableError: there is no such file.
        InputError: a line cannot be read, or its member does not stand in its text; the message gives its number
            and what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise NotAvailableError(f"no prompt file {str(path)!r}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"prompts come as {', '.join(SUFFIXES)}; got {str(path)!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    records = list({".txt": _text_lines, ".jsonl": _json_lines, ".csv": _csv_lines}[suffix](path, text))
    return _from_records(path, records)


def write_prompts(prompts: Prompts, path: str | Path) -> None:
    """Write every field of every prompt as JSON lines, which `read_prompts` reads back unchanged.

    The file is whole or not there.

    Raises:
        InputError: the path is a folder, a symbolic link or a device.
        NotAvailableError: the folder cannot be made, or takes no file.
        NoSpaceError: there is no room.
    """
    lines = [json.dumps({**asdict(p), "seed": prompts.seed}, ensure_ascii=False) for p in prompts]
    write_whole(path, "\n".join(lines) + "\n")


def _text_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    # not str.splitlines, which also cuts at form feeds and other marks inside a text
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {"text": line.removesuffix("\r")}


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path} line {number} is not JSON: {str(error).splitlines()[0]}") from error


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        columns = list(reader.fieldnames or ())
        unusable = [name for name in columns if not name or columns.count(name) > 1]
        if unusable:
            raise InputError(f"{path} line 1 has a column that is unnamed or named twice: {unusable[0]!r}")
        for row in reader:
            if "" in row or None in row.values():
                raise InputError(f"{path} line {reader.line_num} has not as many cells as there are columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path} line {reader.reader.line_num} cannot be read as csv: {error}") from error


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
        numbered = zip(records, fields, strict=True)
        prompts = tuple(_at_line(path, number, Prompt, **field) for (number, _), field in numbered)
        return Prompts(prompts, seed=min(seeds))
    return Prompts(_own_prompts(path, [number for number, _ in records], lines))


def _own_prompts(path: Path, numbers: list[int], lines: list[Any]) -> tuple[Prompt, ...]:
    ordinals = {member: i for i, member in enumerate(dict.fromkeys(line.member for line in lines if line.member), 1)}
    repetitions: Counter[tuple[str, str, str]] = Counter()
    prompts = []
    for number, line in zip(numbers, lines, strict=True):
        labels = (line.family, line.group, line.member)
        shown = bool(line.member)
        fields = {
            "text": line.text,
            "family": line.family,
            "template": repetitions[labels],
            "values": (ordinals[line.member],) if shown else (),
            "members": (line.member,) if shown else (),
            "spans": (_at_line(path, number, last_span, line.text, line.member),) if shown else (),
            "answer": line.answer,
            "group": line.group,
        }
        prompts.append(_at_line(path, number, Prompt, **fields))
        repetitions[labels] += 1
    return tuple(prompts)


def _at_line(path: Path, number: int, make: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a function makes of a line; where it refuses, the message says which line."""
    try:
        return make(*given, **named)
    except InputError as error:
        raise InputError(f"{path} line {number}: {error}") from error
