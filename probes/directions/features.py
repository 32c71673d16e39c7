"""Features as directions: a basis that was found on a store's activations knows where it belongs, saved or not."""

from dataclasses import replace
from typing import TypeVar

import torch

from cache import ActivationStore
from cache.errors import InputError
from cache.models.hooks import HookLike
from cache.store.store import check_open
from geometry.bases.basis import FeatureBasis, LinearBasis, deviations_of
from geometry.bases.nonnegative import NonnegativeBasis
from geometry.results.result import LayerResult
from probes.directions.direction import Direction, direction_of

Found = TypeVar("Found", LinearBasis, NonnegativeBasis)


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
