"""Edits of an index as directions: make one member act as another, turn next into previous."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.models.hooks import HookLike
from cache.store.store import check_open
from cache.store.view import Where, where_text
from probes.directions.contrasts import load_rows
from probes.directions.direction import Direction, direction_of
from probes.directions.estimators import mean_difference

_CONTEXT = ["frame", "template", "kind", "length", "member"]


def member_edit(
    store: ActivationStore, hook: HookLike, family: str, i: int, j: int, *, where: Where = "member >= 0"
) -> Direction:
    """The direction that makes member i act as member j, at the tokens that show it.

    The difference of the members' mean codes over contexts (frame, template, kind, number of members shown, place
    among them) that have both, so that neither place nor phrasing is in it.

    Args:
        store: the store.
        hook: the site: a `Hook`, its name, or kind and layer.
        family: the family.
        i: ordinal of the member that is to act as another.
        j: ordinal of that other.
        where: which rows codes are taken from, as a query over `store.rows` or a mask; leave out the contexts
            edited later.

    Raises:
        InputError: i and j are the same, or no context among the rows has both.
    """
    if i == j:
        raise InputError(f"a member edit leads from one member to another; got {i} twice")
    check_open(store)
    hook = store.site(hook)
    rows = store.rows[store.view(hook.kind, where=where).chosen()]
    rows = rows[(rows["family"] == family) & rows["value"].isin([i, j])]
    rows = rows.assign(length=store.prompts["values"].map(len).to_numpy()[rows["prompt"]])
    pairs = _matched(rows, "value", i, j, _CONTEXT)
    if not len(pairs):
        raise InputError(
            f"no context has both members {i} and {j} of {family!r} among the rows {where_text(where)!r}; "
            "record prompts that show both at the same place, with positions members"
        )
    return _between(store, hook, pairs, "member_edit", (f"{family} {i}", f"{family} {j}"))


def reversal(store: ActivationStore, hook: HookLike, family: str, *, where: Where = "is_last") -> Direction:
    """The direction from next to previous: from increasing prompts to decreasing ones that end with the same member.

    Matched in frame, template, number of members shown and last member: the member last shown is not in it.

    Args:
        store: the store.
        hook: the site: a `Hook`, its name, or kind and layer.
        family: the family.
        where: which rows, as a query over `store.rows` or a mask; by default each prompt's last token.

    Raises:
        InputError: no increasing prompt has a decreasing match.
    """
    check_open(store)
    hook = store.site(hook)
    rows = store.rows[store.view(hook.kind, where=where).chosen()]
    rows = rows[(rows["family"] == family) & rows["kind"].isin(["increasing", "decreasing"])]
    values = store.prompts["values"].iloc[rows["prompt"]]
    rows = rows.assign(length=values.map(len).to_numpy(), last=[v[-1] if v else -1 for v in values])
    keys = ["frame", "template", "length", "last", "member", "is_last"]
    pairs = _matched(rows, "kind", "increasing", "decreasing", keys)
    if not len(pairs):
        raise InputError(
            f"no increasing prompt of {family!r} has a decreasing one with the same frame, template and last member "
            f"among the rows {where_text(where)!r}; record kinds increasing,decreasing"
        )
    return _between(store, hook, pairs, "reversal", (f"{family} next", f"{family} previous"))


def _matched(rows: pd.DataFrame, column: str, source: object, target: object, keys: list[str]) -> pd.DataFrame:
    """Row numbers of both sides of every context that has both: lists, since a context may have several."""
    rows = rows.assign(row=rows.index)
    sides = [rows[rows[column] == label].groupby(keys)["row"].agg(list) for label in (source, target)]
    return pd.concat([side.rename(name) for side, name in zip(sides, ("from", "to"), strict=True)], axis=1).dropna()


def _between(store: ActivationStore, hook: Hook, pairs: pd.DataFrame, method: str, ends: tuple[str, str]) -> Direction:
    """Along the mean over contexts of the difference between both sides' means."""
    groups = [*pairs["from"], *pairs["to"]]
    x = load_rows(store, hook, np.concatenate(groups)).double()
    means = torch.stack([part.mean(dim=0) for part in torch.split(x, list(map(len, groups)))])
    step = mean_difference(means[: len(pairs)], means[len(pairs) :])
    found = direction_of(step, hook, method, source=ends[0], target=ends[1])
    return replace(found, fingerprint=store.fingerprint, weights=store.weights)
