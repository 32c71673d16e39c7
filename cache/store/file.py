"""One file of a store, opened: its tables, checked against each other, and a reader; and files that belong together."""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from cache.errors import CorruptFileError, FingerprintError, InputError
from cache.models.hooks import Hook, in_order, layers_by_kind
from cache.prompts.prompt import OWN, check_pairs
from cache.sealed.log import Log, read_log
from cache.sealed.opening import open_beside, read_attribute, safe_open
from cache.sealed.reader import SiteReader
from cache.store.manifest import STORE, Format, differences
from cache.store.tables import Columns, join_labels, kind_of, read_further, read_manifest, read_prompt_table, read_rows

if TYPE_CHECKING:
    import pandas as pd

_MODEL_FIELDS = ("model weights", "model processing", "compute dtype", "tokenizer", "bos")
_SITES = "activations/"
_STORED = (np.dtype("<f4"), np.dtype("<f2"))


@dataclass(frozen=True)
class StoreFile:
    """One open file of a store, or of what else there is of rows of prompts.

    Attributes:
        path: the file.
        kind: which of the two.
        manifest: what it was recorded from (`cache.store.manifest`).
        fingerprint: SHA-256 of the manifest's hard fields.
        created: when, ISO 8601, UTC.
        command: the command that created it.
        hooks: of a store its sites, in the order of a forward pass; else none.
        prompts: its prompts, by column.
        rows: its planned rows, recorded or not, by column.
        further: whole numbers that it has beside these (`Format.further`).
        log: which of its blocks are recorded.
        reader: reads what it has of each row.
    """

    path: Path
    kind: Format
    manifest: dict[str, Any]
    fingerprint: str
    created: str
    command: str
    hooks: tuple[Hook, ...]
    prompts: Columns
    rows: Columns
    further: Columns
    log: Log
    reader: SiteReader

    @property
    def n_prompts(self) -> int:
        """How many prompts it has."""
        return len(self.prompts["text"])

    @property
    def n_rows(self) -> int:
        """How many rows are planned."""
        return len(self.rows["prompt"])

    @property
    def recorded(self) -> Int[np.ndarray, "row"]:
        """The rows of committed blocks."""
        return np.flatnonzero(self.log.committed[self.log.block])

    def row_shape(self, hook: Hook) -> tuple[int, ...]:
        """The shape of one row of a site; heads come first."""
        return self.log.sites[site_name(hook)].row_shape


@dataclass(frozen=True)
class FileGroup:
    """Files with the same rows (the same prompts at the same positions), each with sites of its own.

    Attributes:
        files: the files.
        recorded: the rows that every file has recorded.
    """

    files: tuple[StoreFile, ...]
    recorded: Int[np.ndarray, "row"]

    def file_of(self, hook: Hook) -> StoreFile:
        """The file that has a site."""
        name = Hook(hook.kind, hook.layer)
        return next(file for file in self.files if name in file.hooks)


def site_name(hook: Hook) -> str:
    """The dataset of a hook's activations."""
    return _SITES + hook.name


def open_store_file(path: Path) -> StoreFile:
    """Open one file; the caller closes its reader.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file is no store, or is damaged.
    """
    return open_rows_file(path, STORE)


def open_rows_file(path: Path, kind: Format | None = None) -> StoreFile:
    """Open a file of one kind, or of whichever it is; what others than stores have of a row is for the caller to see.

    Raises:
        NotAvailableError: there is no such file.
        CorruptFileError: the file is of another kind, or is damaged.
    """
    with safe_open(path) as file:
        kind = kind or kind_of(file) or STORE
        manifest = read_manifest(file, kind)
        log = read_log(file)
        rows, prompts, further = read_rows(file), read_prompt_table(file), read_further(file, kind)
        fingerprint, created, command = (read_attribute(file, name) for name in ("fingerprint", "created", "command"))
        _check_log(path, log, kind)
        _check_tables(path, log, rows, prompts)
        hooks = _hooks(path, log, manifest["hard"]["hooks"]) if kind is STORE else ()
        reader = SiteReader(path, open_beside(file), log)
    return StoreFile(path, kind, manifest, fingerprint, created, command, hooks, prompts, rows, further, log, reader)


