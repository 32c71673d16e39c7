"""Running text: documents from files, which a recording cuts into windows of its model's tokens."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cache.errors import InputError, NotAvailableError
from cache.prompts.files import SUFFIXES, read_records, suffix_of, text_of
from cache.prompts.own import Label, Record, at, further_labels
from cache.prompts.prompt import DOCUMENT, Prompt, Prompts

TEXT_PREFIX = "text:"
DIVIDER = "<|endoftext|>"
"""What stands between the documents of a plain text file, as in those that GPT-2's successors are trained on."""

WINDOW = "window"
"""The label of a window: its number in its document, from 0."""

_PLAIN = (".txt", ".txt.gz")


class _Document(BaseModel):
    """A record with a document; what has another name is kept as a label."""

    model_config = ConfigDict(extra="allow", strict=True)
    text: str
    id: Label = ""


def read_documents(path: str | Path) -> list[Record]:
    """The documents of a file or folder, as records of `text`, perhaps `id`, and labels.

    A folder holds a document in each `.txt` or `.txt.gz` in it or below; a table (`.jsonl`, `.json`, `.csv`, `.tsv`,
    `.parquet`, or `.gz` of these) one a record; any other file is plain text and one document, or several between
    `<|endoftext|>`. A document without an `id` is called by its file's name, and its number where there are several.

    Raises:
        NotAvailableError: there is no such file or folder.
        InputError: a file is not UTF-8, cannot be unpacked or read, or there is no text.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.name.lower().endswith(_PLAIN) and one.is_file())
        records = [record for one in files for record in _plain_documents(one, _stem(one.relative_to(path)))]
    elif not path.is_file():
        raise NotAvailableError(f"no text file or folder {str(path)!r}")
    elif path.name.lower().endswith(SUFFIXES) and suffix_of(path) != ".txt":
        numbered = enumerate(read_records(path), start=1)
        records = [(where, _with_id(record, f"{_stem(Path(path.name))} {n}")) for n, (where, record) in numbered]
    else:
        records = _plain_documents(path, _stem(Path(path.name)))
    if not records:
        what = "has no .txt file with text in it" if path.is_dir() else "holds no text"
        raise InputError(f"{path} {what}; text is a plain file, a folder of .txt files, or a table with a column text")
    return records


def documents(records: Sequence[Record]) -> Prompts:
    """Documents as prompts without a family, each in a `group` of its own name; those without text are left out.

    Args:
        records: where each stands, for messages, and its `text`, `id` and labels by name.

    Raises:
        InputError: a record is none, none has text, two have one id, or a label has a name or a value that stores
            cannot keep.
    """
    found = [(where, one) for where, one in ((where, _validated(where, r)) for where, r in records) if one.text.strip()]
    labels = further_labels([(where, one.model_extra or {}) for where, one in found])
    prompts: dict[str, Prompt] = {}
    for (where, one), further in zip(found, labels, strict=True):
        if one.id in prompts:
            raise InputError(f"{where}: two documents have the id {one.id!r}; each needs its own, to be held out by")
        if WINDOW in dict(further):
            raise InputError(f"{where}: a label cannot be called {WINDOW}, which is a window's number; choose another")
        fields = {"frame": "text", "template": len(prompts), "kind": DOCUMENT, "group": one.id, "labels": further}
        prompts[one.id] = at(where, Prompt, one.text, **fields)
    if not prompts:
        raise InputError(f"{records[0][0].split(' line ')[0]} holds no text; give documents with some")
    return Prompts(tuple(prompts.values()))


def _plain_documents(path: Path, name: str) -> list[Record]:
    parts = text_of(path).split(DIVIDER)
    texts = [part.strip("\n") for part in parts if part.strip()] if len(parts) > 1 else [p for p in parts if p.strip()]
    names = [name] if len(texts) == 1 else [f"{name} {number}" for number in range(1, len(texts) + 1)]
    return [(str(path), {"text": text, "id": name}) for text, name in zip(texts, names, strict=True)]


def _stem(path: Path) -> str:
    """A file's name, or its path in a folder, without what it ends with."""
    name = path.as_posix()
    return name.removesuffix(".gz").removesuffix(suffix_of(path)) or name


def _with_id(record: object, name: str) -> object:
    return {**record, "id": name} if isinstance(record, dict) and record.get("id") in (None, "") else record


def _validated(where: str, record: object) -> _Document:
    try:
        return _Document.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "record"
        raise InputError(f"{where}: {place}: {first['msg']}; a document has text, and perhaps id and labels") from error
