"""PCA or SVD of the same rows at every layer, with errors, stability and a null; rows are streamed."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from cache import ActivationStore, Hook
from cache.models.hooks import Layers, layers_text
from cache.seeds import check_seed
from cache.store.rows import Where
from geometry.bases.principal import pca_of_moments, svd_of_moments
from geometry.layers.components import N_PERMUTATIONS, N_SPLITS, Fit, components
from geometry.layers.result import LayerResult, Named, site_hooks
from geometry.rows.analysed import chosen_rows, row_counts


def pca_by_layer(
    store: ActivationStore,
    site: str = "resid_post",
    *,
    layers: Layers = "all",
    where: Where = None,
    k: int = 5,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """Principal components of one site, fitted at each layer by itself; memory does not depend on the number of rows.

    Args:
        store: the store.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, numbers (3, or [0, 1]), or a string of layers and ranges.
        where: a query over `store.rows`, or a mask; None for the rows of `default_rows`. BOS is left out either way.
        k: how many components.
        seed: seeds the permutations of the null and the halves of the stability.
        on_hook: called after every layer.

    Returns:
        Arrays `explained_variance_ratio`, `explained_variance`, `se` (jackknife over members), `stability` (overlap of
        the first components of two halves of the members, mean of 10 splits), `null` (20 column permutations),
        `spectrum`, `participation_ratio`, `largest_row_share`, `largest_dimension_share`, `directions`, `mean` and
        `scores`.

    Raises:
        InputError: no such site, layer or row, or fewer rows than components.
        NumbersError: a value is not finite.
    """
    seed = check_seed(seed)
    return _by_layer("pca", pca_of_moments, store, site, layers, where, k, seed, on_hook)


def svd_by_layer(
    store: ActivationStore,
    site: str = "resid_post",
    *,
    layers: Layers = "all",
    where: Where = None,
    k: int = 5,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """Singular vectors of one site with no mean removed, fitted at each layer by itself; else as `pca_by_layer`."""
    seed = check_seed(seed)
    return _by_layer("svd", svd_of_moments, store, site, layers, where, k, seed, on_hook)


def _by_layer(
    name: str,
    fit: Fit,
    store: ActivationStore,
    site: str,
    layers: Layers,
    where: Where,
    k: int,
    seed: int,
    on_hook: Callable[[Hook], None],
) -> LayerResult:
    hooks = site_hooks(store, site, layers)
    rows = chosen_rows(store, where)
    found = []
    for hook in hooks:
        blocks = partial(store.blocks, hook, rows.chosen, n_rows=8192)
        found.append(components(blocks, rows.units, fit, k=k, seed=seed))
        on_hook(hook)
    arrays = {key: (("hook", *axes), np.stack([one[key][1] for one in found])) for key, (axes, _) in found[0].items()}
    parameters = {"site": site, "layers": layers_text(layers), "where": rows.where, "k": k, "seed": seed}
    return LayerResult(
        name=name,
        hooks=hooks,
        arrays=arrays,
        rows=rows.table,
        parameters=parameters | {"n_permutations": N_PERMUTATIONS, "n_splits": N_SPLITS},
        source=store.fingerprint,
        table=_table(site, hooks, arrays, row_counts(rows)),
    )


def _table(site: str, hooks: tuple[Hook, ...], arrays: Named, counts: dict[str, int]) -> pd.DataFrame:
    null = arrays["null"][1]
    names = ("explained_variance", "explained_variance_ratio", "se", "stability")
    columns = {name: arrays[name][1] for name in names}
    columns |= {"null_mean": null.mean(axis=1), "null_max": null.max(axis=1)}
    shares = ("participation_ratio", "largest_row_share", "largest_dimension_share")
    lines = [
        {"layer": hook.table_layer, "site": site, "hook": hook.name, "component": component}
        | {name: values[i, component] for name, values in columns.items()}
        | {name: float(arrays[name][1][i]) for name in shares}
        | counts
        for i, hook in enumerate(hooks)
        for component in range(columns["se"].shape[1])
    ]
    return pd.DataFrame(lines)
