"""Stores of activations that were recorded elsewhere: arrays and a table of their rows, sealed like any recording."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xxhash
from jaxtyping import Float, Shaped
from torch import Tensor

from cache.arrays import ArrayLike, as_rows, in_another_order
from cache.errors import FingerprintError, InputError, NumbersError
from cache.models.hooks import Hook, HookLike, as_hook, in_order, layers_by_kind
from cache.models.model import LoadedModel
from cache.prompts.datasets import load_dataset
from cache.prompts.prompt import Prompts
from cache.sealed.footer import SEALED_VERSION
from cache.sealed.layout import SealedLayout
from cache.sealed.lock import writer_lock
from cache.sealed.log import read_log
from cache.sealed.opening import read_attribute, safe_open
from cache.sealed.path import check_replaceable, prepare_path
from cache.sealed.writer import SealedWriter, check_space, create_sealed, open_writer
from cache.store.file import site_name
from cache.store.manifest import digest, prompt_fields, soft_fields
from cache.store.plan import STORAGE_DTYPES
from cache.store.tables import as_bytes, frozen_tables, layout_of, read_manifest

ROWS_PER_BLOCK = 4096
OF_A_ROW = ("prompt", "position", "token", "token_text", "is_last")
"""Columns that say of a row which of its prompt's it is; all others are of its prompt."""

Arrays = Mapping[Hook, Float[Tensor, "row ..."]]


