"""The store: activations, rows and prompts of one recording, or of several that belong together."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cache.errors import CorruptFileError, FingerprintError, InputError
from cache.fingerprint import differences
from cache.hooks import Hook, select_hooks
from cache.layout import read_manifest, read_prompt_table, read_rows
from cache.models import LoadedModel
from cache.rows import join_labels, query_rows
from cache.safe_open import open_checked, read_attribute, reading
from cache.sealed_log import checked_log, committed_blocks

Where = str | Bool[np.ndarray, "row"] | pd.Series | None

_GAP = 64  # reading so many rows too many costs less than another call
_SPAN = 8192  # sparse rows are few, and what lies between them many: so much is in memory at a time
_MODEL_FIELDS = ("model weights", "model processing", "compute dtype", "tokenizer", "bos")


@dataclass(frozen=True)
class _Group:
    """Files with the same rows (the same prompts at the same positions), each with sites of its own."""

    files: tuple[h5py.File, ...]
    recorded: Int[np.ndarray, "row"]  # the file's rows that every file of the group has

    def dataset(self, hook: Hook) -> h5py.Dataset:
        return next(file["activations"][hook.name] for file in self.files if hook.name in file["activations"])


class ActivationStore:
    """Recorded activations; every hook shares one row axis, a row being one token of one prompt.

    Rows of a file that is still being recorded, or was broken off, are those of its finished blocks.

    Attributes:
        paths: the files.
        hooks: the sites that every row has, in the order of a forward pass.
        rows: one row a recorded token: `prompt` (row number in `prompts`), `position` (counted in the text's
            tokens from 0; BOS is -1), `token`, `token_text`, `member` (index of the shown member whose last
            token it is, else -1), `is_last` (the text's last token), `value` (that member's ordinal, else -1),
            `shown` (that member, else empty), and the prompt's family, frame, template, kind, group, answer,
            distractor and pair_key.
        prompts: one row a prompt, with the fields of `cache.prompts.Prompt` and `pair_key`.
        complete: whether every planned row is recorded.
        fingerprint: SHA-256 over all that the recording depends on; of several files, joined by `+`.
        manifest: the fields behind the (first) fingerprint, and library versions.
        created: when the (first) file was created, ISO 8601, UTC.
        command: the command that created it.
    """

    def __init__(self, paths: tuple[Path, ...], groups: list[_Group]) -> None:
        self.paths = paths
        self._groups = groups
        files = [file for group in groups for file in group.files]
        self.manifest = read_manifest(files[0])
        self.fingerprint = "+".join(read_attribute(file, "fingerprint") for file in files)
        self.created = read_attribute(files[0], "created")
        self.command = read_attribute(files[0], "command")
        self.complete = all(len(group.recorded) == len(group.files[0]["log/block"]) for group in groups)
        named = [{name for file in group.files for name in file["activations"]} for group in groups]
        self.hooks = _in_order(set.intersection(*named))
        self.prompts, self.rows = _tables(groups)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Open one file; use `with`, or `close` it.

        Raises:
            NotAvailableError: there is no such file.
            CorruptFileError: the file is no store, or is damaged.
        """
        return open_stores([path])

    def load(self, hook: Hook | str | tuple[str, int], where: Where = None) -> Float[Tensor, "chosen d"]:
        """Activations of one site, float32 on the CPU; heads stand side by side unless the hook names one.

        Args:
            hook: a `Hook`, its name, or kind and layer: `("resid_post", 6)`. Layers count from the end if
                negative.
            where: which rows: a mask over `rows`, or a pandas query over its columns, such as
                `family == 'digits' and is_last`; None for all.

        Raises:
            InputError: the store has no such site (the message names near ones), or `where` is no such thing.
        """
        chosen = self._hook(hook)
        mask = self._mask(where)
        out = torch.empty((int(mask.sum()), self._width(chosen)), dtype=torch.float32)
        start = 0
        for part in self._slabs(chosen, mask, 1 << 16):
            out[start : start + len(part)] = part
            start += len(part)
        return out

    def __getitem__(self, hook: Hook | str | tuple[str, int]) -> Float[Tensor, "chosen d"]:
        return self.load(hook)

    def select(self, where: Where) -> pd.DataFrame:
        """The lines of `rows` that `load` gives for the same `where`, in the same order.

        Raises:
            InputError: as for `load`.
        """
        return self.rows[self._mask(where)].reset_index(drop=True)

    def blocks(
        self, hook: Hook | str | tuple[str, int], where: Where = None, *, n_rows: int = 8192
    ) -> Iterator[Float[Tensor, "chosen d"]]:
        """The same rows as `load`, in pieces of at most `n_rows`, for data larger than memory.

        Raises:
            InputError: as for `load`.
        """
        if n_rows < 1:
            raise InputError(f"n_rows must be 1 or more; got {n_rows}")
        return self._slabs(self._hook(hook), self._mask(where), n_rows)

    def close(self) -> None:
        """Close the files; tables and tensors already read stay."""
        for group in self._groups:
            for file in group.files:
                file.close()

    def __enter__(self) -> "ActivationStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hook(self, hook: Hook | str | tuple[str, int]) -> Hook:
        if isinstance(hook, tuple):
            kind, layer = hook
            layers = [known.layer for known in self.hooks]
            hook = Hook(kind, layer if layer >= 0 else max(layers) + 1 + layer)
        name = hook if isinstance(hook, str) else hook.name
        if name not in {known.name for known in self.hooks}:
            names = [known.name for known in self.hooks]
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
            raise InputError(f"{self.paths[0].name} has no {name!r}; near it are {', '.join(near)}")
        return Hook.parse(hook) if isinstance(hook, str) else hook

    def _mask(self, where: Where) -> Bool[np.ndarray, "row"]:
        if where is None:
            return np.ones(len(self.rows), dtype=bool)
        if isinstance(where, str):
            return query_rows(self.rows, where)
        mask = np.asarray(where)
        if mask.dtype != bool or mask.shape != (len(self.rows),):
            raise InputError(
                f"where must be a query or a boolean mask over {len(self.rows)} rows; got {mask.dtype} {mask.shape}"
            )
        return mask

    def _width(self, hook: Hook) -> int:
        if not self._groups[0].files[0]:
            raise InputError(f"{self.paths[0].name} is closed; open it again")
        shape = self._groups[0].dataset(hook).shape[1:]
        return int(shape[-1] if hook.head is not None else np.prod(shape))

    def _slabs(self, hook: Hook, mask: Bool[np.ndarray, "row"], n_rows: int) -> Iterator[Float[Tensor, "chosen d"]]:
        if not self._groups[0].files[0]:
            raise InputError(f"{self.paths[0].name} is closed; open it again")
        first = 0
        for group in self._groups:
            chosen = group.recorded[mask[first : first + len(group.recorded)]]
            first += len(group.recorded)
            dataset = group.dataset(hook)
            if hook.head is not None and hook.head >= dataset.shape[1]:
                raise InputError(f"{hook.name} has heads 0 to {dataset.shape[1] - 1}; got {hook.head}")
            for start in range(0, len(chosen), n_rows):
                yield _read(dataset, hook.head, chosen[start : start + n_rows])


