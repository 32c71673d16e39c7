"""SAEs as bases of features, transcoders as what reads one site and writes another; weights alone, nothing kept."""

import hashlib
import operator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache.arrays import ArrayLike, as_tensor
from cache.errors import InputError
from cache.loading.hashes import tensors_hash
from cache.models.hooks import Hook
from probes.sae.coding import Nonlinearity, preactivations, written, written_active


@dataclass(frozen=True)
class Origin:
    """What an SAE's files say of it.

    Attributes:
        name: what messages call it: its folder, or release and id.
        architecture: as its files name it: `standard`, `topk`, `batchtopk`, `jumprelu`, `gated`, ...
        model: the model that it was trained on; empty if not told.
        site: TransformerLens's name of the site that it reads; empty if not told.
        bos: whether BOS stood before each text; None if not told.
        centred: trained on activations of a model whose writing weights were centred.
        weights: content hash of the model's weights, if it was trained by this package.
    """

    name: str
    architecture: str
    model: str = ""
    site: str = ""
    bos: bool | None = None
    centred: bool = False
    weights: str = ""


@dataclass(frozen=True, eq=False)
class SAEBasis:
    """The features of a sparse autoencoder: a `FeatureBasis`, read by a linear map and a nonlinearity.

    `encode` is `nonlinearity((x - centre) @ encoder + bias)`, each row by itself; what scales or whitens activations,
    and rescaling by decoder norms, is folded into the weights. Values may be negative where the nonlinearity is
    `abstopk`; a feature is active where its value is not 0.

    Attributes:
        encoder: what reads: pre-activations move by `change @ encoder`.
        bias: added to what is read.
        centre: taken off the activations before they are read.
        directions: what one unit of each feature adds to the activation.
        offset: the activation that no active feature stands for.
        nonlinearity: what is made of pre-activations, as a value with a name and its thresholds or k.
        origin: what its files say of it.
        hook: the site; None where its files name none that stores have.
        weights: content hash of the weights of the model; empty until it is loaded with a store or model.
        deviations: how far each feature varies; None, so that alpha counts in units of a feature.

    Example:
        >>> from probes.sae.coding import Nonlinearity
        >>> weight = torch.eye(3)
        >>> sae = SAEBasis(weight, torch.zeros(3), torch.zeros(3), weight, torch.ones(3), Nonlinearity("relu"))
        >>> sae.encode(torch.tensor([[2.0, -1.0, 0.5]]))
        tensor([[2.0000, 0.0000, 0.5000]])
        >>> sae.decode(torch.tensor([2.0, 0.0, 0.5]))
        tensor([3.0000, 1.0000, 1.5000])
    """

    encoder: Float[Tensor, "d feature"] = field(repr=False)
    bias: Float[Tensor, " feature"] = field(repr=False)
    centre: Float[Tensor, " d"] = field(repr=False)
    directions: Float[Tensor, "feature d"] = field(repr=False)
    offset: Float[Tensor, " d"] = field(repr=False)
    nonlinearity: Nonlinearity
    origin: Origin = Origin("an SAE", "standard")
    hook: Hook | None = None
    weights: str = ""
    deviations: Float[Tensor, " feature"] | None = None

    def preactivations(self, x: ArrayLike) -> Float[Tensor, "*rows feature"]:
        """What the nonlinearity is applied to; x is (..., d)."""
        return preactivations(as_tensor(x), self.centre, self.encoder, self.bias)

    def encode(self, x: ArrayLike) -> Float[Tensor, "*rows feature"]:
        """Feature values of activations (..., d), most of them 0."""
        x = as_tensor(x)
        return self.nonlinearity.of_own(self.preactivations(x)).to(x.dtype)

    def decode(self, features: ArrayLike) -> Float[Tensor, "*rows d"]:
        """`features @ directions + offset`; features are (..., feature)."""
        return written(as_tensor(features, "features"), self.directions, self.offset)

    def decode_active(
        self, numbers: Int[Tensor, "row slot"], values: Float[Tensor, "row slot"]
    ) -> Float[Tensor, "row d"]:
        """The same from the numbers and values of active features; -1 is an empty slot."""
        return written_active(numbers, values, self.directions, self.offset)


