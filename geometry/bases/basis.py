"""What every set of features has in common, whatever found it: directions to write with, and a way to read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cache.arrays import ArrayLike, as_tensor
from cache.models.hooks import Hook, HookLike, as_hook


@runtime_checkable
class FeatureBasis(Protocol):
    """Features of one site: SVD, PCA, NMF and CCA components, demixed subspaces, SAE latents, neurons.

    Laws: `decode` is affine in every feature, with slope `directions[i]`; leading axes and the dtype of the
    argument are kept; `encode` and `decode` are pure.

    Attributes:
        hook: the site, None where it is not known; `probes.basis_at` notes it and the weights.
        weights: content hash of the weights of the model that the activations came from; empty if not known.
        directions: what one unit of each feature adds to the activation.
        deviations: each feature's standard deviation over the rows that it was found on; None if not known.

    Example:
        >>> x = store.load(("resid_post", 1), "is_last")
        >>> basis = pca(x, k=3).basis
        >>> isinstance(basis, FeatureBasis), basis.directions.shape, basis.encode(x[:5]).shape
        (True, torch.Size([3, 33]), torch.Size([5, 3]))
    """

    @property
    def hook(self) -> Hook | None:
        """The site."""
        ...

    @property
    def weights(self) -> str:
        """Content hash of the model's weights."""
        ...

    @property
    def directions(self) -> Float[Tensor, "feature d"]:
        """What one unit of each feature adds to the activation."""
        ...

    @property
    def deviations(self) -> Float[Tensor, " feature"] | None:
        """How far each feature varies."""
        ...

    def encode(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows feature"]:
        """Feature values of activations."""
        ...

    def decode(self, features: Float[Tensor, "*rows feature"]) -> Float[Tensor, "*rows d"]:
        """The activations that feature values stand for."""
        ...


@dataclass(frozen=True)
class LinearBasis:
    """Features that are read by inner products: `(x - offset) @ readers.T`.

    For orthonormal directions the readers are the directions themselves; for CCA the readers are its weights and
    the directions its patterns. Always `readers @ directions.T` is the identity, so that writing a feature's value
    and reading it again gives that value.

    Attributes:
        offset: the activation at which every feature is 0.
        directions: what one unit of each feature adds.
        readers: what each feature is read with.
        hook: the site, if known.
        weights: content hash of the model's weights, if known.
        deviations: each feature's standard deviation over the rows that it was found on, if known.
    """

    offset: Float[Tensor, " d"]
    directions: Float[Tensor, "feature d"]
    readers: Float[Tensor, "feature d"]
    hook: Hook | None = None
    weights: str = ""
    deviations: Float[Tensor, " feature"] | None = None

    def __post_init__(self) -> None:
        if self.hook is not None:
            object.__setattr__(self, "hook", as_hook(self.hook))

    def encode(self, x: ArrayLike) -> Float[Tensor, "*rows feature"]:
        """Feature values: inner products of (x - offset) with the readers; x is (..., d)."""
        x = as_tensor(x)
        return (x - self.offset.to(x)) @ self.readers.to(x).T

    def decode(self, features: ArrayLike) -> Float[Tensor, "*rows d"]:
        """`features @ directions + offset`; features are (..., feature)."""
        features = as_tensor(features, "features")
        return features @ self.directions.to(features) + self.offset.to(features)


def orthonormal_basis(
    directions: Float[Tensor, "feature d"],
    offset: Float[Tensor, " d"],
    hook: HookLike | None = None,
    deviations: Float[Tensor, " feature"] | None = None,
) -> LinearBasis:
    """A basis of orthonormal directions, which are their own readers."""
    site = None if hook is None else as_hook(hook)
    return LinearBasis(offset, directions, readers=directions, hook=site, deviations=deviations)


def deviations_of(features: Float[Tensor, "row feature"]) -> Float[Tensor, " feature"]:
    """Standard deviation of each feature over rows, float64; 0 of a single row."""
    centred = features.double() - features.double().mean(dim=0)
    return (centred.square().sum(dim=0) / max(len(features) - 1, 1)).sqrt()


def content_hash(basis: FeatureBasis) -> str:
    """SHA-256 over what a basis is made of, tensors bit by bit; not over a field `origin`, which says where it lay."""
    whole = hashlib.sha256()
    for part in _content(vars(basis)):
        whole.update(part)
    return whole.hexdigest()


def _content(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor | np.ndarray):
        plain = torch.as_tensor(value).detach().cpu().contiguous()
        yield f"{plain.dtype}{tuple(plain.shape)}".encode()
        yield plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif is_dataclass(value):
        yield from _content({one.name: getattr(value, one.name) for one in fields(value)})
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            if name != "origin":
                yield f"\n{name}=".encode()
                yield from _content(value[name])
    else:
        yield repr(value).encode()
