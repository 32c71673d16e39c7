"""What the measures that decide give for unrelated codes, and when a family's own code is reliable enough."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from geometry.similarity.cosine_interval import cosine_interval
from geometry.similarity.of_families import matched_products
from geometry.stats.linalg import normalised
from geometry.stats.unrelated_codes import (
    Directions,
    expected_spread,
    mean_code,
    relative_sizes,
    spreads_of_draws,
    unrelated_codes,
    unrelated_products,
)

LEAST_RELIABILITY = 0.7
"""Share of a mean code that has to recur across contexts; a ceiling-corrected cosine then stays below 1 / .7."""


def reliability(x: Float[Tensor, "context member d"]) -> float:
    """Share of the mean code's variance that recurs in other contexts, so that it is not noise.

    Returns:
        At most 1, and 0 or below where nothing recurs; nan where members do not vary.

    References: Cronbach 1951, with contexts as items: products of different contexts over products of the means.
    """
    _, own, _ = matched_products(x, x)
    whole = float(np.square(mean_code(x)).sum())
    return own / whole if whole > 0 else float("nan")


def unrelated_cosines(
    x: Float[Tensor, "context member d"], y: Float[Tensor, "context member d"], directions: Directions
) -> Float[np.ndarray, " draw"]:
    """Matched cosines with unrelated codes: x beside codes of y's structure, then y beside codes of x's.

    Twice as many as there are draws; nan where a family's code does not recur.
    """
    products = np.concatenate(
        [unrelated_products(mean_code(one), mean_code(other), directions) for one, other in ((x, y), (y, x))]
    )
    _, own_x, own_y = matched_products(x, y)
    return products / np.sqrt(own_x * own_y) if own_x > 0 and own_y > 0 else np.full_like(products, np.nan)


def studentised(
    x: Float[Tensor, "context member d"], y: Float[Tensor, "context member d"], directions: Directions
) -> Float[np.ndarray, " draw"]:
    """The matched product of two families, then those of `unrelated_cosines`, each in its own spread.

    In the spread, that is, which products of unrelated codes with its structure have: the first in the root mean
    square of both ways. Order within one layer is that of cosines but for what the spreads differ by; over many layers
    the largest of the draws is no longer that of the widest.

    Returns:
        One more than twice the number of draws; nan where members do not vary.

    References: studentised maxT, Westfall and Young 1993, section 2.5.
    """
    ways = [(mean_code(one), mean_code(other)) for one, other in ((x, y), (y, x))]
    products = np.concatenate([unrelated_products(*way, directions) for way in ways])
    spreads = np.concatenate([spreads_of_draws(*way, directions) for way in ways])
    cross, _, _ = matched_products(x, y)
    own = np.sqrt(np.mean([expected_spread(*way, directions) ** 2 for way in ways]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([[cross / own], products / spreads])


def unrelated_retrievals(
    x: Float[Tensor, "context member d"], y: Float[Tensor, "context member d"], directions: Directions
) -> Float[np.ndarray, " draw"]:
    """Retrieval among unrelated codes: what context adds to y's members stays, but comes from another context."""
    found = []
    for one, other in ((x, y), (y, x)):
        left = one.numpy().astype(np.float64)
        left = left - left.mean(axis=1, keepdims=True)
        code = mean_code(other)
        right = other.numpy().astype(np.float64)
        moved = np.roll(right - right.mean(axis=1, keepdims=True) - code, 1, axis=0)
        drawn = unrelated_codes(code, directions)
        found.append((_hits(left, drawn, directions) + _hits_back(left, moved, drawn, directions)) / 2)
    return np.concatenate(found)


def interval_of_cosine(
    value: float,
    x: Float[Tensor, "context member d"],
    y: Float[Tensor, "context member d"],
    directions: Directions,
    error: float,
) -> tuple[float, float]:
    """95 % interval of the two families' matched cosine (`cosine_interval`)."""
    sizes = [relative_sizes(mean_code(one), directions) for one in (y, x)]
    return cosine_interval(value, unrelated_cosines(x, y, directions), np.concatenate(sizes), error)


def distance_of(
    x: Float[Tensor, "context member d"], control: Float[Tensor, "context member d"], directions: Directions
) -> float:
    """How far the matched product of a family and a control lies above 0, in standard deviations of unrelated codes."""
    cross, _, _ = matched_products(x, control)
    spread = expected_spread(mean_code(x), mean_code(control), directions)
    return cross / spread if spread > 0 else float("nan")


def _hits(
    left: Float[np.ndarray, "context member d"],
    drawn: Float[np.ndarray, "draw member axis"],
    directions: Directions,
) -> Float[np.ndarray, " draw"]:
    """How often x's member in a context lies nearest to the same member of each draw."""
    n_members = left.shape[1]
    rows = (left @ directions.axes.T).astype(np.float32).reshape(-1, drawn.shape[2])
    likeness = np.einsum("ra,bma->brm", rows, normalised(drawn), optimize=True)
    return (likeness.argmax(axis=2) == np.tile(np.arange(n_members), len(left))).mean(axis=1)


def _hits_back(
    left: Float[np.ndarray, "context member d"],
    moved: Float[np.ndarray, "context member d"],
    drawn: Float[np.ndarray, "draw member axis"],
    directions: Directions,
) -> Float[np.ndarray, " draw"]:
    """How often a draw's member, with what a context adds, lies nearest to the same member of x in other contexts."""
    n_members, hits = left.shape[1], np.zeros(len(drawn))
    others = normalised(left.sum(axis=0) - left)
    for theirs, added in zip(others, moved, strict=True):
        likeness = drawn @ (theirs @ directions.axes.T).T.astype(np.float32) + (added @ theirs.T)[None]
        hits += (likeness.argmax(axis=2) == np.arange(n_members)).mean(axis=1)
    return hits / len(left)