def open_stores(paths: Iterable[str | Path]) -> ActivationStore:
    """Several files as one store: files with the same prompts add sites, files with others add rows.

    Raises:
        InputError: no path is given, two files keep other positions of the same prompts, or no site is in all.
        FingerprintError: the files come from different models, tokenizers or settings; names the fields.
        NotAvailableError, CorruptFileError: as for `ActivationStore.open`.
    """
    resolved = tuple(Path(path) for path in paths)
    if not resolved:
        raise InputError("no store given; give one or more .h5 files made by geometry cache")
    with (
        ExitStack() as stack,
        reading(resolved[0] if len(resolved) == 1 else " or ".join(map(str, resolved))),
    ):
        files = [stack.enter_context(open_checked(path)) for path in resolved]
        hard = [read_manifest(file)["hard"] for file in files]
        for path, fields in zip(resolved[1:], hard[1:], strict=True):
            chosen = [{name: field[name] for name in _MODEL_FIELDS} for field in (hard[0], fields)]
            unlike = differences(*chosen)
            if unlike:
                raise FingerprintError(f"{resolved[0]} and {path} cannot be joined: another {', '.join(unlike)}")
        members: dict[str, list[h5py.File]] = {}
        for file, fields in zip(files, hard, strict=True):
            key = str([fields[name] for name in ("prompt order", "prompt labels", "prompt tokens")])
            members.setdefault(key, []).append(file)
            if fields["positions"] != read_manifest(members[key][0])["hard"]["positions"]:
                raise InputError(
                    f"{members[key][0].filename} and {file.filename} keep other positions of the same prompts"
                )
        groups = [_Group(tuple(group), _recorded(group)) for group in members.values()]
        store = ActivationStore(resolved, groups)
        if not store.hooks:
            raise InputError(f"no site is in all of {', '.join(map(str, resolved))}")
        stack.pop_all()  # the store closes them from here on
        return store


