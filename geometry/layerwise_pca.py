"""PCA of the same rows at every layer, with its standard errors and its null."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from cache import ActivationStore, Hook
from geometry.decompose import pca, spectrum
from geometry.evidence import explained_variance_null, jackknife_se
from geometry.layerwise import LayerResult, Named, per_layer, site_hooks

N_PERMUTATIONS = 20


def pca_by_layer(
    store: ActivationStore,
    site: str = "resid_post",
    *,
    layers: str = "all",
    where: str | None = None,
    k: int = 5,
    seed: int = 0,
    on_hook: Callable[[Hook], None] = lambda hook: None,
) -> LayerResult:
    """Principal components of one site, fitted at each layer by itself.

    Args:
        store: the store.
        site: the kind of site; `resid_post` begins with the embedding, layer -1.
        layers: `all`, or a list of layers and ranges.
        where: a query over `store.rows`; None for the rows of `default_rows`. BOS is left out either way.
        k: how many components.
        seed: seeds the permutations of the null.
        on_hook: called after every layer.

    Returns:
        Arrays `explained_variance_ratio`, `explained_variance`, `se` (jackknife over members), `null`
        (20 column permutations), `directions` and `scores`.

    Raises:
        InputError: no such site, layer or row, or fewer rows than components.
    """
    where = f"({where}) and position >= 0" if where else default_rows(store)
    hooks = site_hooks(store, site, layers)
    rows = store.select(where)
    members = unit_of_rows(store, rows)

    def analysis(x: Float[Tensor, "row d"]) -> Named:
        if len(x) > k and (x == x[0]).all():
            return _nothing(x, k)
        result = pca(x, k=k)
        return {
            "explained_variance_ratio": (("component",), result.explained_variance_ratio),
            "explained_variance": (("component",), result.explained_variance),
            "se": (("component",), jackknife_se(x, members, lambda rows: _ratios(rows, k))),
            "null": (
                ("permutation", "component"),
                explained_variance_null(x, k=k, n_permutations=N_PERMUTATIONS, seed=seed),
            ),
            "directions": (("component", "d"), result.directions.numpy()),
            "scores": (("row", "component"), result.scores(x).numpy()),
        }

    arrays = per_layer(store, analysis, hooks, where, on_hook=on_hook)
    counts = {"n_members": len(set(members)), "n_templates": rows["template"].nunique(), "n_rows": len(rows)}
    return LayerResult(
        name="pca",
        hooks=hooks,
        arrays=arrays,
        rows=rows.assign(unit=members, shown=_last_shown(store, rows)),
        parameters={
            "site": site,
            "layers": layers,
            "where": where,
            "k": k,
            "seed": seed,
            "n_permutations": N_PERMUTATIONS,
        },
        source=store.fingerprint,
        table=_table(site, hooks, arrays, counts),
    )


def default_rows(store: ActivationStore) -> str:
    """The rows analysed unless others are asked for: shown members, or last tokens where none are shown.

    A member that begins its text is left out: like BOS, though less, a first token draws attention and
    grows to many times the norm of the others.
    """
    members = "member >= 0 and position > 0"
    return members if len(store.select(members)) else "is_last"


def unit_of_rows(store: ActivationStore, rows: pd.DataFrame) -> list[int]:
    """The member that each row counts under: the shown member it is, else the last one its prompt shows.

    Rows of a prompt that shows no member count under the prompt, as numbers from -1 down.
    """
    last = [values[-1] if values else -1 - i for i, values in enumerate(store.prompts["values"])]
    return [
        int(value) if member >= 0 else int(last[prompt])
        for value, member, prompt in zip(rows["value"], rows["member"], rows["prompt"], strict=True)
    ]


def _last_shown(store: ActivationStore, rows: pd.DataFrame) -> list[str]:
    """The member that each row shows, or the last one that its prompt has shown."""
    last = [members[-1] if members else "" for members in store.prompts["members"]]
    return [shown or last[prompt] for shown, prompt in zip(rows["shown"], rows["prompt"], strict=True)]


def _ratios(x: Float[Tensor, "row d"], k: int) -> Float[np.ndarray, " component"]:
    """The k largest shares of variance; 0 where rows or dimensions are too few, or all rows equal."""
    variances = spectrum(x.double() - x.double().mean(dim=0))
    ratios = np.zeros(k)
    ratios[: len(variances[:k])] = variances[:k] / (variances.sum() or 1.0)
    return ratios


def _nothing(x: Float[Tensor, "row d"], k: int) -> Named:
    """The arrays of rows that are all equal, as the embedding of one and the same token: no variance to share."""
    missing = np.full(k, np.nan)
    return {
        "explained_variance_ratio": (("component",), missing),
        "explained_variance": (("component",), np.zeros(k)),
        "se": (("component",), missing),
        "null": (("permutation", "component"), np.full((N_PERMUTATIONS, k), np.nan)),
        "directions": (("component", "d"), np.full((k, x.shape[1]), np.nan, dtype=np.float32)),
        "scores": (("row", "component"), np.zeros((len(x), k), dtype=np.float32)),
    }


def _table(site: str, hooks: tuple[Hook, ...], arrays: Named, counts: dict[str, int]) -> pd.DataFrame:
    null = arrays["null"][1]
    columns = {name: arrays[name][1] for name in ("explained_variance", "explained_variance_ratio", "se")}
    columns |= {"null_mean": null.mean(axis=1), "null_max": null.max(axis=1)}
    lines = [
        {"layer": hook.table_layer, "site": site, "hook": hook.name, "component": component}
        | {name: values[i, component] for name, values in columns.items()}
        | counts
        for i, hook in enumerate(hooks)
        for component in range(columns["se"].shape[1])
    ]
    return pd.DataFrame(lines)
