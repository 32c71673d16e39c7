"""Which sites of a store and which of its rows are looked at: chosen once, and read by the same object."""

import hashlib
import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped
from torch import Tensor

from cache.errors import InputError
from cache.models.hooks import Hook, Layers, layers_text, parse_layers
from cache.prompts.prompt import TEXT
from cache.prompts.text import WINDOW
from cache.row_query import evaluate, names_in
from cache.shown.cards import card

if TYPE_CHECKING:
    from cache.store.store import ActivationStore

Where = str | Bool[np.ndarray, "_"] | Bool[Tensor, "_"] | pd.Series | None
"""Which rows: a query over their columns, a mask over all of them, or None for what the caller takes by itself."""


OF_PROMPTS = MappingProxyType({"members": "member >= 0 and position > 0", "last": "is_last", "all": "position >= 0"})
"""Which rows of each prompt: the tokens that end a shown member, its last token, or all but BOS.

A member that begins its text is left out: like BOS, though less, a first token draws attention and grows to many times
the norm of the others.
"""

OF_TOKENS = frozenset(("position", "token", "token_text", "member", "is_last", "value", "shown"))
"""Columns that tell tokens of one prompt apart: a query that names one chooses among all rows, and is not narrowed."""

NO_TEXT = f"kind != '{TEXT}'"
_OF_TEXT = ("kind", "frame", "group", WINDOW)

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
        where: which rows: a query, a mask, or None for all. A query of prompts' labels alone (`family == 'digits'`)
            chooses among what an analysis takes by itself; one that names a token's own columns (`is_last`, `member`,
            `position`, ...) or a mask among all rows.
        rows: which rows of each prompt, whatever an analysis takes by itself: one of `OF_PROMPTS`.

    Windows of running text are no part of it beside other prompts, unless `where` names a column that tells them
    (`kind == 'text'`; `frame`, `group`, `window`) or is a mask.

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
    rows: str | None = None

    def chosen(self, default: str = "is_last") -> Bool[np.ndarray, " row"]:
        """The rows as a mask over all of the store's; BOS is left out.

        Args:
            default: which of each prompt's, where neither `rows` nor `where` says so.
        """
        asked = (self.store.rows["position"] >= 0).to_numpy()
        for part in self._parts(default):
            asked = asked & row_mask(self.store.rows, part)
        return asked

    def noted(self, default: str = "is_last") -> str:
        """The rows as results note them: a query, or what `where_text` says of a mask."""
        return joined(*(where_text(part) for part in self._parts(default)))

    def names(self, *columns: str) -> bool:
        """Whether `where` may choose by one of these columns: its query names one, or it is a mask."""
        if isinstance(self.where, str):
            return not names_in(self.where).isdisjoint(columns)
        return self.where is not None

    @property
    def n_heads(self) -> int:
        """How many heads stand side by side in a row; 1 at sites that are not of heads."""
        hook = self.hooks[0]
        return self.store.width(hook) // self.store.width(replace(hook, head=0)) if hook.has_heads else 1

    def _parts(self, default: str) -> tuple[Where, ...]:
        """What all rows fit: the rows of each prompt first, and then what was asked for."""
        asked = () if self.where is None else (self.where,)
        kinds = self.store.prompts["kind"].eq(TEXT)
        if kinds.any() and not kinds.all() and not self.names(*_OF_TEXT):
            asked = (NO_TEXT, *asked)
        if self.rows is not None:
            return (OF_PROMPTS[self.rows], *asked)
        return asked if self.names(*OF_TOKENS) else (default, *asked)

    @property
    def source(self) -> str:
        """What is looked at: the store's fingerprint, and which of its rows there are while it is being recorded."""
        store = self.store
        if store.complete:
            return store.fingerprint
        prompts = hashlib.sha256(store.rows["prompt"].to_numpy().tobytes()).hexdigest()[:8]
        return f"{store.fingerprint} ({len(store.rows)} of {store.n_planned} rows, sha256 {prompts})"

    def _repr_html_(self) -> str:
        names = ", ".join(path.name for path in self.store.paths)
        facts = {"layers": self.layers, "rows": self.noted("what an analysis takes by itself")}
        rows = self.store.rows[self.chosen()][["family", "frame", "kind", "token_text", "shown", "answer"]]
        title = f"{self.site} of {names}: {len(self.hooks)} sites, {len(rows)} rows"
        return card(
            title, facts, rows, ("pca_by_layer(view)", "demix_by_layer(view)", 'between_families(view, "a", "b")')
        )


def view_of(store: "ActivationStore", site: str, layers: Layers, where: Where, rows: str | None) -> View:
    """The view that `ActivationStore.view` gives."""
    row_mask(store.rows, where)
    if rows is not None and rows not in OF_PROMPTS:
        raise InputError(f"rows are {', '.join(OF_PROMPTS)}; got {rows!r}")
    if site.startswith("blocks."):
        named = Hook.parse(site)
        site, layers = named.kind, named.layer if layers_text(layers).strip() in ("all", "spread") else layers
        hooks = tuple(hook for hook in _site_hooks(store.hooks, site, layers) if hook.kind == site)
        if [hook.layer for hook in hooks] != [named.layer]:
            raise InputError(f"{named.name} is of layer {named.layer} alone; got the layers {layers_text(layers)!r}")
    else:
        hooks = _site_hooks(store.hooks, site, layers)
    return View(store, site, hooks, layers_text(layers), where, rows)


def joined(*queries: str) -> str:
    """One query of several that all hold."""
    loose = re.compile(r"\bor\b|[|]")  # binds less than `and`
    return " and ".join(f"({one})" if loose.search(one) and len(queries) > 1 else one for one in queries)


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


def beyond_first_token(rows: pd.DataFrame) -> Bool[np.ndarray, " row"]:
    """Which rows are neither BOS nor a text's first token, whose norm is many times that of others in many models.

    All but BOS where no row is of a later token: of activations recorded elsewhere each may be a text of its own.
    """
    position = rows["position"].to_numpy()
    return position > 0 if (position > 0).any() else position >= 0


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