def check_joinable(files: list[StoreFile]) -> None:
    """Refuse to read files of different models as one store.

    Raises:
        FingerprintError: a field of the model differs; the message names every one.
    """
    first = files[0]
    for file in files[1:]:
        fields = [{name: one.manifest["hard"].get(name) for name in _MODEL_FIELDS} for one in (first, file)]
        unlike = differences(*fields)
        if unlike:
            raise FingerprintError(f"{first.path} and {file.path} cannot be joined: another {', '.join(unlike)}")


def grouped(files: list[StoreFile]) -> list[FileGroup]:
    """Files of the same prompts together.

    Raises:
        InputError: two keep other positions of the same prompts.
    """
    members: dict[str, list[StoreFile]] = {}
    for file in files:
        hard = file.manifest["hard"]
        key = str([hard[name] for name in ("prompt order", "prompt labels", "prompt tokens")])
        first = members.setdefault(key, [file])[0]
        if file is not first:
            members[key].append(file)
        if hard["positions"] != first.manifest["hard"]["positions"] or file.n_rows != first.n_rows:
            raise InputError(f"{first.path} and {file.path} keep other positions of the same prompts")
    return [
        FileGroup(tuple(group), reduce(np.intersect1d, (file.recorded for file in group))) for group in members.values()
    ]


def _check_log(path: Path, log: Log, kind: Format) -> None:
    if log.mark == "wrong" or (log.damaged and log.mark != "none"):  # unmarked it is not finished: going on mends it
        raise CorruptFileError(f"{path} has a damaged log; the {kind.made_by} command that made it mends that")


def _check_tables(path: Path, log: Log, rows: Columns, prompts: Columns) -> None:
    of_prompt = rows["prompt"]
    if len(of_prompt) != len(log.block):
        raise CorruptFileError(f"{path} has {len(log.block)} rows where its tables have {len(of_prompt)}")
    if not len(of_prompt) or not 0 <= of_prompt.min() <= of_prompt.max() < len(prompts["text"]):
        raise CorruptFileError(f"{path} has rows of prompts that it does not have")
    shown, values = (np.array([len(one) for one in prompts[name]]) for name in ("members", "values"))
    if (values != shown).any() or (rows["member"] >= shown[of_prompt]).any():
        raise CorruptFileError(f"{path}: a row names a member that its prompt does not show")


def _hooks(path: Path, log: Log, planned: dict[str, list[int]]) -> tuple[Hook, ...]:
    """The sites in the order of a forward pass.

    Raises:
        CorruptFileError: one has a name, shape or type that no recording gives, or they are not those planned.
    """
    for name, site in log.sites.items():
        if site.dtype not in _STORED or not site.row_shape:
            raise CorruptFileError(f"{path} has data of type {site.dtype} at {name}")
    try:
        hooks = {name: Hook.parse(name.removeprefix(_SITES)) for name in log.sites}
    except InputError as error:
        raise CorruptFileError(f"{path} has a site of an unknown name: {error}") from error
    for name, hook in hooks.items():
        shape = log.sites[name].row_shape
        if name != site_name(hook) or len(shape) != 1 + hook.has_heads or not all(shape):
            raise CorruptFileError(f"{path} has rows of shape {shape} at {name}, which no recording gives")
    ordered = in_order(hooks.values())
    if not ordered or layers_by_kind(ordered) != planned:
        raise CorruptFileError(f"{path} has other sites than its manifest names")
    return ordered


def joined_tables(groups: list[FileGroup]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """All prompts, and all recorded rows with the labels of their prompts."""
    import pandas as pd  # half the time that it takes to say what one file holds

    prompts, rows = [], []
    first = 0
    for group in groups:
        file = group.files[0]
        prompts.append(pd.DataFrame(dict(file.prompts)))
        recorded = pd.DataFrame(dict(file.rows)).iloc[group.recorded]
        rows.append(recorded.assign(prompt=recorded["prompt"] + first))
        first += file.n_prompts
    prompt_table = pd.concat(prompts, ignore_index=True).fillna("")  # labels that prompts of another file have
    if "pair" in prompt_table:
        paired = prompt_table[prompt_table["kind"].eq(OWN) & prompt_table["pair"].ne("")]
        paired = paired[paired["values"].map(len).gt(0)]
        check_pairs(zip([values[-1] for values in paired["values"]], paired["pair"], strict=True))
    return prompt_table, join_labels(prompt_table, pd.concat(rows, ignore_index=True))
