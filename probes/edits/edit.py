"""Edits of activations at one site, each a frozen value: add a direction, remove features, exchange two directions.

Every edit goes by difference, `x' = x + (f' - f) @ directions`: what the directions do not span is left exactly alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cache import Hook
from cache.errors import InputError
from geometry.bases.basis import FeatureBasis, orthonormal_basis
from geometry.stats.linalg import RANK_TOLERANCE
from probes.directions.direction import Direction, check_same_site


@runtime_checkable
class Edit(Protocol):
    """What is done to activations at one site."""

    @property
    def hook(self) -> Hook:
        """The site."""
        ...

    @property
    def width(self) -> int:
        """Dimensions of the activations that it edits."""
        ...

    @property
    def idle(self) -> bool:
        """Whether it changes nothing, so that activations need not be touched at all."""
        ...

    @property
    def weights(self) -> str:
        """Content hash of the weights of the model that it belongs to; empty if not known."""
        ...

    def change(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """What is added to activations `x`."""
        ...


@dataclass(frozen=True)
class Addition:
    """Adds `alpha` times a direction's step (`norm * vector`).

    Raises:
        InputError: alpha is not finite.
    """

    direction: Direction
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.alpha):
            raise InputError(f"alpha must be a finite number; got {self.alpha}")

    @property
    def hook(self) -> Hook:
        """The direction's site."""
        return self.direction.hook

    @property
    def width(self) -> int:
        """The direction's dimensions."""
        return len(self.direction.vector)

    @property
    def idle(self) -> bool:
        """True at alpha 0."""
        return self.alpha == 0

    @property
    def weights(self) -> str:
        """Of the direction's model."""
        return self.direction.weights

    def change(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """The same step everywhere."""
        return (self.alpha * self.direction.step).to(x).expand_as(x)


@dataclass(frozen=True)
class Removal:
    """Sets the features of a basis to 0: of orthonormal directions, projects their span out around the offset."""

    basis: FeatureBasis

    def __post_init__(self) -> None:
        _site_of(self.basis)

    @property
    def hook(self) -> Hook:
        """The basis's site."""
        return _site_of(self.basis)

    @property
    def width(self) -> int:
        """The basis's dimensions."""
        return self.basis.directions.shape[1]

    @property
    def idle(self) -> bool:
        """False."""
        return False

    @property
    def weights(self) -> str:
        """Not known of a basis."""
        return ""

    def change(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Minus what the features write."""
        return -self.basis.encode(x) @ self.basis.directions.to(x)


@dataclass(frozen=True)
class Exchange:
    """Exchanges how much of two directions is in an activation, each in units of its own step.

    The amounts are coordinates in the directions' span (not inner products, which overlap where the directions do).
    Done twice it changes nothing.

    Raises:
        InputError: the directions belong to different sites, or are parallel, or one has norm 0.
    """

    first: Direction
    second: Direction

    def __post_init__(self) -> None:
        check_same_site(self.first, self.second, "swapped")
        if torch.linalg.svdvals(self._vectors)[-1] < RANK_TOLERANCE:
            raise InputError("the two directions are parallel, so there is nothing to swap")
        if not self.first.norm or not self.second.norm:
            raise InputError("a direction of norm 0 cannot be swapped")

    @property
    def _vectors(self) -> Float[Tensor, "2 d"]:
        return torch.stack([self.first.vector, self.second.vector]).double()

    @property
    def hook(self) -> Hook:
        """The directions' site."""
        return self.first.hook

    @property
    def width(self) -> int:
        """The directions' dimensions."""
        return len(self.first.vector)

    @property
    def idle(self) -> bool:
        """False."""
        return False

    @property
    def weights(self) -> str:
        """Of the directions' model."""
        return self.first.weights or self.second.weights

    def change(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """The step that exchanges both coordinates."""
        steps = self._vectors * torch.tensor([[self.first.norm], [self.second.norm]], dtype=torch.float64)
        readers = torch.linalg.pinv(steps.T).to(x)
        amounts = x @ readers.T
        return (amounts.flip(-1) - amounts) @ steps.to(x)


def removal_of(what: Direction | FeatureBasis) -> Removal:
    """The removal of a direction's component, or of all features of a basis."""
    if isinstance(what, Direction):
        return Removal(orthonormal_basis(what.vector[None], torch.zeros_like(what.vector), what.hook))
    return Removal(what)


def _site_of(basis: FeatureBasis) -> Hook:
    if basis.hook is None:
        raise InputError("a basis that is to be ablated must know its site; make it with hook=...")
    return basis.hook


def check_alone(edits: Sequence[Edit]) -> None:
    """Refuse to edit nothing.

    Raises:
        InputError: there is no edit.
    """
    if not edits:
        raise InputError("no edit is given; give at least one direction")
