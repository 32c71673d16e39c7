"""Which rows of a store are analysed, and which unit each counts under."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from cache import ActivationStore
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.prompts.prompt import TEXT
from cache.store.view import OF_PROMPTS, View, check_view, joined, row_mask
from geometry.rows.names import names_of


@dataclass(frozen=True)
class Rows:
    """The rows that are analysed at every layer.

    Attributes:
        where: the query that chose them, or what is noted of a mask.
        chosen: a mask over the store's rows.
        table: their labels, with `unit`, and with `shown` filled in for rows that show no member themselves.
        units: the unit (member) that each counts under.
    """

    where: str
    chosen: Bool[np.ndarray, " row"]
    table: pd.DataFrame
    units: Int[np.ndarray, " chosen"]


NO_CONTROLS = f"not family.str.startswith('{CONTROL_PREFIX}')"


def chosen_rows(view: View, families: str | Sequence[str] | None = None) -> Rows:
    """The rows that a view asks for, or those of `default_rows`, BOS left out, with their members.

    Args:
        view: the rows.
        families: which; None for all but controls, unless the view's own query names families.

    Raises:
        InputError: no row is chosen, or there is no such family.
    """
    check_view(view)
    store, default = view.store, default_rows(view.store)
    queries = [] if families is None else [f"family in {_known(store, families)}"]
    if families is None and store.controls and store.families and not view.names("family"):
        queries = [NO_CONTROLS]
    chosen, query = view.chosen(default), joined(view.noted(default), *queries)
    for one in queries:
        chosen = chosen & row_mask(store.rows, one)
    table = store.rows[chosen].reset_index(drop=True)
    if not len(table):
        raise InputError(f"no row fits {query!r}; columns are {', '.join(store.rows.columns)}")
    units = unit_of_rows(store, table)
    return Rows(query, chosen, table.assign(unit=units, shown=_last_shown(store, table)), np.array(units))


def default_rows(store: ActivationStore) -> str:
    """The rows analysed unless others are asked for: shown members, or last tokens where none are shown."""
    return OF_PROMPTS["members"] if row_mask(store.rows, OF_PROMPTS["members"]).any() else OF_PROMPTS["last"]


def _known(store: ActivationStore, families: str | Sequence[str]) -> list[str]:
    names = names_of(families)
    missing = [name for name in names if name not in (*store.families, *store.controls)]
    if missing:
        raise InputError(f"the store has no family {missing[0]!r}; {families_text(store)}")
    return names


def families_text(store: ActivationStore) -> str:
    """What a message says of a store's families: their names, or what its prompts have in their place."""
    told = store.prompts[store.prompts["kind"] != TEXT]
    if not len(told):
        return "it has running text alone; record families beside it"
    families, groups = ([*dict.fromkeys(filter(None, told[name]))] for name in ("family", "group"))
    if families:
        return f"it has {', '.join(families)}"
    if not groups:
        return "its prompts have no families; give your own a column family"
    named = ", ".join(groups[:8]) + ", ..." * (len(groups) > 8)
    return (
        f"its prompts have groups ({named}) and no families; directions and sweeps lead between groups, all else needs "
        "prompts with a column family or pair"
    )


def unit_of_rows(store: ActivationStore, rows: pd.DataFrame) -> list[int]:
    """The member that each row counts under: the shown member it is, else the last one its prompt shows.

    Rows of a prompt that shows no member count under the prompt, as numbers from -1 down.
    """
    last = [values[-1] if values else -1 - i for i, values in enumerate(store.prompts["values"])]
    return [
        int(value) if member >= 0 else int(last[prompt])
        for value, member, prompt in zip(rows["value"], rows["member"], rows["prompt"], strict=True)
    ]


def row_counts(rows: Rows) -> dict[str, int]:
    """`n_members`, `n_templates` and `n_rows`, as every table carries them."""
    return {
        "n_members": len(set(rows.units.tolist())),
        "n_templates": int(rows.table["template"].nunique()),
        "n_rows": len(rows.table),
    }


def _last_shown(store: ActivationStore, rows: pd.DataFrame) -> list[str]:
    """The member that each row shows, or the last one that its prompt has shown."""
    last = [members[-1] if members else "" for members in store.prompts["members"]]
    return [shown or last[prompt] for shown, prompt in zip(rows["shown"], rows["prompt"], strict=True)]
