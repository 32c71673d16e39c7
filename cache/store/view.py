"""Which sites of a store and which of its rows are looked at: chosen once, and read by the same object."""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped
from torch import Tensor

from cache.errors import InputError
from cache.models.hooks import Hook, Layers, layers_text, parse_layers
from cache.row_query import evaluate

if TYPE_CHECKING:
    from cache.store.store import ActivationStore

Where = str | Bool[np.ndarray, "_"] | Bool[Tensor, "_"] | pd.Series | None
"""Which rows: a query over their columns, a mask over all of them, or None for what the caller takes by itself."""


SPREAD = 8
"""Layers that `spread` takes of a site, at most."""


@dataclass(frozen=True, eq=False)
class View:
    """Sites of one kind and rows of a store; what `ActivationStore.view` makes and every analysis takes.

    Attributes:
        store: the store.
        site: the kind of the sites.
        hooks: the sites, lowest first; those of `resid_post` begin with the embedding (layer -1).
        layers: which were asked for, as results note it.
        where: which rows: a query, a mask, or None for what an analysis takes by itself.

    Example:
        >>> view = store.view("resid_post", layers="1-2", where="is_last and family == 'digits'")
        >>> [hook.layer for hook in view.hooks], int(view.chosen().sum())
        ([1, 2], 30)
    """

    store: "ActivationStore" = field(repr=False)
    site: str
    hooks: tuple[Hook, ...]
    layers: str
    where: Where = field(default=None, repr=False)

    def chosen(self, default: str = "is_last") -> Bool[np.ndarray, " row"]:
        """The rows as a mask over all of the store's, those of `default` where none were asked for; BOS is left out."""
        asked = row_mask(self.store.rows, default if self.where is None else self.where)
        return asked & (self.store.rows["position"] >= 0).to_numpy()

    def noted(self, default: str = "is_last") -> str:
        """The rows as results note them (`where_text`)."""
        return where_text(self.where, default)

    @property
    def source(self) -> str:
        """What is looked at: the store's fingerprint, and which of its rows there are while it is being recorded."""
        store = self.store
        if store.complete:
            return store.fingerprint
        prompts = hashlib.sha256(store.rows["prompt"].to_numpy().tobytes()).hexdigest()[:8]
        return f"{store.fingerprint} ({len(store.rows)} of {store.n_planned} rows, sha256 {prompts})"


def view_of(store: "ActivationStore", site: str, layers: Layers, where: Where) -> View:
    """The view that `ActivationStore.view` gives."""
    row_mask(store.rows, where)
    return View(store, site, _site_hooks(store.hooks, site, layers), layers_text(layers), where)


def check_view(view: View) -> None:
    """Make sure that what is to be analysed is a view, and not a store or where one lies.

    Raises:
        InputError: it is anything else.
    """
    given: object = view
    if not isinstance(given, View):
        raise InputError(
            "an analysis takes a view of an open store, as ActivationStore.open(path).view('resid_post') gives it; "
            f"got {type(given).__name__}"
        )


def _site_hooks(hooks: tuple[Hook, ...], site: str, layers: Layers) -> tuple[Hook, ...]:
    """Those of one kind at some layers; `spread` takes up to 8, evenly, the embedding not among them."""
    mine = [hook for hook in hooks if hook.kind == site]
    if not mine:
        raise InputError(f"the store has no {site!r}; it has {', '.join(dict.fromkeys(hook.kind for hook in hooks))}")
    text = layers_text(layers).strip()
    if text == "spread":
        return tuple(_spread(mine))
    if site == "resid_post":
        mine = [hook for hook in hooks if hook == Hook("resid_pre", 0)] + mine
    if text == "all":
        return tuple(mine)
    there = sorted({hook.layer for hook in mine})
    try:
        chosen = set(parse_layers(text, 1 + there[-1]))
    except InputError:
        chosen = set()
    if not chosen or not chosen <= set(there):
        raise InputError(f"the store has {site} at layers {', '.join(map(str, there))}; got {layers_text(layers)!r}")
    return tuple(hook for hook in mine if hook.layer in chosen)


def _spread(hooks: list[Hook]) -> list[Hook]:
    if len(hooks) <= SPREAD:
        return hooks
    return [hooks[i] for i in np.linspace(0, len(hooks) - 1, SPREAD + 1)[1:].round().astype(int).tolist()]


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
