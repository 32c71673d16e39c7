"""Features as directions: a basis that was found on a store's activations knows where it belongs, saved or not."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore
from cache.errors import FingerprintError, InputError
from cache.models.hooks import HookLike
from cache.store.store import check_open
from cache.store.view import View
from geometry.bases.basis import FeatureBasis, LinearBasis, content_hash, deviations_of
from geometry.bases.nonnegative import NonnegativeBasis
from geometry.results.result import LayerResult
from probes.directions.direction import Direction, direction_of

Found = TypeVar("Found", LinearBasis, NonnegativeBasis)

_AT_ONCE = 1 << 23  # values of features in memory


def basis_at(store: ActivationStore, hook: HookLike, basis: Found) -> Found:
    """The same basis, with the site and the model that its activations came from.

    Args:
        store: the store that they were loaded from.
        hook: the site that they were loaded from: a `Hook`, its name, or kind and layer.
        basis: of `pca`, `svd`, `nmf`, one side of `cca`, or `demix`.

    Raises:
        InputError: the store has no such site, or the site has another width.

    Example:
        >>> site = ("resid_post", 1)
        >>> basis = basis_at(store, site, pca(store.load(site, "is_last"), k=3).basis)
        >>> basis.hook.name, basis.weights == store.weights
        ('blocks.1.hook_resid_post', True)
    """
    check_open(store)
    site = store.site(hook)
    width = basis.directions.shape[1]
    if store.width(site) != width:
        raise InputError(f"{site.name} has width {store.width(site)}; the basis has {width}")
    return replace(basis, hook=site, weights=store.weights)


def feature_direction(basis: FeatureBasis, i: int) -> Direction:
    """What a feature writes, as a direction to steer along.

    Its norm is what the feature's standard deviation over the rows that it was found on writes, so that alpha counts in
    standard deviations; of a basis that knows none, what one unit of the feature writes.

    Args:
        basis: the features, at a site that it knows.
        i: which one, from 0.

    Raises:
        InputError: the basis does not know its site, has no such feature, or it writes nothing.

    Example:
        >>> from probes.directions.features import basis_at
        >>> site = ("resid_post", 1)
        >>> basis = basis_at(store, site, pca(store.load(site, "is_last"), k=3).basis)
        >>> feature_direction(basis, 0).target, feature_direction(basis, 0).hook.name
        ('feature 0', 'blocks.1.hook_resid_post')
    """
    if basis.hook is None:
        raise InputError("a feature's direction needs its site; basis_at(store, hook, basis) notes it")
    directions = basis.directions.double()
    if not 0 <= i < len(directions):
        raise InputError(f"features of this basis are numbered 0 to {len(directions) - 1}; got {i}")
    length = float(directions[i].norm())
    if not length:
        raise InputError(f"feature {i} writes nothing, so it is no direction")
    size = length if basis.deviations is None else length * float(basis.deviations[i])
    name = f"feature {i}"
    return direction_of(directions[i], basis.hook, "feature", norm=size, target=name, weights=basis.weights)


def saved_feature(result: LayerResult, layer: int, i: int) -> Direction:
    """A feature of a result at one of its layers: the direction that `feature_direction` gives of its basis.

    Args:
        result: of `pca_by_layer`, `svd_by_layer`, `nmf_by_layer` or `demix_by_layer`, as `LayerResult.load` gives it.
        layer: which; -1 is the embedding, if it is there.
        i: which feature, from 0. Of demix these are index directions, whose size nothing tells: alpha counts in units
            of the activations.

    Raises:
        InputError: the result has no features, no such layer, or no such feature there.
    """
    name = next((one for one in ("directions", "index_directions") if one in result.dataset), None)
    if name is None:
        raise InputError(f"features are of svd, pca, nmf and demix; {result.name} has none")
    layers = {hook.table_layer: number for number, hook in enumerate(result.hooks)}
    if layer not in layers:
        raise InputError(f"the result has layers {', '.join(map(str, layers))}; got {layer}")
    number = layers[layer]
    directions = torch.from_numpy(result.values(name)[number]).float()
    if not directions.isfinite().all():
        raise InputError(f"all rows were equal at layer {layer}, where {result.name} has no features")
    scores = torch.from_numpy(result.values("scores")[number]) if "scores" in result.dataset else None
    basis = LinearBasis(
        offset=torch.zeros(directions.shape[1]),
        directions=directions,
        readers=directions,
        hook=result.hooks[number],
        weights=str(result.parameters.get("weights", "")),
        deviations=None if scores is None else deviations_of(scores),
    )
    return feature_direction(basis, i)


def check_basis(basis: Any) -> None:
    """Refuse what is no basis.

    Raises:
        InputError: it is anything else.
    """
    if not isinstance(basis, FeatureBasis):
        raise InputError(f"what activations are read through is a basis, as load_sae gives; got {type(basis).__name__}")


def check_read(basis: Any, view: View) -> None:
    """Make sure that features are read at the one site of a view, of the same model, where any are read (not None).

    Raises:
        InputError: it is no basis, knows no site, or the view is of another or of several.
        FingerprintError: it was found on activations of another model.
    """
    if basis is None:
        return
    check_basis(basis)
    if basis.hook is None:
        raise InputError("a basis is read at its site, which this one does not know; basis_at notes it, or load_sae")
    if view.hooks != (basis.hook,):
        name, there = basis.hook.name, ", ".join(hook.name for hook in view.hooks)
        raise InputError(f"the basis is of {name}, and the view of {there}; view that site alone, by its name")
    if basis.weights and basis.weights != view.store.weights:
        raise FingerprintError(
            f"the basis is of a model with other weights than those of {view.store.paths[0].name} "
            f"({basis.weights[:8]} and {view.store.weights[:8]})"
        )


def basis_parameters(basis: FeatureBasis | None) -> dict[str, Any]:
    """What a result depends on where activations are read through a basis; nothing without one."""
    if basis is None or basis.hook is None:
        return {}
    what = f"{len(basis.directions)} features of {basis.hook.name}"
    return {"basis": f"{what} (sha256 {content_hash(basis)[:16]})"}


def read_features(basis: FeatureBasis, x: Float[Tensor, "row d"]) -> Float[Tensor, "row feature"]:
    """Feature values of many rows, read some at once."""
    return torch.cat([basis.encode(part) for part in torch.split(x, max(1, _AT_ONCE // len(basis.directions)))])


def reconstructed(basis: FeatureBasis, x: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    """What a basis's features make of rows, some at once: the part of them that its features carry."""
    parts = torch.split(x, max(1, _AT_ONCE // len(basis.directions)))
    return torch.cat([basis.decode(basis.encode(part)).to(x) for part in parts])
