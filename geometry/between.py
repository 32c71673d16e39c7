"""Two families at every layer: each measure with its error, its permutation null, its controls and a verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

from cache import ActivationStore, Hook, LoadedModel
from cache.errors import InputError
from cache.hooks import Layers, layers_text
from cache.rows import Where, where_text
from cache.seeds import check_seed
from geometry.analysed_rows import families_text
from geometry.between_table import Found, Measured, comparison_result
from geometry.cells import Balance, CellPlan, balance, complete_controls, load_cells, plan_cells, take
from geometry.evidence import interval, jackknife, template_bootstrap_se
from geometry.index_sharing import MAX_LAG, context_products, lag_profile
from geometry.layerwise import LayerResult, site_hooks
from geometry.linalg import RANK_TOLERANCE, remove_span
from geometry.measures import MEASURES, Cells, Measure, Orders
from geometry.names import names_of, pairs_of
from geometry.permutations import member_permutations, own_index_p
from geometry.readout import check_source, family_words, readout_directions

RESIDUAL = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""The sites in the coordinates that the unembedding reads; others may be as wide by chance."""

DEFAULT_MEASURES = ("matched_cosine", "shared_share", "retrieval")


@dataclass(frozen=True)
class Pair:
    """Two families, what they have in common in a store, and the controls that have it too."""

    a: str
    b: str
    common: Balance
    controls: tuple[str, ...]
    readout: Float[Tensor, "token d"] | None


def between_families(
    store: ActivationStore,
    a: str,
    b: str,
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    site: str = "resid_post",
    layers: Layers = "all",
    where: Where = None,
    model: LoadedModel | None = None,
    seed: int = 0,
) -> LayerResult:
    """Whether two families are coded alike, at every layer of one site.

    As `between_pairs`, for one pair.
    """
    seed = check_seed(seed)
    return between_pairs(
        store, [(a, b)], measures=measures, site=site, layers=layers, where=where, model=model, seed=seed
    )


