"""Codes that unrelated families could have: a family's own member-by-member structure, in directions drawn anew.

Members of overlapping windows are not exchangeable: neighbours are alike whatever the words. To permute them tests
against something that never happens. Here a family keeps how its members resemble one another, and only *where* in the
space of activations its code lies is drawn, from the codes of control families.

That takes controls whose codes lie where those of unrelated families of this kind would: of families in dimensions in
which the controls hardly vary, too many are called related. Controls are therefore matched in token class and frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cache.errors import InputError
from cache.repeatable import check_seed
from geometry.stats.linalg import normalised, row_space

LEAST_FAMILIES = 10
"""Of fewer control families the directions that unrelated codes take are not known well enough for a null."""


@dataclass(frozen=True)
class Directions:
    """Directions drawn from the codes of control families at one site; the same draws at every site.

    Attributes:
        axes: an orthonormal basis of what the control codes span.
        spread: the variance of a drawn direction along each axis; they add up to 1.
        drawn: for each draw and member a direction, in coordinates of the axes; on average of unit length.
    """

    axes: Float[np.ndarray, "axis d"] = field(repr=False)
    spread: Float[np.ndarray, " axis"] = field(repr=False)
    drawn: Float[np.ndarray, "draw member axis"] = field(repr=False)


def draw_weights(n_draws: int, n_members: int, n_rows: int, *, seed: int = 0) -> Float[np.ndarray, "draw member row"]:
    """Gaussian weights of every control code in every direction: drawn once, used at all layers and sites.

    Args:
        n_draws: how many draws.
        n_members: members of a family.
        n_rows: members of all control families together.
        seed: seeds them.

    Raises:
        InputError: one of the numbers is below 1.
    """
    if min(n_draws, n_members, n_rows) < 1:
        raise InputError(f"draws, members and members of controls are 1 or more; got {n_draws}, {n_members}, {n_rows}")
    shape = (n_draws, n_members, n_rows)
    return np.random.default_rng([check_seed(seed), 7]).standard_normal(size=shape, dtype=np.float32)


def draw_directions(
    controls: Sequence[Float[np.ndarray, "member d"]], weights: Float[np.ndarray, "draw member row"]
) -> Directions:
    """Directions with the covariance of control codes: Gaussian combinations of them.

    Args:
        controls: each control family's mean code, less its mean over members.
        weights: of `draw_weights`.
    """
    scores, sizes, axes = row_space(np.concatenate(controls))
    spread = np.square(sizes) / (np.square(sizes).sum() or 1.0)
    return Directions(axes, spread, weights @ (scores * np.sqrt(spread)).astype(np.float32))


def unrelated_codes(
    code: Float[np.ndarray, "member d"], directions: Directions
) -> Float[np.ndarray, "draw member axis"]:
    """Codes with a family's member-by-member products (on average) and its size, in the directions drawn.

    With A the symmetric root of `code @ code.T`, a draw is `A @ directions`: a root that changes little where the
    products change little, so that draws hang together over layers as codes do.

    Args:
        code: the family's mean code, less its mean over members.
        directions: of `draw_directions`.

    Returns:
        In coordinates of `directions.axes`; each draw's sum of squares is that of the code.
    """
    drawn = root(code) @ normalised(directions.drawn)
    sizes = np.linalg.norm(drawn, axis=(1, 2), keepdims=True)
    return drawn * (np.float32(np.linalg.norm(code)) / np.where(sizes > 0, sizes, 1))


def unrelated_products(
    x: Float[np.ndarray, "member d"], y: Float[np.ndarray, "member d"], directions: Directions
) -> Float[np.ndarray, " draw"]:
    """The inner product of a family's code with each unrelated code of another's structure, without making these.

    Args:
        x: one family's mean code, less its mean over members.
        y: the other's; the one that is drawn.
        directions: of `draw_directions`.
    """
    unit, mixing = normalised(directions.drawn), root(y)
    pulled = mixing @ (x @ directions.axes.T).astype(np.float32)
    products = np.einsum("bma,ma->b", unit, pulled, optimize=True)
    return products * (np.linalg.norm(y) / _sizes(unit, y))


def spreads_of_draws(
    x: Float[np.ndarray, "member d"], y: Float[np.ndarray, "member d"], directions: Directions
) -> Float[np.ndarray, " draw"]:
    """What `expected_spread` gives for each unrelated code in y's place: each draw has a structure of its own.

    A code that happens to lie along x has a wider null as well. Where products are set against the largest of many,
    each has therefore to be counted in its own spread, as the value is in its: else the null's tail is the heavier.
    """
    mixing, scores = root(y), x @ directions.axes.T
    among = np.matmul(unit := normalised(directions.drawn), unit.transpose(0, 2, 1))
    inner = mixing @ ((scores * directions.spread) @ scores.T).astype(np.float32) @ mixing
    widths = np.sqrt(np.einsum("bij,ij->b", among, inner, optimize=True).clip(min=0))
    return widths * (np.linalg.norm(y) / _sizes(unit, y))


def mean_code(x: Float[Tensor, "context member d"]) -> Float[np.ndarray, "member d"]:
    """Each member's mean over contexts, less the mean over members."""
    code = x.numpy().astype(np.float64).mean(axis=0)
    return code - code.mean(axis=0)


def expected_spread(
    x: Float[np.ndarray, "member d"], y: Float[np.ndarray, "member d"], directions: Directions
) -> float:
    """The standard deviation of `unrelated_products`, from the axes and without draws."""
    pulled = root(y) @ (x @ directions.axes.T)
    return float(np.sqrt(np.square(pulled).sum(axis=0) @ directions.spread))


def relative_sizes(y: Float[np.ndarray, "member d"], directions: Directions) -> Float[np.ndarray, " draw"]:
    """How large codes of a structure come out, draw by draw, beside their root mean square."""
    sizes = _sizes(directions.drawn, y)
    return sizes / (np.sqrt(np.square(sizes).mean()) or 1.0)


def root(code: Float[np.ndarray, "member d"]) -> Float[np.ndarray, "member member"]:
    """The symmetric root of the members' inner products."""
    values, vectors = np.linalg.eigh((code @ code.T).astype(np.float64))
    return ((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T).astype(np.float32)


def _sizes(
    drawn: Float[np.ndarray, "draw member axis"], y: Float[np.ndarray, "member d"]
) -> Float[np.ndarray, " draw"]:
    """Norms of `root(y) @ drawn`."""
    among = np.matmul(drawn, drawn.transpose(0, 2, 1))
    return np.sqrt(np.einsum("bij,ij->b", among, (y @ y.T).astype(np.float32), optimize=True).clip(min=1e-30))
