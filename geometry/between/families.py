"""Two families at every layer: each measure with its error, its permutation null, its controls and a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.store import check_source
from cache.store.view import View
from geometry.between.table import FOUND_TYPES, Found, comparison_result
from geometry.layers.order_effect import NO_LISTS, OrderedLists, ordered_lists, set_apart, shared_by_list
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.analysed import families_text
from geometry.rows.cells import Balance, CellPlan, balance, complete_controls, load_cells, plan_cells, take
from geometry.rows.names import names_of, pairs_of
from geometry.similarity.family_measures import MEASURES, Cells
from geometry.similarity.of_families import matched_products
from geometry.similarity.pair_evidence import directions_of, measured, pair_cells, weights_for
from geometry.stats.linalg import RANK_TOLERANCE, remove_span
from geometry.stats.permutations import member_permutations
from geometry.stats.unrelated_codes import Directions
from geometry.weights.readout import family_words, readout_directions

RESIDUAL = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""The sites in the coordinates that the unembedding reads; others may be as wide by chance."""

READOUT_REMOVED = "readout removed"

DEFAULT_MEASURES = ("matched_cosine", "shared_share", "retrieval")


@dataclass(frozen=True)
class Pair:
    """Two families, what they have in common in a store, and the controls that have it too."""

    a: str
    b: str
    common: Balance
    controls: tuple[str, ...]
    lists: OrderedLists
    readout: Float[Tensor, "token d"] | None

    @property
    def name(self) -> str:
        """Both families."""
        return f"{self.a} - {self.b}"

    @property
    def size(self) -> tuple[int, int]:
        """How many members and controls it is compared by."""
        return len(self.common.members), len(self.controls)


@dataclass(frozen=True)
class Draws:
    """Orders of the members for each measure, and the weights and directions that unrelated codes are made with."""

    orders: Sequence[tuple[str, Int[np.ndarray, "_ _"]]]
    weights: Float[np.ndarray, "draw member row"] | None
    directions: Directions | None = None


def between_families(
    view: View,
    a: str,
    b: str,
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    model: LoadedModel | None = None,
    seed: int = 0,
) -> LayerResult:
    """Whether two families are coded alike, at every site of a view.

    As `between_pairs`, for one pair.

    Example:
        >>> result = between_families(view, "digits", "numwords")
        >>> result.table["measure"].unique().tolist()
        ['matched_cosine', 'shared_share', 'retrieval']
    """
    return between_pairs(view, [(a, b)], measures=measures, model=model, seed=check_seed(seed))


def between_pairs(
    view: View,
    pairs: Sequence[Sequence[str]],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    model: LoadedModel | None = None,
    seed: int = 0,
    loop: Loop = ALONE,
) -> LayerResult:
    """Whether pairs of families are coded alike, at every site of a view.

    The unit is the member; contexts (frame, template, kind, length) are compared crosswise. Of each pair, those
    contexts and members are used that both families have without a gap, and every control family of the store that
    has them too is measured against both. What a measure that decides finds is a matched-member code: members that
    correspond lie alike. It is set against codes of unrelated families with the same member-by-member structure, drawn
    from the controls' (`unrelated_codes`), at all layers at once, cosines each in the spread of its own structure
    (`studentised`); 10 controls or more give that null and the interval.
    A layer takes part where both families' codes are reliable. Permuted members are given as description: those of
    overlapping windows are not exchangeable. Where the store has reordered lists of both families too (kinds
    `reordered:K`), they are not compared, but show whether the code has to do with order (`order_effect`).

    Args:
        view: the sites and rows; each prompt's last token where it asks for none.
        pairs: the families to compare.
        measures: names of `geometry.similarity.family_measures.MEASURES`.
        model: the model recorded, for the variant with the members' unembedding directions removed.
        seed: seeds draws, permutations and bootstrap.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays over (hook, pair, variant, measure), `lag_profile` and `controls`; the table has a line each, with
        p over all layers (`p_layers`), its floor, q (Benjamini-Hochberg over pairs, by the best layer of each) and the
        verdict.

    Raises:
        InputError: an unknown measure or family, or a pair with less than 2 contexts or members in common.
        FingerprintError: the model is not the one recorded.

    Example:
        >>> result = between_pairs(view, [("digits", "numwords"), ("digits", "months")], measures="matched_cosine")
        >>> result.table.groupby(["a", "b"]).ngroups
        2
    """
    seed, measures = check_seed(seed), _known_measures(measures)
    wanted = list({frozenset(pair): pair for pair in reversed(pairs_of(pairs))}.values())[::-1]
    if not wanted or any(a == b for a, b in wanted):
        raise InputError("a comparison needs two different families")
    plan = plan_cells(view)
    lists_apart = set_apart(plan)
    known = [_pair(view.store, plan, lists_apart, a, b, model) for a, b in wanted]
    if model is not None and view.site not in RESIDUAL:
        raise InputError(f"the readout is removed from {', '.join(RESIDUAL)} only; got {view.site}")
    every_draw = {pair.size: _draws(measures, *pair.size, seed) for pair in known}
    parameters: dict[str, Any] = {"site": view.site, "layers": view.layers, "where": view.noted(), "measures": measures}
    parameters |= {
        "pairs": [pair.name for pair in known],
        "variants": ["plain"] + [READOUT_REMOVED] * (model is not None),
        "seed": seed,
        "members": {pair.name: [plan.members[i] for i in pair.common.members] for pair in known},
        "controls": {pair.name: list(pair.controls) for pair in known},
    }

    def unit(hook: Hook) -> list[Found]:
        cells, found = load_cells(view.store, hook, plan), []
        directions: dict[tuple[Balance, tuple[str, ...]], Directions | None] = {}
        for pair in known:
            drawn, key = every_draw[pair.size], (pair.common, pair.controls)
            if key not in directions:
                directions[key] = directions_of(_controls(cells, plan, pair), drawn.weights)
            found += _compare(hook, cells, plan, pair, replace(drawn, directions=directions[key]), seed)
        return found

    found = over(view.hooks, unit, Analysis("compare", parameters, view.source, types=FOUND_TYPES), loop)
    return comparison_result([one for here in found for one in here], view.hooks, parameters, view.store.fingerprint)


