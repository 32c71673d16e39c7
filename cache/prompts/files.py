"""Prompts in files: a user's own, as programs write tables, and ours, written and read back whole."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError

from cache.errors import InputError, NotAvailableError
from cache.prompts.own import Record, own_prompts
from cache.prompts.prompt import Prompt, Prompts
from cache.whole_files import write_whole

_DELIMITERS = (",", ";", "\t")
_EXCEL_SAYS = "sep="


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
    labels: tuple[tuple[str, str | int | float], ...] = ()
    seed: int


def read_prompts(path: str | Path, *, by_line: bool = False) -> Prompts:
    r"""Prompts from a file: JSONL, JSON (a list), CSV, TSV, TXT (a prompt a line), each also as .gz, or Parquet.

    Records and columns are `text` and what `own_prompts` takes beside it; further ones are kept as labels. Tables may
    be divided by commas, semicolons (as Excel does in many countries) or tabs, begin with a byte order mark or Excel's
    `sep=;`, and have pandas' column of row numbers, which is left out. Files of `write_prompts` come back as they were.

    Args:
        path: the file.
        by_line: pair what no column pairs by its order (`own_prompts`).

    Raises:
        NotAvailableError: there is no such file, or nothing here that reads Parquet.
        InputError: a line cannot be read, or is no prompt; the message gives its number and what is wrong.
    """
    records = read_records(path)
    return saved_prompts(records) if is_saved(records) else own_prompts(records, by_line=by_line)


def read_records(path: str | Path) -> list[Record]:
    """The records of a file as `read_prompts` reads it, before they are prompts.

    Raises:
        NotAvailableError: there is no such file, or nothing here that reads Parquet.
        InputError: a line cannot be read, or there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise NotAvailableError(f"no prompt file {str(path)!r}")
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"prompts come as {', '.join(_READERS)} (or .gz of these) or .parquet; got {str(path)!r}")
    if path.suffix.lower() == ".parquet":
        return _some(path, list(_parquet_rows(path)))
    return _some(path, list(_READERS[suffix_of(path)](path, text_of(path))))


def text_of(path: Path) -> str:
    """The text of a file, unpacked if it ends with `.gz`; its line ends are line feeds, a byte order mark is left out.

    Raises:
        InputError: it is not UTF-8, or cannot be unpacked.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be unpacked: {error}") from error


def suffix_of(path: Path) -> str:
    """What a file's name ends with, `.gz` left out."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


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


def _text_lines(path: Path, text: str) -> Iterator[Record]:
    # not str.splitlines, which also cuts at form feeds and other marks inside a text
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path} line {number}", {"text": line.removesuffix("\r")}


def _json_lines(path: Path, text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path} line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path} line {number} is not JSON: {str(error).splitlines()[0]}") from error


def _json_list(path: Path, text: str) -> Iterator[Record]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(found, list):
        raise InputError(
            f"{path} holds a {type(found).__name__}; give a list of objects with a field text, or of texts"
        )
    for number, record in enumerate(found, start=1):
        yield f"{path} item {number}", {"text": record} if isinstance(record, str) else record


def _table_lines(path: Path, text: str) -> Iterator[Record]:
    delimiter, skipped, text = _delimiter(text, "\t" if suffix_of(path) == ".tsv" else ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True, delimiter=delimiter)
    try:
        columns = list(reader.fieldnames or ())
        numbered = columns[:1] in ([""], ["Unnamed: 0"]) and _have_text(columns)
        unusable = [name for name in columns[numbered:] if not name or columns.count(name) > 1]
        if unusable:
            raise InputError(f"{path} line 1 has a column that is unnamed or named twice: {unusable[0]!r}")
        if numbered:
            reader.fieldnames = [_ROW_NUMBER, *columns[1:]]
        for row in reader:
            if "" in row or None in row.values():
                number = reader.line_num + skipped
                raise InputError(f"{path} line {number} has not as many cells as there are columns")
            row.pop(_ROW_NUMBER, None)
            yield f"{path} line {reader.line_num + skipped}", row
    except csv.Error as error:
        number = reader.reader.line_num + skipped
        raise InputError(f"{path} line {number} cannot be read as csv: {error}") from error


def _delimiter(text: str, usual: str) -> tuple[str, int, str]:
    """What divides the cells of a table, the lines before its header, and the table."""
    begun = text.lstrip("\r\n")
    blank = text[: len(text) - len(begun)].count("\n")
    first, _, rest = begun.partition("\n")
    if first.lower().startswith(_EXCEL_SAYS) and first[len(_EXCEL_SAYS) :].rstrip("\r") in _DELIMITERS:
        return first[len(_EXCEL_SAYS)], blank + 1, rest
    for delimiter in _DELIMITERS:
        names = first.rstrip("\r").split(delimiter)
        if len(names) > 1 and _have_text(name.strip('"') for name in names):
            return delimiter, blank, begun
    return usual, blank, begun


def _have_text(names: Iterable[str]) -> bool:
    return "text" in (name.strip().lower() for name in names)


def _parquet_rows(path: Path) -> Iterator[Record]:
    import pandas as pd

    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        raise NotAvailableError(f"reading {path} takes pyarrow: pip install pyarrow") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    for number, record in enumerate(table.to_dict(orient="records"), start=1):
        yield f"{path} row {number}", record


_ROW_NUMBER = " "
_READERS: Mapping[str, Callable[[Path, str], Iterator[Record]]] = MappingProxyType(
    {
        ".jsonl": _json_lines,
        ".json": _json_list,
        ".csv": _table_lines,
        ".tsv": _table_lines,
        ".txt": _text_lines,
    }
)
SUFFIXES = (*_READERS, *(f"{suffix}.gz" for suffix in _READERS), ".parquet")
"""The names that files of prompts end with."""


def _some(path: Path, records: list[Record]) -> list[Record]:
    if not records:
        raise InputError(f"{path} holds no prompts")
    return records


def is_saved(records: Sequence[Record]) -> bool:
    """Whether records are those of `write_prompts`; a table may have a column of the name `spans`."""
    return isinstance(records[0][1], dict) and isinstance(records[0][1].get("spans"), list)


def saved_prompts(records: Sequence[Record]) -> Prompts:
    """The prompts that `write_prompts` wrote.

    Raises:
        InputError: a record lacks a field, or is no prompt.
    """
    prompts, seeds = [], set()
    for where, record in records:
        try:
            saved = _SavedPrompt.model_validate(record).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{where}: {'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}") from error
        seeds.add(saved.pop("seed"))
        try:
            prompts.append(Prompt(**saved))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return Prompts(tuple(prompts), seed=min(seeds))