def between_pairs(
    store: ActivationStore,
    pairs: Sequence[Sequence[str]],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    site: str = "resid_post",
    layers: Layers = "all",
    where: Where = None,
    model: LoadedModel | None = None,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """Whether pairs of families are coded alike, at every layer of one site.

    The unit is the member; contexts (frame, template, kind, length) are compared crosswise. Of each pair, those
    contexts and members are used that both families have without a gap, and every control family of the store that
    has them too is measured against both.

    Args:
        store: the store.
        pairs: the families to compare.
        measures: names of `geometry.measures.MEASURES`.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: a query over `store.rows`, or a mask; None for each prompt's last token.
        model: the model recorded, for the variant with the members' unembedding directions removed.
        seed: seeds permutations and bootstrap.
        on_hook: called after every layer.

    Returns:
        Arrays over (hook, pair, variant, measure), `lag_profile` and `controls`; the table has a line each, with
        p over all layers (`p_layers`), its floor, q over pairs (Benjamini-Hochberg) and the verdict.

    Raises:
        InputError: an unknown measure, family, site or layer, or a pair with less than 2 contexts or members in common.
        FingerprintError: the model is not the one recorded.
    """
    seed = check_seed(seed)
    measures, wanted = names_of(measures), pairs_of(pairs)
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise InputError(f"no measure {unknown[0] if unknown else ''!r}; there are {', '.join(MEASURES)}")
    if not wanted or any(a == b for a, b in wanted):
        raise InputError("a comparison needs two different families")
    hooks = site_hooks(store, site, layers)
    plan = plan_cells(store, where=where)
    known = [_pair(store, plan, a, b, model) for a, b in wanted]
    if model is not None and site not in RESIDUAL:
        raise InputError(f"the readout is removed from {', '.join(RESIDUAL)} only; got {site}")
    every_order = [_orders(measures, len(pair.common.members), seed) for pair in known]
    found = []
    for hook in hooks:
        cells = load_cells(store, hook, plan)
        with threadpool_limits(1):  # thousands of small products: threads only wait for each other
            for pair, orders in zip(known, every_order, strict=True):
                found += _compare(hook, cells, plan, pair, orders, seed)
        on_hook(hook)
    parameters = {
        "site": site,
        "layers": layers_text(layers),
        "where": where_text(where),
        "measures": list(measures),
        "pairs": [f"{a} - {b}" for a, b in wanted],
        "variants": ["plain"] + ["readout removed"] * (model is not None),
        "seed": seed,
        "members": {f"{pair.a} - {pair.b}": [plan.members[i] for i in pair.common.members] for pair in known},
        "controls": {f"{pair.a} - {pair.b}": list(pair.controls) for pair in known},
    }
    return comparison_result(found, hooks, parameters, store.fingerprint)


def _pair(store: ActivationStore, plan: CellPlan, a: str, b: str, model: LoadedModel | None) -> Pair:
    for family in (a, b):
        if family not in plan.families:
            raise InputError(f"the store has no family {family!r}; {families_text(store)}")
    common = balance(plan, (a, b))
    readout = None
    if model is not None:
        check_source(store, model)
        words, ordinals = family_words(store), [plan.members[i] for i in common.members]
        shown = [words[f][i] for f in (a, b) for o in ordinals for i in (o, o + 1) if i in words[f]]
        readout = readout_directions(model, shown)
    controls = tuple(c for c in complete_controls(plan, common) if c not in (a, b))
    return Pair(a, b, common, controls, readout)


def _orders(measures: Sequence[str], n_members: int, seed: int) -> list[tuple[str, Int[np.ndarray, "_ _"]]]:
    """For each measure the orders of the members that its null tries, the same at every layer."""
    most = {MEASURES[name].most_orders for name in measures}
    tried = {number: member_permutations(n_members, most=number, seed=seed) for number in most}
    return [(name, tried[MEASURES[name].most_orders]) for name in measures]


def _compare(
    hook: Hook,
    cells: Float[Tensor, "family context_all member_all d"],
    plan: CellPlan,
    pair: Pair,
    orders: Sequence[tuple[str, Int[np.ndarray, "_ _"]]],
    seed: int,
) -> list[Found]:
    """All measures of one pair at one hook, plain and with the readout removed; `orders` are those of each measure."""
    taken = [take(cells, plan, family, pair.common) for family in (pair.a, pair.b, *pair.controls)]
    plain = [x - x.mean(dim=1, keepdim=True) for x in taken]
    variants = [("plain", plain)]
    if pair.readout is not None:
        span = pair.readout.numpy()
        variants.append(("readout removed", [_removed(x, span) for x in plain]))
    grid = np.ix_(pair.common.contexts, pair.common.members)
    n_rows = sum(int(plan.counts[plan.families.index(family)][grid].sum()) for family in (pair.a, pair.b))
    found = []
    for variant, (x, y, *controls) in variants:
        own_p = float(np.maximum(_own(x, seed), _own(y, seed)))  # nan where either is
        lags = lag_profile(x, y)
        for name, tried in orders:
            found.append(
                Found(
                    hook=hook,
                    pair=(pair.a, pair.b),
                    variant=variant,
                    measure=name,
                    own_p=own_p,
                    lags=lags if MEASURES[name].decides else np.full(2 * MAX_LAG + 1, np.nan),
                    n_members=x.shape[1],
                    n_templates=x.shape[0],
                    n_rows=n_rows,
                    se_templates=_over_templates(x, y, seed) if name == "matched_cosine" else math.nan,
                    measured=_measured(MEASURES[name], x, y, controls, tried),
                )
            )
    return found


def _removed(x: Cells, span: Float[np.ndarray, "token d"]) -> Cells:
    """The cells less the span; exactly 0 where nothing but rounding is left, which members could share too."""
    rest = remove_span(x.numpy(), span)
    return torch.from_numpy(rest if np.linalg.norm(rest) > RANK_TOLERANCE * np.linalg.norm(x) else np.zeros_like(rest))


def _measured(measure: Measure, x: Cells, y: Cells, controls: Sequence[Cells], orders: Orders) -> Measured:
    n_members = x.shape[1]
    value = _value(measure, x, y)
    left_out = []
    if measure.jackknifed and np.isfinite(value):
        rest = [[j for j in range(n_members) if j != i] for i in range(n_members)]
        left_out = [_value(measure, x[:, kept], y[:, kept]) for kept in rest]
    se = float(jackknife(np.array(left_out, dtype=np.float64).reshape(-1, 1))[0])
    ci_low, ci_high = interval(value, se, n_members)
    return Measured(
        value=value,
        se=se,
        ci_low=ci_low,
        ci_high=ci_high,
        null=measure.null(x, y, orders) if np.isfinite(value) else np.full(len(orders), np.nan),
        controls=np.array([[_value(measure, x, c), _value(measure, c, y)] for c in controls]).reshape(-1, 2),
    )


def _value(measure: Measure, x: Cells, y: Cells) -> float:
    """The measure, or nan where a side does not vary over members or has too few of them."""
    if x.shape[1] < measure.least_members or not (_varies(x) and _varies(y)):
        return math.nan
    return measure.value(x, y)


def _own(x: Cells, seed: int) -> float:
    return own_index_p(x, seed=seed) if _varies(x) else math.nan


def _over_templates(x: Cells, y: Cells, seed: int) -> float:
    return template_bootstrap_se(context_products(x, y), context_products(x, x), context_products(y, y), seed=seed)


def _varies(x: Cells) -> bool:
    cells = x.numpy()
    return bool((cells != cells[:, :1]).any())