def store_arrays(
    arrays: Mapping[HookLike, ArrayLike],
    rows: Any,
    path: str | Path,
    *,
    model: LoadedModel | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Write activations that were recorded elsewhere to a sealed store (`ActivationStore.from_arrays`).

    Example:
        >>> from cache import ActivationStore
        >>> labels = [{"family": f, "pair": p, "template": t} for f in ("en", "fr") for p in "ab" for t in (1, 2)]
        >>> x = torch.eye(8)  # numpy arrays and data frames will do
        >>> with ActivationStore.from_arrays({("resid_post", 0): x}, labels, "activations/own.h5") as own:
        ...     own.load(("resid_post", 0), "family == 'fr'").shape
        torch.Size([4, 8])
    """
    if dtype not in STORAGE_DTYPES:
        raise InputError(f"dtype must be one of {', '.join(STORAGE_DTYPES)}; got {dtype!r}")
    if isinstance(rows, list | tuple) and all(isinstance(line, Mapping) for line in rows):
        rows = pd.DataFrame.from_records(rows)
    prompts, columns = _prompts_and_rows(rows)
    found = _checked(arrays, rows, len(columns["prompt"]))
    layout = _layout(found, prompts, columns, model, dtype)
    path = prepare_path(path)
    with writer_lock(path):
        check_replaceable(path)
        if overwrite or not path.exists() or not _is_there(path, layout):
            check_space(path.parent, layout.nbytes)
            with open_writer(path, create_sealed(path, layout)) as writer:
                _fill(writer, found, dtype)
    return path


def _fill(writer: SealedWriter, arrays: Arrays, dtype: str) -> None:
    def run(block: int) -> dict[str, int]:
        part = slice(block * ROWS_PER_BLOCK, (block + 1) * ROWS_PER_BLOCK)
        return {
            site_name(hook): writer.write(block, site_name(hook), _cast(x[part], hook, dtype))
            for hook, x in arrays.items()
        }

    writer.fill(run, lambda *_: None, lambda: False)


def _checked(arrays: Mapping[HookLike, ArrayLike], rows: Any, n_rows: int) -> Arrays:
    """The arrays by site, in the order of a forward pass, of as many rows as there are labels."""
    if not isinstance(arrays, Mapping) or not arrays:
        raise InputError(f"arrays come by site, as {{('resid_post', 3): x}}; got {type(arrays).__name__}")
    found = {}
    for name, x in arrays.items():
        hook = as_hook(name)
        if hook.head is not None:
            raise InputError(f"{hook.name} comes with all of its heads, as (row, head, d_head); got head {hook.head}")
        if isinstance(x, pd.DataFrame) and isinstance(rows, pd.DataFrame) and in_another_order(x.index, rows.index):
            raise InputError(f"{hook.name}: the rows of the table in another order; x.loc[rows.index] puts them right")
        found[hook] = as_rows(x, hook.name, axes=("row", "head", "d_head") if hook.has_heads else ("row", "d"))
        if len(found[hook]) != n_rows:
            raise InputError(f"{hook.name} has {len(found[hook])} rows, and the table of rows {n_rows}")
    if len(found) < len(arrays):
        raise InputError("two arrays are of one site; give each site once")
    return {hook: found[hook] for hook in in_order(found)}


def _prompts_and_rows(rows: Any) -> tuple[Prompts, dict[str, Shaped[np.ndarray, " row"]]]:
    """The prompts that rows are tokens of, and the columns of `/rows`."""
    if not isinstance(rows, pd.DataFrame):
        prompts = load_dataset(rows)
        return prompts, _row_columns(pd.DataFrame(index=range(len(prompts))), np.arange(len(prompts)))
    if not len(rows):
        raise InputError("the table of rows has no row")
    table = rows.reset_index(drop=True)
    number, _ = pd.factorize(table.get("prompt", table.index))
    if (number < 0).any():
        raise InputError(f"row {int((number < 0).argmax())} names no prompt, and others do")
    of_prompts = table.drop(columns=[name for name in OF_A_ROW if name in table])
    first = of_prompts[~pd.Series(number).duplicated()].reset_index(drop=True)
    _check_constant(of_prompts, first, number)
    if "text" not in first:
        named = first.get("member", first.get("pair", pd.Series("", index=first.index)))
        given = [str(name) if pd.notna(name) and str(name) else f"row {i}" for i, name in enumerate(named)]
        first = first.assign(text=given)
    return load_dataset(first), _row_columns(table, number)


def _check_constant(of_prompts: pd.DataFrame, first: pd.DataFrame, number: Shaped[np.ndarray, " row"]) -> None:
    """Refuse tables in which two rows of one prompt have different labels."""
    for name in of_prompts:
        own, whole = of_prompts[name], first[name].iloc[number].reset_index(drop=True)
        unlike = (own != whole) & ~(own.isna() & whole.isna())
        if unlike.any():
            i = int(unlike.to_numpy().argmax())
            raise InputError(
                f"rows of one prompt differ in {name!r}: {whole[i]!r:.40} and, in row {i}, {own[i]!r:.40}; give rows "
                "of different labels different prompts"
            )


def _row_columns(table: pd.DataFrame, number: Shaped[np.ndarray, " row"]) -> dict[str, Shaped[np.ndarray, " row"]]:
    """The columns of `/rows`: what the table has, else rows counted in their prompt, whose last one is its last."""
    counted = pd.Series(number).groupby(number).cumcount()
    position = _whole(table, "position", counted.to_numpy())
    latest = pd.Series(position).groupby(number).transform("max").to_numpy() == position
    texts = table["token_text"].astype(object).fillna("") if "token_text" in table else [""] * len(number)
    return {
        "prompt": number.astype(np.int32),
        "position": position,
        "token": _whole(table, "token", np.full(len(number), -1)),
        "token_text": as_bytes(str(text).replace("\0", "\ufffd") for text in texts),
        "member": np.full(len(number), -1, dtype=np.int32),
        "is_last": _whole(table, "is_last", latest).astype(bool).astype(np.uint8),
    }


def _whole(table: pd.DataFrame, name: str, otherwise: Shaped[np.ndarray, " row"]) -> Shaped[np.ndarray, " row"]:
    if name not in table:
        return otherwise.astype(np.int32)
    values = pd.to_numeric(table[name], errors="coerce")
    if values.isna().any() or (values != values.round()).any() or values.abs().max() >= 1 << 31:
        given = table[name].iloc[0]
        raise InputError(f"the column {name!r} of the table of rows holds whole numbers; got {given!r:.40}")
    return values.to_numpy(np.int32)


def _layout(
    arrays: Arrays,
    prompts: Prompts,
    rows: Mapping[str, Shaped[np.ndarray, " row"]],
    model: LoadedModel | None,
    dtype: str,
) -> SealedLayout:
    hard = {
        "format version": SEALED_VERSION,
        "model weights": "" if model is None else model.weights,
        "model revision": "" if model is None else model.revision,
        "model processing": "none" if model is None else model.processing,
        "compute dtype": "" if model is None else model.dtype,
        "attention": "" if model is None else model.attention,
        "tokenizer": "" if model is None else model.tokenizer_rules,
        "bos": model is not None and model.bos,
        **prompt_fields(prompts),
        "prompt tokens": digest({name: rows[name].tolist() for name in ("prompt", "position", "token", "is_last")}),
        "hooks": layers_by_kind(arrays),
        "positions": "given",
        "storage dtype": dtype,
        "block plan": {"batch tokens": 0, "blocks": digest(ROWS_PER_BLOCK)},
        "arrays": digest({hook.name: xxhash.xxh3_128_hexdigest(_bytes(x)) for hook, x in arrays.items()}),
    }
    sites = {hook: (tuple(x.shape[1:]), dtype) for hook, x in arrays.items()}
    block = np.arange(len(rows["prompt"]), dtype=np.int32) // ROWS_PER_BLOCK
    return layout_of(sites, frozen_tables(prompts, rows), block, hard, soft_fields(model), shlex.join(sys.argv))


def _bytes(x: Float[Tensor, "row ..."]) -> memoryview:
    return np.ascontiguousarray(x.numpy()).reshape(-1).view(np.uint8).data


def _cast(x: Float[Tensor, "row ..."], hook: Hook, dtype: str) -> Float[np.ndarray, "row ..."]:
    with np.errstate(over="ignore"):
        stored = x.numpy().astype(dtype)
    if not np.isfinite(stored).all():
        raise NumbersError(f"{hook.name} has a value of {float(x.abs().max()):.3g}: more than {dtype} can hold")
    return stored


def _is_there(path: Path, layout: SealedLayout) -> bool:
    """Whether the file at the path holds all of it already; one that was broken off is written anew."""
    with safe_open(path) as file:
        read_manifest(file)
        if read_attribute(file, "fingerprint") != layout.attributes["fingerprint"]:
            raise FingerprintError(f"{path} holds other activations; choose another path, or overwrite=True")
        return bool(read_log(file).committed.all())
