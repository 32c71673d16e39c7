"""The one edit of activations at a site: a change of a basis's features, and those that are asked for most.

Every edit goes by difference, `x' = x + (f' - f) @ directions`: what the directions do not span is left exactly alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cache import Hook
from cache.errors import InputError
from geometry.bases.basis import FeatureBasis, LinearBasis
from geometry.stats.linalg import RANK_TOLERANCE
from probes.directions.direction import Direction, check_same_site

Change = Callable[[Float[Tensor, "*rows feature"]], Float[Tensor, "*rows feature"]]
"""What is added to feature values, given the values."""


@dataclass(frozen=True)
class Edit:
    """What is done to activations at one site; where no feature changes, nothing does.

    Attributes:
        basis: the features that change, at a site that it knows.
        change: `f' - f` of the values `f` that the basis reads.

    Raises:
        InputError: the basis does not know its site.

    Example:
        >>> from probes.directions.features import basis_at
        >>> x = store.load(("resid_post", 1), "is_last")
        >>> basis = basis_at(store, ("resid_post", 1), pca(x, k=3).basis)
        >>> halved = Edit(basis, lambda values: -0.5 * values)
        >>> bool(torch.allclose(basis.encode(x + halved.difference(x)), 0.5 * basis.encode(x), atol=1e-3))
        True
    """

    basis: FeatureBasis
    change: Change

    def __post_init__(self) -> None:
        _ = self.hook

    @property
    def hook(self) -> Hook:
        """The site."""
        if self.basis.hook is None:
            raise InputError("the basis of an edit must know its site; basis_at(store, hook, basis) notes it")
        return self.basis.hook

    @property
    def width(self) -> int:
        """Dimensions of the activations that it edits."""
        return self.basis.directions.shape[1]

    @property
    def idle(self) -> bool:
        """Whether it can change nothing, so that activations need not be touched at all."""
        return not self.basis.directions.any()

    @property
    def weights(self) -> str:
        """Content hash of the weights of the model that it belongs to; empty if not known."""
        return self.basis.weights

    def difference(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """What is added to activations `x`."""
        return self.change(self.basis.encode(x)) @ self.basis.directions.to(x)


def addition(direction: Direction, alpha: float = 1.0) -> Edit:
    """Adds `alpha` times a direction's step: the feature whose one unit that is goes up by 1, whatever it was.

    Raises:
        InputError: alpha is not finite.

    Example:
        >>> edit = addition(direction, 2.0)
        >>> x = torch.zeros(3, len(direction.vector))
        >>> edit.hook == direction.hook, torch.allclose(edit.difference(x)[0], 2 * direction.step)
        (True, True)
    """
    if not math.isfinite(alpha):
        raise InputError(f"alpha must be a finite number; got {alpha}")
    size = alpha * direction.norm
    return Edit(_line(direction, alpha * direction.step, direction.vector / (size or 1.0)), torch.ones_like)


def removal(what: Direction | FeatureBasis, features: Sequence[int] | None = None) -> Edit:
    """Removes a direction's component, or sets features of a basis to 0: all, or those that are numbered.

    Of orthonormal directions, projects their span out around the offset.

    Raises:
        InputError: the basis does not know its site, or has no such feature.
    """
    basis = _line(what, what.vector, what.vector) if isinstance(what, Direction) else what
    if features is None:
        return Edit(basis, torch.neg)
    n_features = len(basis.directions)
    wrong = [one for one in features if not 0 <= one < n_features]
    if wrong or not len(features):
        got = wrong[0] if wrong else "none"
        raise InputError(f"features of this basis are numbered 0 to {n_features - 1}; got {got}")
    chosen = torch.zeros(n_features)
    chosen[list(features)] = 1
    return Edit(basis, lambda values: -values * chosen.to(values))


def exchange(first: Direction, second: Direction) -> Edit:
    """Exchanges how much of two directions is in an activation, each in units of its own step.

    The amounts are coordinates in the directions' span (not inner products, which overlap where the directions do).
    Done twice it changes nothing.

    Raises:
        InputError: the directions belong to different sites, or are parallel, or one has norm 0.
    """
    check_same_site(first, second, "swapped")
    vectors = torch.stack([first.vector, second.vector]).double()
    if torch.linalg.svdvals(vectors)[-1] < RANK_TOLERANCE:
        raise InputError("the two directions are parallel, so there is nothing to swap")
    if not first.norm or not second.norm:
        raise InputError("a direction of norm 0 cannot be swapped")
    steps = vectors * torch.tensor([[first.norm], [second.norm]], dtype=torch.float64)
    basis = LinearBasis(
        offset=torch.zeros_like(steps[0]),
        directions=steps,
        readers=torch.linalg.pinv(steps.T),
        hook=first.hook,
        weights=first.weights or second.weights,
    )
    return Edit(basis, lambda amounts: amounts.flip(-1) - amounts)


def check_alone(edits: Sequence[Edit]) -> None:
    """Refuse to edit nothing.

    Raises:
        InputError: there is no edit.
    """
    if not edits:
        raise InputError("no edit is given; give at least one direction")


def _line(direction: Direction, step: Float[Tensor, " d"], reader: Float[Tensor, " d"]) -> LinearBasis:
    """The one feature whose unit is `step`."""
    return LinearBasis(torch.zeros_like(step), step[None], reader[None], direction.hook, direction.weights)
