"""Index codes: a family's mean activation at each index, from other contexts than the one that it is used in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache import ActivationStore, Hook
from cache.errors import InputError
from cache.prompts.prompt import OWN
from geometry.bases.basis import FeatureBasis
from geometry.rows.analysed import families_text
from probes.directions.contrasts import load_rows
from probes.directions.features import reconstructed
from probes.directions.prompts import contexts_of

LAST = -1
"""The place of a prompt's last token; shown members have the places 0, 1, 2..."""


@dataclass(frozen=True)
class CodePlan:
    """Which rows of a store hold a family's index codes: a grid without gaps.

    An index is the ordinal of the last member that a prompt shows; of increasing prompts the answer is the next. A
    shown member's row counts under its prompt's index too: moving the index from i to j then moves every shown
    member by j - i.

    Attributes:
        family: the family.
        contexts: labels of the first axis (`contexts_of`).
        members: the indices that every context has.
        places: shown members (0, 1, 2...) and the last token (-1).
        rows: rows of the store.
        prompts: rows of `store.prompts`.
    """

    family: str
    contexts: tuple[str, ...]
    members: tuple[int, ...]
    places: tuple[int, ...]
    rows: Int[np.ndarray, "context member place"] = field(repr=False)
    prompts: Int[np.ndarray, "context member"] = field(repr=False)


@dataclass(frozen=True)
class IndexCodes:
    """A family's activations at each index and place, context by context.

    Attributes:
        family: the family.
        contexts: labels of the first axis.
        members: indices, along the second axis.
        cells: float64.
    """

    family: str
    contexts: tuple[str, ...]
    members: tuple[int, ...]
    cells: Float[Tensor, "context member place d"] = field(repr=False)

    def others(self, context: str) -> Float[Tensor, "other member place d"]:
        """The cells of all contexts but one; of all if the family was not recorded in that one.

        Raises:
            InputError: there is no other context.
        """
        kept = [i for i, name in enumerate(self.contexts) if name != context]
        if not kept:
            raise InputError(
                f"codes of {self.family!r} come from other contexts than the one that is edited, and the store has "
                f"only {context!r}; record more frames, or a frame with several templates"
            )
        return self.cells[kept]

    def without(self, context: str) -> Float[Tensor, "member place d"]:
        """The code of each index at each place: the mean over all contexts but one.

        Raises:
            InputError: there is no other context.
        """
        return self.others(context).mean(dim=0)


def index_kind(store: ActivationStore) -> str:
    """The kind of the prompts that index codes are taken from: increasing ones, or where there are none one's own."""
    there = set(store.prompts["kind"][store.prompts["values"].map(len) > 0])
    return OWN if OWN in there and "increasing" not in there else "increasing"


def shown_length(store: ActivationStore, kind: str | None = None) -> int:
    """How many members the longest prompts of a kind (`index_kind` for None) show.

    Raises:
        InputError: the store has no prompts of that kind.
    """
    kind = kind or index_kind(store)
    lengths = [len(v) for v, k in zip(store.prompts["values"], store.prompts["kind"], strict=True) if k == kind and v]
    if not lengths:
        kinds = ", ".join(map(repr, dict.fromkeys(store.prompts["kind"])))
        raise InputError(f"the store has no prompts of kind {kind!r}, which index codes are taken from; it has {kinds}")
    return max(lengths)


def plan_codes(
    store: ActivationStore,
    family: str,
    *,
    places: Sequence[int] = (LAST,),
    kind: str | None = None,
    length: int | None = None,
) -> CodePlan:
    """Find the rows of a family's index codes.

    Args:
        store: the store.
        family: the family.
        places: shown members, and -1 for the last token.
        kind: the kind of the prompts; None for `index_kind`.
        length: how many members they show; None for the most.

    Raises:
        InputError: the store has no such family, kind or rows, or fewer than 2 indices that all contexts have.
    """
    kind = kind or index_kind(store)
    length = shown_length(store, kind) if length is None else length
    prompts = store.prompts
    if family not in set(prompts["family"]):
        raise InputError(f"the store has no family {family!r}; {families_text(store)}")
    mine = prompts[(prompts["family"] == family) & (prompts["kind"] == kind) & (prompts["values"].map(len) == length)]
    rows = _rows_at(store, mine, places)
    contexts = list(dict.fromkeys(context for context, _ in rows))
    members = sorted({m for _, m in rows if all((context, m) in rows for context in contexts)})
    if len(members) < 2:
        raise InputError(
            f"{family!r} has {len(members)} indices that all its contexts ({', '.join(contexts) or 'none'}) have as "
            f"{kind} prompts of {length} members; an index code needs 2, a claim 5"
        )
    grid = np.array([[rows[context, m] for m in members] for context in contexts], dtype=np.int64)
    return CodePlan(family, tuple(contexts), tuple(members), tuple(places), grid[..., 1:], grid[..., 0])


def load_codes(
    store: ActivationStore, hook: Hook, plans: Sequence[CodePlan], basis: FeatureBasis | None = None
) -> tuple[IndexCodes, ...]:
    """The codes of several plans at one site, read at once; with a basis only what its features carry of them."""
    x = load_rows(store, hook, np.concatenate([plan.rows.ravel() for plan in plans]))
    x = (x if basis is None else reconstructed(basis, x)).double()
    parts = torch.split(x, [plan.rows.size for plan in plans])
    return tuple(
        IndexCodes(plan.family, plan.contexts, plan.members, part.reshape(*plan.rows.shape, -1))
        for plan, part in zip(plans, parts, strict=True)
    )


def _rows_at(
    store: ActivationStore, prompts: pd.DataFrame, places: Sequence[int]
) -> dict[tuple[str, int], tuple[int, ...]]:
    """By context and index: the prompt and its row at every place; the first of prompts that only a group tells apart.

    Raises:
        InputError: no row is recorded at one of the places.
    """
    rows = store.rows[store.rows["prompt"].isin(prompts.index)]
    at: dict[int, dict[int, int]] = {}
    for place in places:
        there = rows[rows["is_last"]] if place == LAST else rows[rows["member"] == place]
        at[place] = dict(zip(there["prompt"].tolist(), there.index.tolist(), strict=True))
        if len(prompts) and not at[place]:
            what = "last tokens" if place == LAST else "shown members"
            raise InputError(f"the store has no rows of {what}; record it with positions members, or all")
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    for number, context, values in zip(prompts.index, contexts_of(prompts), prompts["values"], strict=True):
        if all(number in at[place] for place in places):
            key = (context, int(values[-1]))
            found.setdefault(key, (int(number), *(at[place][number] for place in places)))
    return found
