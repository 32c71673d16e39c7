"""The rows of a store as cells: family by context by member, a mean activation in each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cache import ActivationStore
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.models.hooks import HookLike
from cache.shown.counts import number_of
from cache.store.store import check_open
from cache.store.view import View, check_view
from geometry.rows.analysed import families_text, unit_of_rows
from geometry.rows.names import names_of


@dataclass(frozen=True)
class CellPlan:
    """Which rows of a store belong to which cell.

    A context is all that families share but the member: frame, template, kind, length of the window and, of rows
    of shown members, the place in the window. A member is the ordinal that the row shows, or the last that its
    prompt has shown.

    Attributes:
        families: labels of the first axis.
        contexts: labels of the second axis.
        members: ordinals of the third axis.
        cell_of_row: for every chosen row its cell, counted through the three axes.
        chosen: which rows of the store are used.
        counts: rows in each cell.
    """

    families: tuple[str, ...]
    contexts: tuple[str, ...]
    members: tuple[int, ...]
    cell_of_row: Int[np.ndarray, " chosen"]
    chosen: Bool[np.ndarray, " row"]
    counts: Int[np.ndarray, "family context member"]

    @property
    def controls(self) -> tuple[str, ...]:
        """The families that are controls."""
        return tuple(family for family in self.families if family.startswith(CONTROL_PREFIX))


@dataclass(frozen=True)
class Balance:
    """Contexts and members that some families have in common without a gap.

    Attributes:
        contexts: their numbers on a plan's context axis.
        members: their numbers on a plan's member axis.
    """

    contexts: tuple[int, ...]
    members: tuple[int, ...]


def plan_cells(view: View, families: Sequence[str] | None = None) -> CellPlan:
    """Sort the rows of a view into cells; each prompt's last token where it asks for none.

    Args:
        view: the rows; BOS is left out.
        families: which; None for all that the store has.

    Raises:
        InputError: the store lacks a family, no row counts under a member, or a prompt's last row stands beside the row
            that shows the same member.
    """
    check_view(view)
    store, where = view.store, view.noted()
    known = list(dict.fromkeys(filter(None, store.rows["family"])))
    wanted = known if families is None else names_of(families)
    missing = [family for family in wanted if family not in known]
    if missing:
        raise InputError(f"the store has no family {missing[0]!r}; {families_text(store)}")
    if not wanted:
        raise InputError(f"families are compared, and the store has none: {families_text(store)}")
    rows = store.rows[view.chosen()]
    rows = rows.assign(unit=unit_of_rows(store, rows))
    rows = rows[rows["family"].isin(wanted) & (rows["unit"] >= 0)]
    if not len(rows):
        raise InputError(f"no row of {', '.join(map(repr, wanted))} counts under a member for {where!r}")
    twice, shown = rows.duplicated(["prompt", "unit"], keep=False), rows["member"] >= 0
    if (twice & shown).any() and (twice & ~shown).any():
        raise InputError(
            f"{where!r} takes both the row that shows a member and the last row of the same prompt, "
            "which are not independent; add is_last, or member >= 0"
        )
    context = _contexts(store, rows)
    contexts, members = list(dict.fromkeys(context)), sorted(set(rows["unit"]))
    shape = (len(wanted), len(contexts), len(members))
    axes = ((rows["family"], wanted), (context, contexts), (rows["unit"], members))
    cell = np.ravel_multi_index(tuple(pd.Categorical(given, labels).codes for given, labels in axes), shape)
    chosen = np.zeros(len(store.rows), dtype=bool)
    chosen[rows.index] = True
    return CellPlan(
        families=tuple(wanted),
        contexts=tuple(contexts),
        members=tuple(int(member) for member in members),
        cell_of_row=cell,
        chosen=chosen,
        counts=np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape),
    )


def load_cells(store: ActivationStore, hook: HookLike, plan: CellPlan) -> Float[Tensor, "family context member d"]:
    """Mean activation of each cell at one site, in float64, read in blocks; nan where a cell has no row."""
    check_open(store)
    if not plan.chosen.any():
        raise InputError("no row is chosen; nothing can be averaged")
    total = torch.zeros(plan.counts.size, store.width(store.site(hook)), dtype=torch.float64)
    start = 0
    for block in store.blocks(hook, plan.chosen):
        total.index_add_(0, torch.from_numpy(plan.cell_of_row[start : start + len(block)]), block.double())
        start += len(block)
    means = total / torch.from_numpy(plan.counts.ravel()[:, None].astype(np.float64))
    return means.reshape(*plan.counts.shape, -1)


def balance(plan: CellPlan, families: Sequence[str]) -> Balance:
    """The contexts in which all of some families occur, and the members that they all have in all of those.

    Raises:
        InputError: one has no row, or they have fewer than 2 contexts, or fewer than 2 members, in common.
    """
    there = plan.counts[[plan.families.index(family) for family in families]] > 0
    if without := [family for family, one in zip(families, there, strict=True) if not one.any()]:
        raise InputError(f"no chosen row is of {' or '.join(dict.fromkeys(without))}; choose other rows or families")
    contexts = np.flatnonzero(there.any(axis=2).all(axis=0))
    members = np.flatnonzero(there[:, contexts].all(axis=(0, 1))) if len(contexts) else np.array([], dtype=int)
    names = " and ".join(dict.fromkeys(families))
    if len(contexts) < 2:
        raise InputError(
            f"{names} have {number_of(len(contexts), 'context')} in common; a comparison across templates needs 2: "
            "record more frames, or a frame with several templates"
        )
    if len(members) < 2:
        raise InputError(
            f"{names} have {number_of(len(members), 'member')} in common; a comparison needs 2, a claim 5 (members are "
            "matched by their ordinals; your own by a column pair)"
        )
    return Balance(tuple(map(int, contexts)), tuple(map(int, members)))


def complete_controls(plan: CellPlan, chosen: Balance) -> tuple[str, ...]:
    """The control families that have every cell of a balance."""
    grid = np.ix_(chosen.contexts, chosen.members)
    return tuple(f for f in plan.controls if (plan.counts[plan.families.index(f)][grid] > 0).all())


def take(
    cells: Float[Tensor, "family context_all member_all d"], plan: CellPlan, family: str, chosen: Balance
) -> Float[Tensor, "context member d"]:
    """One family's cells at the contexts and members of a balance."""
    mine = cells[plan.families.index(family)]
    return mine[list(chosen.contexts)][:, list(chosen.members)]


def _contexts(store: ActivationStore, rows: pd.DataFrame) -> list[str]:
    lengths = store.prompts["values"].map(len).to_numpy()[rows["prompt"]]
    slot = np.where(rows["member"] >= 0, rows["member"], -1)
    parts = zip(rows["frame"], rows["template"], rows["kind"], lengths, slot, strict=True)
    return [
        f"{frame}|{template}|{kind}|length {n}" + (f"|member {place}" if place >= 0 else "")
        for frame, template, kind, n, place in parts
    ]
