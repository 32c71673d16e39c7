"""PCA or SVD of the same rows at every layer, with errors, stability and a null; rows are streamed."""

from collections.abc import Sequence
from functools import partial

from cache import Hook
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.bases.principal import pca_of_moments, svd_of_moments
from geometry.layers.components import N_PERMUTATIONS, N_SPLITS, Fit, components
from geometry.results.dataset import PER_COMPONENT, Named, on_sites, stacked
from geometry.results.over import ALONE, Analysis, Loop, over
from geometry.results.result import LayerResult
from geometry.rows.analysed import chosen_rows, row_counts

MANY_ROWS = 8192
"""Of more rows than this the products are so large that several threads pay."""


def pca_by_layer(
    view: View, families: str | Sequence[str] | None = None, *, k: int = 5, seed: int = 0, loop: Loop = ALONE
) -> LayerResult:
    """Principal components of a view's rows, fitted at each site by itself; memory does not depend on how many.

    Args:
        view: the sites and rows; those of `default_rows` where it asks for none.
        families: which; None for all but controls, unless the view's own query names families.
        k: how many components.
        seed: seeds the permutations of the null and the halves of the stability.
        loop: who watches, and where finished sites are kept.

    Returns:
        Arrays `explained_variance_ratio`, `explained_variance`, `se` (jackknife over members), `stability` (overlap of
        the first components of two halves of the members, mean of 10 splits), `null` (20 column permutations),
        `null_mean`, `null_max`, `spectrum`, `participation_ratio`, `largest_row_share`, `largest_dimension_share`,
        `directions`, `mean` and `scores`.

    Raises:
        InputError: no row, or fewer rows than components.
        NumbersError: a value is not finite.

    Example:
        >>> result = pca_by_layer(view, k=2)
        >>> result.values("explained_variance_ratio").shape  # (hook, component)
        (4, 2)
        >>> result.table[["layer", "component", "explained_variance_ratio", "null_max", "stability"]].shape
        (8, 5)
    """
    return _by_layer("pca", pca_of_moments, view, families, k=k, seed=check_seed(seed), loop=loop)


def svd_by_layer(
    view: View, families: str | Sequence[str] | None = None, *, k: int = 5, seed: int = 0, loop: Loop = ALONE
) -> LayerResult:
    """Singular vectors of a view's rows with no mean removed, at each site by itself; else as `pca_by_layer`.

    Example:
        >>> svd_by_layer(view, k=2).values("directions").shape  # (hook, component, d_model)
        (4, 2, 33)
    """
    return _by_layer("svd", svd_of_moments, view, families, k=k, seed=check_seed(seed), loop=loop)


def _by_layer(
    name: str, fit: Fit, view: View, families: str | Sequence[str] | None, *, k: int, seed: int, loop: Loop
) -> LayerResult:
    rows = chosen_rows(view, families)
    parameters = {"site": view.site, "layers": view.layers, "where": rows.where, "k": k, "seed": seed}
    parameters |= {"weights": view.store.weights} | ({"n_heads": view.n_heads} if view.n_heads > 1 else {})
    parameters |= {"n_permutations": N_PERMUTATIONS, "n_splits": N_SPLITS}

    def unit(hook: Hook) -> Named:
        blocks = partial(view.store.blocks, hook, rows.chosen, n_rows=8192)
        return components(blocks, rows.units, fit, k=k, seed=seed)

    analysis = Analysis(name, parameters, view.source, many_threads=len(rows.units) > MANY_ROWS)
    arrays = stacked(over(view.hooks, unit, analysis, loop))
    null, shares = arrays["null"][1], ("participation_ratio", "largest_row_share", "largest_dimension_share")
    drawn: Named = {"null_mean": (PER_COMPONENT, null.mean(axis=1)), "null_max": (PER_COMPONENT, null.max(axis=1))}
    per_site = {one: arrays[one] for one in shares}
    others = {one: array for one, array in arrays.items() if one not in shares}
    dataset = on_sites(view.hooks, view.site, {**others, **drawn, **per_site}, row_counts(rows))
    return LayerResult(name, dataset, parameters, view.store.fingerprint, rows.table, PER_COMPONENT)