@dataclass(frozen=True, eq=False)
class Transcoder:
    """Features that are read at one site, and written at another; no basis of either, and no edit of one site.

    Attributes:
        encoder: what reads.
        bias: added to what is read.
        directions: what one unit of each feature adds where it is written.
        offset: what no active feature stands for there.
        skip: what takes activations straight to where is written; None without.
        nonlinearity: what is made of pre-activations.
        origin: what its files say of it.
        reads: the site that is read; None where its files name none that stores have.
        writes: the site that is written; None likewise.
        weights: content hash of the weights of the model; empty until it is loaded with a store or model.
    """

    encoder: Float[Tensor, "d feature"] = field(repr=False)
    bias: Float[Tensor, " feature"] = field(repr=False)
    directions: Float[Tensor, "feature d_out"] = field(repr=False)
    offset: Float[Tensor, " d_out"] = field(repr=False)
    nonlinearity: Nonlinearity
    skip: Float[Tensor, "d d_out"] | None = field(default=None, repr=False)
    origin: Origin = Origin("a transcoder", "transcoder")
    reads: Hook | None = None
    writes: Hook | None = None
    weights: str = ""

    def encode(self, x: ArrayLike) -> Float[Tensor, "*rows feature"]:
        """Feature values of activations (..., d) of the site that is read."""
        x = as_tensor(x)
        pre = preactivations(x, self.encoder.new_zeros(len(self.encoder)), self.encoder, self.bias)
        return self.nonlinearity.of_own(pre).to(x.dtype)

    def decode(self, features: ArrayLike) -> Float[Tensor, "*rows d_out"]:
        """What features (..., feature) write at the other site, without what is skipped to it."""
        return written(as_tensor(features, "features"), self.directions, self.offset)

    def reconstruct(self, x: ArrayLike) -> Float[Tensor, "*rows d_out"]:
        """The other site's activations, from those of the site that is read."""
        x = as_tensor(x)
        out = self.decode(self.encode(x))
        return out if self.skip is None else out + x @ self.skip.to(x)


Features = TypeVar("Features", bound=SAEBasis | Transcoder)


def of_features(sae: Features, features: Int[np.ndarray, " chosen"]) -> Features:
    """An SAE of these features alone, where none depends on the others; else the SAE as it is."""
    form = sae.nonlinearity
    if not form.by_element or len(features) == len(sae.directions):
        return sae
    kept = torch.from_numpy(features)
    of_each: dict[str, Any] = {name: one[kept] for name, one in vars(form).items() if isinstance(one, Tensor)}
    weights: dict[str, Any] = {
        "encoder": sae.encoder[:, kept],
        "bias": sae.bias[kept],
        "directions": sae.directions[kept],
    }
    return replace(sae, **weights, nonlinearity=replace(form, **of_each))


def sae_hash(sae: SAEBasis | Transcoder) -> str:
    """SHA-256 over an SAE's weights, bit by bit, and what it makes of pre-activations; not of what it is called."""
    form = sae.nonlinearity
    named = {name: value for one in (sae, form) for name, value in vars(one).items() if isinstance(value, Tensor)}
    return hashlib.sha256(f"{form.name} {form.k} {tensors_hash(named.items())}".encode()).hexdigest()


def feature_numbers(features: Any, n_features: int) -> Int[np.ndarray, " wanted"]:
    """Numbers of features of an SAE, as they are given.

    Raises:
        InputError: they are none.
    """
    try:
        numbers = [operator.index(one) for one in features]
    except TypeError as error:
        raise InputError(f"features are named by a list of their numbers; got {features!r:.40}") from error
    wrong = [one for one in numbers if not 0 <= one < n_features]
    if wrong or not numbers:
        got = wrong[0] if wrong else "none"
        raise InputError(f"features of this SAE are numbered 0 to {n_features - 1}; got {got}")
    return np.array(numbers)
