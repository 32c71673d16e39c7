"""NMF of the same rows at every layer."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cache import Hook
from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.bases.nonnegative import matched_cosines, nmf
from geometry.results.dataset import PER_COMPONENT, Named, on_sites, stacked
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.analysed import Rows, chosen_rows, row_counts

MOST_ROWS = 8192
"""NMF is fitted on so many rows, drawn at random where there are more; all rows are read with what it found."""

N_NULL = 3


def nmf_by_layer(
    view: View, families: str | Sequence[str] | None = None, *, k: int = 5, seed: int = 0, loop: Loop = ALONE
) -> LayerResult:
    """Non-negative factors of a view's rows, fitted at each site by itself; signed activations are split by sign.

    Args:
        view: the sites and rows; those of `default_rows` where it asks for none. Neurons (`mlp_post`) are where NMF is
            at home.
        families: which; None for all but controls, unless the view's own query names families.
        k: how many components.
        seed: seeds starts, halves and null.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays `explained_variance_ratio` (what the error would grow by without the component, as a share of the mean
        square), `agreement` (over five random starts), `stability` (between two halves of the members), `null` (of
        columns permuted by themselves), `null_mean`, `null_max`, `reconstruction_error`, `split_by_sign`, `directions`
        and `scores`.

    Raises:
        InputError: no row, or fewer rows than components.
        NumbersError: a value is not finite.

    Example:
        >>> nmf_by_layer(store.view(layers="1-2"), k=2).values("directions").shape  # (hook, component, d_model)
        (2, 2, 33)
    """
    seed = check_seed(seed)
    rows = chosen_rows(view, families)
    parameters = {"site": view.site, "layers": view.layers, "where": rows.where, "seed": seed, "k": k, "n_null": N_NULL}
    parameters |= {"weights": view.store.weights} | ({"n_heads": view.n_heads} if view.n_heads > 1 else {})

    def unit(hook: Hook) -> Named:
        return _factors(view.store.load(hook, rows.chosen), rows, k, seed)

    arrays = stacked(over(view.hooks, unit, Analysis("nmf", parameters, view.source), loop))
    dataset = on_sites(view.hooks, view.site, arrays, row_counts(rows))
    return LayerResult("nmf", dataset, parameters, view.store.fingerprint, rows.table, PER_COMPONENT)


def _factors(x: Float[Tensor, "row d"], rows: Rows, k: int, seed: int) -> Named:
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(x), MOST_ROWS, replace=False)) if len(x) > MOST_ROWS else np.arange(len(x))
    fitted, units = x[torch.from_numpy(drawn)], rows.units[drawn]
    if not fitted.any():
        raise InputError("all activations are 0; there is nothing to factorise")
    result = nmf(fitted, k=k, seed=seed)
    found = result.decomposition
    null = _null(fitted, k, rng)
    return {
        "explained_variance_ratio": (("component",), found.explained_variance_ratio),
        "agreement": (("component",), result.agreement),
        "stability": (("component",), _stability(fitted, units, k, seed)),
        "null": (("permutation", "component"), null),
        "null_mean": (("component",), null.mean(axis=0)),
        "null_max": (("component",), null.max(axis=0)),
        "reconstruction_error": ((), np.array(found.reconstruction_error)),
        "split_by_sign": ((), np.array(result.split_by_sign)),
        "directions": (("component", "d"), found.directions.numpy()),
        "scores": (("row", "component"), found.scores(x).numpy()),
    }


def _stability(x: Float[Tensor, "row d"], units: Int[np.ndarray, " row"], k: int, seed: int) -> Float[np.ndarray, " k"]:
    """Each component's cosine with its match between two halves of the units; nan if a half is too small."""
    labels = np.random.default_rng(seed).permutation(np.unique(units))
    half = np.isin(units, labels[: len(labels) // 2])
    if min(half.sum(), (~half).sum()) < k:
        return np.full(k, np.nan)
    parts = (nmf(x[torch.from_numpy(side)], k=k, n_runs=1, seed=seed) for side in (half, ~half))
    return matched_cosines(*(part.decomposition.directions.numpy() for part in parts))


def _null(x: Float[Tensor, "row d"], k: int, rng: np.random.Generator) -> Float[np.ndarray, "permutation component"]:
    """The same shares where every column is permuted by itself."""
    columns = x.numpy()
    shuffled = [torch.from_numpy(rng.permuted(columns, axis=0)) for _ in range(N_NULL)]
    return np.stack([nmf(one, k=k, n_runs=1).decomposition.explained_variance_ratio for one in shuffled])
