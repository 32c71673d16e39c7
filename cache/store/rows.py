"""The rows of a store with the labels of their prompts, and choosing among them."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped
from torch import Tensor

from cache.errors import InputError
from cache.store.row_query import evaluate

Where = str | Bool[np.ndarray, "_"] | Bool[Tensor, "_"] | pd.Series | None
"""Which rows: a query over their columns, a mask over all of them, or None for what the caller takes by itself."""


def join_labels(prompts: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with what their prompts say of them: the columns of `ActivationStore.rows`."""
    labels = ["family", "frame", "template", "kind", "group", "answer", "distractor", "pair_key"]
    pairs: list[tuple[Any, Any]] = list(zip(rows["prompt"], rows["member"], strict=True))
    value = [prompts["values"][p][m] if m >= 0 else -1 for p, m in pairs]
    shown = [prompts["members"][p][m] if m >= 0 else "" for p, m in pairs]
    return rows.assign(value=value, shown=shown).join(prompts[labels], on="prompt")


def query_rows(rows: pd.DataFrame, query: str) -> Bool[np.ndarray, " row"]:
    """The rows for which a query holds, as a mask.

    The query is written as for pandas, of column names, texts, numbers, comparisons (`1 < value <= 4`), and, or, not
    (or `&`, `|`, `~`), `in` with a list, `.isin([...])`, and `.str.contains('...')`, `.str.startswith` and
    `.str.endswith` with plain text. It is read, not run.

    Example:
        `family in ['digits', 'months'] and not is_last and value >= 3`

    Raises:
        InputError: the query is not one over these columns.
    """
    try:
        return evaluate(query, rows)
    except InputError as error:
        raise InputError(f"no query {query!r}: {error}; columns are {', '.join(rows.columns)}") from error


def row_mask(rows: pd.DataFrame, where: Where) -> Bool[np.ndarray, " row"]:
    """The rows that a query or a mask chooses, as a mask; all rows for None.

    Raises:
        InputError: `where` is no query over these rows, and no mask of as many.
    """
    if where is None:
        return np.ones(len(rows), dtype=bool)
    if isinstance(where, str):
        return query_rows(rows, where)
    mask = _array(where)
    if mask.dtype != bool or mask.shape != (len(rows),):
        given = f"{mask.dtype} {mask.shape}"
        raise InputError(f"where must be a query or a boolean mask over {len(rows)} rows; got {given}")
    if isinstance(where, pd.Series) and not where.index.equals(rows.index):
        raise InputError("where is a Series with another index than the rows; if it is in their order, give its values")
    return mask


def where_text(where: Where, default: str = "is_last") -> str:
    """What results note of `where`: the query, the default for None, or how many rows a mask chooses, and its hash.

    The hash is the beginning of the SHA-256 of the mask's bytes, one a row.
    """
    if where is None or isinstance(where, str):
        return default if where is None else where
    mask = _array(where)
    digest = hashlib.sha256(mask.tobytes()).hexdigest()[:8]
    return f"a mask of {mask.sum()} of {len(mask)} rows (sha256 {digest})"


def _array(mask: Any) -> Shaped[np.ndarray, "..."]:
    return np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