def _known_measures(names: Sequence[str]) -> list[str]:
    measures = names_of(names)
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise InputError(f"no measure {unknown[0] if unknown else ''!r}; there are {', '.join(MEASURES)}")
    return measures


def _pair(
    store: ActivationStore, plan: CellPlan, compared: CellPlan, a: str, b: str, model: LoadedModel | None
) -> Pair:
    """Two families of a plan; `compared` is the plan without what only shows whether order matters."""
    for family in (a, b):
        if family not in plan.families:
            raise InputError(f"the store has no family {family!r}; {families_text(store)}")
    common = balance(compared, (a, b))
    readout = None
    if model is not None:
        check_source(store, model)
        words, ordinals = family_words(store), [plan.members[i] for i in common.members]
        shown = [words[f][i] for f in (a, b) for o in ordinals for i in (o, o + 1) if i in words[f]]
        readout = readout_directions(model, shown)
    controls = tuple(c for c in complete_controls(compared, common) if c not in (a, b))
    return Pair(a, b, common, controls, ordered_lists(plan, (a, b), common.members), readout)


def _draws(measures: Sequence[str], n_members: int, n_controls: int, seed: int) -> Draws:
    """What is drawn once for pairs with so many members and controls, and used at every layer."""
    most = {MEASURES[name].most_orders for name in measures}
    tried = {number: member_permutations(n_members, most=number, seed=seed) for number in most}
    most_draws = max((MEASURES[name].most_draws for name in measures if MEASURES[name].decides), default=0)
    orders = [(name, tried[MEASURES[name].most_orders]) for name in measures]
    return Draws(orders, weights_for(most_draws, n_members, n_controls, seed=seed))


def _compare(
    hook: Hook,
    cells: Float[Tensor, "family context_all member_all d"],
    plan: CellPlan,
    pair: Pair,
    drawn: Draws,
    seed: int,
) -> list[Found]:
    """All measures of one pair at one hook, plain and with the readout removed."""
    sides = [_centred(take(cells, plan, family, pair.common)) for family in (pair.a, pair.b)]
    plain = [*sides, *_controls(cells, plan, pair)]
    variants = [("plain", plain)]
    if pair.readout is not None:
        span = pair.readout.numpy()
        variants.append((READOUT_REMOVED, [_removed(x, span) for x in plain]))
    grid = np.ix_(pair.common.contexts, pair.common.members)
    n_rows = sum(int(plan.counts[plan.families.index(family)][grid].sum()) for family in (pair.a, pair.b))
    found, by_list = [], shared_by_list(cells, plan, (pair.a, pair.b), pair.lists)
    for variant, (x, y, *controls) in variants:
        directions = drawn.directions if variant == "plain" else directions_of(controls, drawn.weights)
        evidence = pair_cells(x, y, controls, directions, seed)
        removed = math.nan if variant == "plain" else share_removed(plain[:2], (x, y))
        for name, orders in drawn.orders:
            found.append(
                Found(
                    hook=hook,
                    pair=(pair.a, pair.b),
                    variant=variant,
                    measure=name,
                    known=evidence.known,
                    measured=measured(MEASURES[name], evidence, orders),
                    index_removed=removed,
                    by_list=by_list if variant == "plain" else NO_LISTS,
                    n_rows=n_rows,
                )
            )
    return found


def _controls(cells: Float[Tensor, "family context_all member_all d"], plan: CellPlan, pair: Pair) -> list[Cells]:
    return [_centred(take(cells, plan, family, pair.common)) for family in pair.controls]


def _centred(x: Cells) -> Cells:
    return x - x.mean(dim=1, keepdim=True)


def _removed(x: Cells, span: Float[np.ndarray, "token d"]) -> Cells:
    """The cells less the span; exactly 0 where nothing but rounding is left, which members could share too."""
    rest = remove_span(x.numpy(), span)
    return torch.from_numpy(rest if np.linalg.norm(rest) > RANK_TOLERANCE * np.linalg.norm(x) else np.zeros_like(rest))


def share_removed(before: Sequence[Cells], after: Sequence[Cells]) -> float:
    """Share of families' index variance that is gone, on average; nan where a family had none."""
    whole = [matched_products(x, x)[1] for x in before]
    left = [matched_products(x, x)[1] for x in after]
    gone = [1 - rest / full if full > 0 else math.nan for rest, full in zip(left, whole, strict=True)]
    return float(np.mean(gone))
