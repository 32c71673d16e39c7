"""Two families at one site: each measure's value beside unrelated codes, permuted members and control families."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from geometry.similarity.family_measures import Cells, Measure, Orders, Unrelated
from geometry.similarity.of_families import context_products, lag_profile, matched_cosine
from geometry.similarity.sharing_null import (
    LEAST_RELIABILITY,
    distance_of,
    interval_of_cosine,
    reliability,
    studentised,
)
from geometry.stats.permutations import own_index_p
from geometry.stats.uncertainty import LEAST_MEMBERS, template_bootstrap_se
from geometry.stats.unrelated_codes import LEAST_FAMILIES, Directions, draw_directions, draw_weights, mean_code

NAN = float("nan")


@dataclass(frozen=True)
class Measured:
    """A value and its company.

    Attributes:
        value: nan where a family's code is not reliable enough, of a measure that decides.
        ci_low: lower end of the 95 % interval; nan for measures without.
        ci_high: upper end.
        unrelated: values with codes of unrelated families; empty without controls, and for measures that describe.
        scores: the value and then those, as they are ranked: of cosines each in its own spread (`studentised`).
        permuted_mean: mean value with the members of one family in other orders.
        permuted_max: the largest of these.
        controls: for each control family, its value with the first and with the second family.
        distances: how far each control lies above the mean of a null, in its standard deviations: for cosines the
            matched product in its own null, which needs no reliability, else the value in the pair's null.
        spread: the same standard deviation of the pair's null, in units of the value.
    """

    value: float
    ci_low: float
    ci_high: float
    unrelated: Unrelated
    scores: Float[np.ndarray, " score"]
    permuted_mean: float
    permuted_max: float
    controls: Float[np.ndarray, "control side"]
    distances: Float[np.ndarray, "control side"]
    spread: float


@dataclass(frozen=True)
class Known:
    """What all measures of two families at one site have in common.

    Attributes:
        own_p: the larger p of the two families' own index effects.
        reliability: the smaller reliability of the two families' codes.
        error: standard error of their matched cosine over contexts.
        lags: their lag profile.
        n_members: how many members they are compared by.
        n_templates: in how many contexts.
    """

    own_p: float
    reliability: float
    error: float
    lags: Float[np.ndarray, " lag"] = field(repr=False)
    n_members: int
    n_templates: int


@dataclass(frozen=True)
class PairCells:
    """Two families and their controls at one site.

    Attributes:
        x: the first family, each context less its mean.
        y: the second.
        controls: the control families.
        directions: what unrelated codes are drawn along; None with too few controls.
        known: what is known of the two before anything is measured.
    """

    x: Cells = field(repr=False)
    y: Cells = field(repr=False)
    controls: tuple[Cells, ...] = field(repr=False)
    directions: Directions | None = field(repr=False)
    known: Known


def pair_cells(x: Cells, y: Cells, controls: Sequence[Cells], directions: Directions | None, seed: int) -> PairCells:
    """What all measures of two families at one site have in common.

    Args:
        x: one family.
        y: the other; the same contexts and members.
        controls: control families in the same contexts with the same members.
        directions: what unrelated codes are drawn along (`directions_of`); None with too few controls.
        seed: seeds draws.
    """
    varied = varies(x) and varies(y)
    known = Known(
        own_p=max(own_index_p(x, seed=seed), own_index_p(y, seed=seed)) if varied else NAN,
        reliability=min(reliability(x), reliability(y)) if varied else NAN,
        error=template_bootstrap_se(context_products(x, y), context_products(x, x), context_products(y, y), seed=seed),
        lags=lag_profile(x, y),
        n_members=x.shape[1],
        n_templates=x.shape[0],
    )
    return PairCells(x, y, tuple(controls), directions, known)


def directions_of(controls: Sequence[Cells], weights: Float[np.ndarray, "draw member row"] | None) -> Directions | None:
    """Directions that unrelated codes are drawn along at one site; None without weights, with too few controls."""
    return None if weights is None else draw_directions([mean_code(c) for c in controls], weights)


def weights_for(
    n_draws: int, n_members: int, n_controls: int, *, seed: int
) -> Float[np.ndarray, "draw member row"] | None:
    """Weights of unrelated codes, for `directions_of`; None with too few controls, or nothing to draw."""
    if n_controls < LEAST_FAMILIES or n_draws < 1:
        return None
    return draw_weights(n_draws, n_members, n_members * n_controls, seed=seed)


def measured(measure: Measure, pair: PairCells, orders: Orders) -> Measured:
    """One measure of two families at one site, with its company.

    Args:
        measure: which.
        pair: the families.
        orders: of the members, the true one first.
    """
    value = _value(measure, pair.x, pair.y)
    if measure.decides and not pair.known.reliability >= LEAST_RELIABILITY:
        value = NAN
    there, controls = bool(np.isfinite(value)), np.full((len(pair.controls), 2), NAN)
    for number, control in enumerate(pair.controls):
        if measure.per_cosine is None or reliability(control) >= LEAST_RELIABILITY:
            controls[number] = _value(measure, pair.x, control), _value(measure, control, pair.y)
    permuted = measure.permuted(pair.x, pair.y, orders)[1:] if there else np.empty(0)
    found = Measured(
        value=value,
        ci_low=NAN,
        ci_high=NAN,
        unrelated=np.empty(0),
        scores=np.empty(0),
        permuted_mean=float(permuted.mean()) if len(permuted) else NAN,
        permuted_max=float(permuted.max()) if len(permuted) else NAN,
        controls=controls,
        distances=np.full_like(controls, NAN),
        spread=NAN,
    )
    if not there or measure.unrelated is None or pair.directions is None:
        return found
    directions = replace(pair.directions, drawn=pair.directions.drawn[: measure.most_draws])
    return _beside(measure, pair, directions, replace(found, unrelated=measure.unrelated(pair.x, pair.y, directions)))


def _beside(measure: Measure, pair: PairCells, directions: Directions, found: Measured) -> Measured:
    """The same with the interval that unrelated codes give, and the controls' distances in their spread."""
    if measure.per_cosine is None:
        spread = float(found.unrelated.std())
        distances = (found.controls - found.unrelated.mean()) / (spread or 1.0)
        scores = np.append(found.value, found.unrelated)
        return replace(found, distances=distances, spread=spread, scores=scores)
    distances = np.array([[distance_of(one, c, directions) for one in (pair.x, pair.y)] for c in pair.controls])
    cosine, scale = matched_cosine(pair.x, pair.y), measure.per_cosine(pair.x, pair.y)
    away = distance_of(pair.x, pair.y, directions), distance_of(pair.y, pair.x, directions)
    spread = float(np.mean([scale * cosine / one for one in away])) if cosine else NAN
    low, high = NAN, NAN
    if pair.x.shape[1] >= LEAST_MEMBERS:
        low, high = (scale * end for end in interval_of_cosine(cosine, pair.x, pair.y, directions, pair.known.error))
    scores = studentised(pair.x, pair.y, directions)
    return replace(found, distances=distances, spread=spread, ci_low=low, ci_high=high, scores=scores)


def varies(x: Cells) -> bool:
    """Whether a family's members differ at all."""
    cells = x.numpy()
    return bool((cells != cells[:, :1]).any())


def _value(measure: Measure, x: Cells, y: Cells) -> float:
    """The measure, or nan where a side does not vary over members or has too few of them."""
    if x.shape[1] < measure.least_members or not (varies(x) and varies(y)):
        return NAN
    return measure.value(x, y)
