"""The rows of a store with the labels of their prompts, and choosing among them."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from cache.errors import InputError


def join_labels(prompts: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with what their prompts say of them: the columns of `ActivationStore.rows`."""
    labels = ["family", "frame", "template", "kind", "group", "answer", "distractor", "pair_key"]
    pairs: list[tuple[Any, Any]] = list(zip(rows["prompt"], rows["member"], strict=True))
    value = [prompts["values"][p][m] if m >= 0 else -1 for p, m in pairs]
    shown = [prompts["members"][p][m] if m >= 0 else "" for p, m in pairs]
    return rows.assign(value=value, shown=shown).join(prompts[labels], on="prompt")


def query_rows(rows: pd.DataFrame, query: str) -> Bool[np.ndarray, "row"]:
    """The rows for which a pandas query holds, as a mask.

    Raises:
        InputError: the query is not one over these columns.
    """
    try:
        chosen = rows.eval(query, engine="python")
        mask = np.asarray(chosen)
        if mask.dtype != bool or mask.shape != (len(rows),):
            raise TypeError("it gives no true or false for each row (equality is written ==)")
    except Exception as error:  # whatever pandas raises, the user's query is at fault
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"no query {query!r}: {reason}; columns are {', '.join(rows.columns)}") from error
    return mask