def head_outputs(
    store: ActivationStore, model: LoadedModel, layer: int, where: Where = None
) -> Float[Tensor, "chosen head d_model"]:
    """What each head writes to the residual stream: `z @ W_O`; their sum plus `b_O` is attn_out.

    Raises:
        InputError: the store has no z of that layer, or comes from a model with other weights.
    """
    if store.manifest["hard"]["model weights"] != model.weights:
        raise InputError(
            f"{store.paths[0].name} was not recorded from {model.name}; give the model that it was recorded from"
        )
    z = store.load(Hook("z", layer), where)
    w_o = model.bridge.blocks[layer].attn.W_O.detach().float().cpu()
    return torch.einsum("rhd,hdm->rhm", z.reshape(len(z), *w_o.shape[:2]), w_o)


def _in_order(names: set[str]) -> tuple[Hook, ...]:
    try:
        return select_hooks(sorted(names), "all", 1 + max(Hook.parse(name).layer for name in names)) if names else ()
    except InputError as error:
        raise CorruptFileError(f"the store has a site of an unknown name: {error}") from error


def _recorded(files: list[h5py.File]) -> Int[np.ndarray, "row"]:
    """The rows that are recorded in every one of these files."""
    mask = np.ones(len(files[0]["log/block"]), dtype=bool)
    for file in files:
        blocks, _ = checked_log(file)
        if len(blocks) != len(mask):
            raise CorruptFileError(f"{file.filename} has {len(blocks)} rows where its manifest means {len(mask)}")
        mask &= committed_blocks(file)[blocks]
    return np.flatnonzero(mask)


def _tables(groups: list[_Group]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All prompts, and all recorded rows with the labels of their prompts."""
    prompts, rows = [], []
    first = 0
    for group in groups:
        table, row = read_prompt_table(group.files[0]), read_rows(group.files[0]).iloc[group.recorded]
        if len(row) and not 0 <= row["prompt"].min() <= row["prompt"].max() < len(table):
            raise CorruptFileError(f"{group.files[0].filename} has rows of prompts that it does not have")
        if any(member >= len(table["members"][p]) for p, member in zip(row["prompt"], row["member"], strict=True)):
            raise CorruptFileError(f"{group.files[0].filename}: a row names a member that its prompt does not show")
        prompts.append(table)
        rows.append(row.assign(prompt=row["prompt"] + first))
        first += len(table)
    prompt_table = pd.concat(prompts, ignore_index=True)
    return prompt_table, join_labels(prompt_table, pd.concat(rows, ignore_index=True))


def _read(dataset: h5py.Dataset, head: int | None, rows: Int[np.ndarray, "chosen"]) -> Float[Tensor, "chosen d"]:
    """Chosen rows of a dataset, ascending, read in stretches of at most `_SPAN` that bridge gaps of at most `_GAP`."""
    breaks = np.flatnonzero((np.diff(rows) > _GAP) | (np.diff(rows // _SPAN) > 0)) + 1
    return torch.cat([_read_stretch(dataset, head, part) for part in np.split(rows, breaks)])


def _read_stretch(dataset: h5py.Dataset, head: int | None, rows: Int[np.ndarray, "part"]) -> Float[Tensor, "part d"]:
    start, stop = int(rows[0]), int(rows[-1]) + 1
    shape = (stop - start, *dataset.shape[1:]) if head is None else (stop - start, dataset.shape[-1])
    stretch = torch.empty(shape, dtype=getattr(torch, dataset.dtype.name))
    selection = np.s_[start:stop] if head is None else np.s_[start:stop, head]
    dataset.read_direct(stretch.numpy(), source_sel=selection)
    flat = stretch.reshape(len(stretch), -1)
    return (flat if len(rows) == len(flat) else flat[torch.from_numpy(rows - start)]).float()
