"""What is in a store's file besides activations: its manifest, its rows and its prompts, written and read back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from jaxtyping import Int, Shaped

from cache.errors import CorruptFileError
from cache.models.hooks import Hook
from cache.prompts.prompt import ROW_LABELS, Prompts
from cache.sealed.layout import SealedLayout
from cache.sealed.opening import read_attribute
from cache.store.manifest import FEATURES, KINDS, STORE, Format, attributes_of, fingerprint_of, hard_fields, soft_fields

if TYPE_CHECKING:
    import pandas as pd

    from cache.models.model import LoadedModel
    from cache.store.plan import RecordingPlan

Columns = Mapping[str, Any]
"""A table by column, each an array or list of one value a line; who joins tables makes data frames of them."""

_ANEW = "record it anew with --overwrite"
ROW_COLUMNS = ("prompt", "position", "token", "token_text", "member", "is_last")
_TEXT_COLUMNS = ("text", "family", "frame", "kind", "answer", "distractor", "group", "pair_key")
_NUMBER_COLUMNS = {"is_last": "u1"} | dict.fromkeys(
    ("prompt", "position", "token", "member", "template", *(name.split("/")[1] for name in FEATURES.further)), "<i4"
)


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(item) is int and abs(item) < 1 << 63 for item in value)


def _texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _pairs(value: Any) -> bool:
    return isinstance(value, tuple) and all(_numbers(item) and len(item) == 2 for item in value)


_LIST_COLUMNS = {"values": _numbers, "members": _texts, "spans": _pairs}
PROMPT_COLUMNS = ("template", *_TEXT_COLUMNS, *_LIST_COLUMNS)
_TAKEN = frozenset((*PROMPT_COLUMNS, *ROW_LABELS, "labels"))


def store_layout(model: "LoadedModel", plan: "RecordingPlan", *, command: str = "") -> SealedLayout:
    """Everything of a store but its activations: one row a kept token, in the order of the prompts."""
    hard = hard_fields(model, plan)
    rows = _row_columns(model, plan)
    block_of_prompt = np.empty(len(plan.tokenized.prompts), dtype=np.int32)
    for number, block in enumerate(plan.blocks):
        block_of_prompt[list(block)] = number
    sites = {hook: (model.row_shape(hook), plan.dtype) for hook in plan.hooks}
    tables = frozen_tables(plan.tokenized.prompts, rows)
    return layout_of(sites, tables, block_of_prompt[rows["prompt"]], hard, soft_fields(model), command)


def layout_of(
    sites: Mapping[Hook, tuple[tuple[int, ...], str]],
    tables: Mapping[str, Shaped[np.ndarray, "..."]],
    block: Int[np.ndarray, " row"],
    hard: Mapping[str, Any],
    soft: Mapping[str, Any],
    command: str,
) -> SealedLayout:
    """A store's file before its first block.

    Args:
        sites: the shape of a row and the type of each site.
        tables: what `frozen_tables` gives.
        block: the block of each row.
        hard: what the fingerprint covers.
        soft: what it does not.
        command: what made it.
    """
    named = {f"activations/{hook.name}": one for hook, one in sites.items()}
    return SealedLayout(named, tables, block, attributes_of(STORE, hard, soft, command))


def frozen_tables(
    prompts: Prompts, rows: Mapping[str, Shaped[np.ndarray, " row"]]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Rows and prompts as they stand in a store's file."""
    return _frozen(prompts.table(), [dict(prompt.labels) for prompt in prompts], rows)


def copied_tables(prompts: "pd.DataFrame", rows: "pd.DataFrame") -> dict[str, Shaped[np.ndarray, "..."]]:
    """The same of a store's own tables: its prompts, and those of its rows that another file is to have."""
    further = [str(name) for name in prompts if name not in PROMPT_COLUMNS]
    labels = [{str(name): value for name, value in line.items()} for line in prompts[further].to_dict("records")]
    columns = {name: rows[name].to_numpy(_NUMBER_COLUMNS[name]) for name in ROW_COLUMNS if name in _NUMBER_COLUMNS}
    return _frozen(prompts, labels, {**columns, "token_text": as_bytes(rows["token_text"])})


def _frozen(
    table: "pd.DataFrame", labels: list[dict[str, Any]], rows: Mapping[str, Shaped[np.ndarray, " row"]]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    frozen = {f"rows/{name}": column for name, column in rows.items()}
    frozen["prompts/template"] = table["template"].to_numpy(np.int32)
    frozen |= {f"prompts/{name}": as_bytes(table[name]) for name in _TEXT_COLUMNS}
    frozen |= {f"prompts/{name}": as_bytes(map(json.dumps, table[name])) for name in _LIST_COLUMNS}
    if any(labels):
        frozen["prompts/labels"] = as_bytes(map(json.dumps, labels))
    return frozen


def kind_of(file: h5py.File) -> Format | None:
    """Which of the kinds of file that there are an open one is; None if it is of none."""
    name = read_attribute(file, "format") if "format" in file.attrs else ""
    return next((kind for kind in KINDS if kind.name == name), None)


def read_manifest(file: h5py.File, kind: Format = STORE) -> dict[str, Any]:
    """The manifest of an open file: `hard` fields that its fingerprint covers, and `soft` ones.

    Raises:
        CorruptFileError: the file is of another kind, or its manifest was changed or lacks a field.
    """
    path = Path(file.filename)
    found = kind_of(file)
    if found is not kind:
        what = "HDF5 but" if found is None else f"{found.called},"
        raise CorruptFileError(f"{path} is {what} not {kind.called}; {kind.made_by} makes them")
    try:
        manifest = json.loads(read_attribute(file, "manifest"))
        intact = fingerprint_of(manifest["hard"]) == read_attribute(file, "fingerprint")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} has no readable manifest; {_ANEW}") from error
    if not intact:
        raise CorruptFileError(f"{path} has a manifest that does not match its fingerprint; {_ANEW}")
    if not (_has_fields(manifest["hard"], kind.hard) and isinstance(manifest.get("soft"), dict)):
        raise CorruptFileError(f"{path} has no readable manifest; {_ANEW}")
    return dict(manifest)


