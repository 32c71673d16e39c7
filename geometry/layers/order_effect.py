"""Whether a matched-member code has to do with the order of the members: increasing lists beside reordered ones.

Unordered lists in two spellings share a code too: that of the words. An index is there only where the order matters.
For a list without an order the increasing order is one at random, so that what two families share in it ranks among
what they share in reordered lists (`cache.prompts.rules`) as any of these does.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from geometry.rows.cells import Balance, CellPlan, take
from geometry.similarity.of_families import matched_products

REORDERED = "reordered:"
NATURAL = "increasing"
SPREADS = 1.65
LEAST_LISTS = 19
"""Of fewer reordered lists an increasing one cannot come out as one in twenty."""


@dataclass(frozen=True)
class OrderedLists:
    """The lists in which two families are compared: the increasing one first, then the reordered ones.

    Attributes:
        lists: of each the contexts and members; frames and templates are the same in all, and so are the members.
    """

    lists: tuple[Balance, ...]


@dataclass(frozen=True)
class SharedByList:
    """What two families share in each list, the increasing one first.

    Attributes:
        products: the product of the members' codes across contexts, `c_ab`.
        reordered: matched cosine in reordered lists, `sum c_ab / sqrt(sum c_aa sum c_bb)` over them.
        bound: how large a share of what is shared in increasing order can be due to that order: the excess over the
            reordered lists plus 1.65 of their standard deviations, over what is shared in increasing order.
    """

    products: Float[np.ndarray, " list"]
    reordered: float
    bound: float


NO_LISTS = SharedByList(np.empty(0), float("nan"), float("nan"))


def set_apart(plan: CellPlan) -> CellPlan:
    """A plan without the cells of reordered lists; as it is where it has no others."""
    reordered = np.array([_kind(name).startswith(REORDERED) for name in plan.contexts])
    if reordered.all():
        return plan
    return replace(plan, counts=np.where(reordered[None, :, None], 0, plan.counts))


def ordered_lists(plan: CellPlan, families: Sequence[str], members: Sequence[int]) -> OrderedLists:
    """The increasing and the reordered lists that some families have in the same frames and templates.

    Args:
        plan: the cells of a store.
        families: those that are compared.
        members: numbers on the plan's member axis; of these, those are kept that all lists have.

    Returns:
        No list at all where there is no reordered one, or fewer than 2 contexts or members are common to all.
    """
    there = plan.counts[[plan.families.index(family) for family in families]] > 0
    by_kind: dict[str, dict[str, int]] = defaultdict(dict)
    for number, name in enumerate(plan.contexts):
        kind = _kind(name)
        if (kind == NATURAL or kind.startswith(REORDERED)) and there[:, number, list(members)].any(axis=1).all():
            by_kind[kind][name.replace(f"|{kind}|", "||")] = number
    kinds = [NATURAL, *sorted(kind for kind in by_kind if kind != NATURAL)]
    if NATURAL not in by_kind or len(kinds) < 2:
        return OrderedLists(())
    settings = [one for one in by_kind[NATURAL] if all(one in by_kind[kind] for kind in kinds)]
    contexts = [tuple(by_kind[kind][one] for one in settings) for kind in kinds]
    every = [number for one in contexts for number in one]
    kept = tuple(member for member in members if there[:, every, member].all())
    if len(settings) < 2 or len(kept) < 2:
        return OrderedLists(())
    return OrderedLists(tuple(Balance(one, kept) for one in contexts))


def shared_by_list(
    cells: Float[Tensor, "family context_all member_all d"], plan: CellPlan, pair: tuple[str, str], lists: OrderedLists
) -> SharedByList:
    """What two families share in each list at one site; nothing without lists."""
    if not lists.lists:
        return NO_LISTS
    found = [matched_products(*(take(cells, plan, family, one) for family in pair)) for one in lists.lists]
    products, own_x, own_y = np.array(found).reshape(-1, 3).T
    other, of_x, of_y = products[1:], own_x[1:].sum(), own_y[1:].sum()
    reordered = float(other.sum() / np.sqrt(of_x * of_y)) if of_x > 0 and of_y > 0 else float("nan")
    excess = products[0] - other.mean() + SPREADS * other.std()
    return SharedByList(products, reordered, float(excess / products[0]) if products[0] > 0 else float("nan"))


def _kind(context: str) -> str:
    """The kind of a context's prompts: the third part of its name."""
    return context.split("|")[2]