def read_rows(file: h5py.File) -> Columns:
    """The rows of an open store, one a kept token, with the columns of `/rows`.

    Raises:
        CorruptFileError: a column is of another type.
    """
    columns = {name: _column(file, f"rows/{name}") for name in ROW_COLUMNS}
    _check_lengths(file, "rows", columns)
    return {**columns, "is_last": columns["is_last"].astype(bool)}


def read_further(file: h5py.File, kind: Format) -> Columns:
    """What an open file has beside rows, prompts and what it has of each row, by the names of its datasets.

    Raises:
        CorruptFileError: one is of another type.
    """
    return {name: _column(file, name) for name in kind.further}


def read_prompt_table(file: h5py.File) -> Columns:
    """The prompts of an open store, one line each; lists come back as tuples.

    Raises:
        CorruptFileError: a column is of another type, or what should be lists is something else.
    """
    columns = {name: _column(file, f"prompts/{name}") for name in PROMPT_COLUMNS}
    _check_lengths(file, "prompts", columns)
    for name in _LIST_COLUMNS:
        columns[name] = [_tuples(json.loads(text)) for text in columns[name]]
        if not all(map(_LIST_COLUMNS[name], columns[name])):
            raise CorruptFileError(f"{file.filename} has something else than lists in /prompts/{name}")
    return columns | _further_labels(file, len(columns["text"]))


def _check_lengths(file: h5py.File, table: str, columns: Columns) -> None:
    if len(set(map(len, columns.values()))) > 1:
        raise CorruptFileError(f"{file.filename} cannot be read: columns of /{table} have unlike lengths")


def _further_labels(file: h5py.File, n_prompts: int) -> dict[str, Any]:
    """A column for each label that prompts have beside the known ones; empty where a prompt lacks it."""
    lines = [json.loads(text) for text in _column(file, "prompts/labels")] if "labels" in file["prompts"] else []
    for line in lines:
        names = set(line) if isinstance(line, dict) else {""}
        if "" in names or names & _TAKEN or not all(isinstance(line[name], (str, int, float)) for name in names):
            raise CorruptFileError(f"{file.filename} has something else than labels in /prompts/labels")
    if lines and len(lines) != n_prompts:
        raise CorruptFileError(f"{file.filename} has labels of {len(lines)} prompts, and {n_prompts} prompts")
    return {name: [line.get(name, "") for line in lines] for name in dict.fromkeys(n for line in lines for n in line)}


def _row_columns(model: "LoadedModel", plan: "RecordingPlan") -> dict[str, Shaped[np.ndarray, "row"]]:
    tokenized = plan.tokenized
    kept = [plan.kept(i) for i in range(len(tokenized.prompts))]
    ids = np.concatenate([tokenized.seen(i)[keep] for i, keep in enumerate(kept)]).astype(np.int32)
    members = [np.append([-1] * plan.bos, tokenized.members[i])[keep] for i, keep in enumerate(kept)]
    positions = [np.flatnonzero(keep) - plan.bos for keep in kept]
    vocabulary = {int(token): model.tokenizer.decode([int(token)]).replace("\0", "\ufffd") for token in np.unique(ids)}
    return {
        "prompt": np.repeat(np.arange(len(kept), dtype=np.int32), [len(p) for p in positions]),
        "position": np.concatenate(positions).astype(np.int32),
        "token": ids,
        "token_text": as_bytes(vocabulary[int(token)] for token in ids),
        "member": np.concatenate(members).astype(np.int32),
        "is_last": np.concatenate([np.arange(len(p)) == len(p) - 1 for p in positions]).astype(np.uint8),
    }


def as_bytes(texts: Any) -> Shaped[np.ndarray, "row"]:
    """Texts as they are stored: UTF-8 of fixed length."""
    return np.array([str(text).encode() for text in texts], dtype=np.bytes_)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _column(file: h5py.File, name: str) -> Any:
    content = file[name][:]
    numbers = _NUMBER_COLUMNS.get(name.split("/")[1])
    if content.ndim != 1 or (content.dtype != numbers if numbers else content.dtype.kind != "S"):
        raise CorruptFileError(
            f"{file.filename} has data of type {content.dtype}, {content.ndim}-dimensional, at {name}"
        )
    return content if numbers else [text.decode() for text in content]


def _has_fields(hard: Any, types: Mapping[str, type]) -> bool:
    return isinstance(hard, dict) and all(type(hard.get(name)) is one for name, one in types.items())


def join_labels(prompts: "pd.DataFrame", rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with what their prompts say of them: the columns of `ActivationStore.rows`."""
    labels = ["family", "frame", "template", "kind", "group", "answer", "distractor", "pair_key"]
    labels += [str(name) for name in prompts if name not in PROMPT_COLUMNS]
    pairs: list[tuple[Any, Any]] = list(zip(rows["prompt"], rows["member"], strict=True))
    values, members = prompts["values"].to_dict(), prompts["members"].to_dict()
    value = [values[p][m] if m >= 0 else -1 for p, m in pairs]
    shown = [members[p][m] if m >= 0 else "" for p, m in pairs]
    return rows.assign(value=value, shown=shown).join(prompts[labels], on="prompt")
