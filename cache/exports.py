"""A store's activations in other libraries' types, with the labels of their rows: pandas, xarray, AnnData.

Labels have the names that `ActivationStore.from_arrays` reads, so that what was written comes back.
"""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from cache.errors import InputError, NotAvailableError
from cache.models.hooks import Hook
from cache.prompts.prompt import OWN
from cache.store.elsewhere import OF_A_ROW
from cache.store.view import OF_PROMPTS, View, check_view

_ALL = OF_PROMPTS["all"]
_NOT_LABELS = ("member", "value", "shown", "pair_key", "kind", "distractor")


def to_pandas(view: View) -> pd.DataFrame:
    """A view's rows as a data frame: their labels under `rows`, and each site's dimensions under its name.

    Args:
        view: the sites and rows; all rows but BOS where it asks for none.

    Returns:
        Columns of two levels, such as `("rows", "family")` and `("blocks.3.hook_resid_post", 0)`; `frame["rows"]` is
        the table of labels. The index is that of `store.rows`.

    Raises:
        InputError: no row is chosen.

    Example:
        >>> frame = to_pandas(store.view(layers=1, where="is_last and family == 'digits'"))
        >>> frame["blocks.1.hook_resid_post"].shape, frame["rows"]["member"].tolist()[:3]
        ((30, 33), ['3', '3', '3'])
    """
    labels = row_labels(view)
    sites = {hook.name: pd.DataFrame(x, index=labels.index) for hook, x in _activations(view).items()}
    return pd.concat({"rows": labels, **sites}, axis=1)


def to_xarray(view: View) -> xr.DataArray:
    """A view's activations as one array over (hook, row, dimension), with labels as coordinates.

    Args:
        view: the sites, of one width, and rows; all rows but BOS where it asks for none.

    Returns:
        float32; `hook` has the coordinate `layer` (-1 for the embedding), `row` the labels of rows.

    Raises:
        InputError: no row is chosen.

    Example:
        >>> array = to_xarray(store.view(layers="0,1", where="is_last"))
        >>> array.dims, array.sel(hook="blocks.1.hook_resid_post").groupby("family").mean().shape
        (('hook', 'row', 'dimension'), (3, 33))
    """
    labels = row_labels(view)
    values = np.stack([*_activations(view).values()])
    coordinates = {name: ("row", column.to_numpy()) for name, column in labels.items()}
    coordinates["layer"] = ("hook", np.array([hook.table_layer for hook in view.hooks]))
    return xr.DataArray(
        values,
        dims=("hook", "row", "dimension"),
        coords={"hook": [hook.name for hook in view.hooks], "row": labels.index.to_numpy(), **coordinates},
        name=view.site,
        attrs={"fingerprint": view.store.fingerprint, "model": str(view.store.manifest["soft"].get("model", ""))},
    )


def to_anndata(view: View) -> Any:
    """A view's activations as an AnnData object: rows are observations, dimensions variables, sites layers.

    Args:
        view: the sites, of one width, and rows; all rows but BOS where it asks for none.

    Returns:
        An `anndata.AnnData`: `layers[hook name]` for every site, `X` the last of them, `obs` the labels of rows, texts
        as categories, and `uns["fingerprint"]`, `uns["model"]` and `uns["layer"]`, the layer that each site is of.

    Raises:
        InputError: no row is chosen.
        NotAvailableError: the package anndata is not there.

    Example:
        >>> found = to_anndata(store.view(layers="1,2", where="is_last"))
        >>> found.shape, list(found.layers), found.obs["family"].cat.categories.tolist()
        ((105, 33), ['blocks.1.hook_resid_post', 'blocks.2.hook_resid_post'], ['digits', 'months', 'numwords'])
    """
    try:
        import anndata
    except ImportError as error:
        raise NotAvailableError(
            "to_anndata needs the package anndata: pip install 'representation-geometry[anndata]'"
        ) from error
    labels = row_labels(view)
    texts = labels.select_dtypes(exclude=["number", "bool"]).columns
    labels = labels.astype(dict.fromkeys(texts, "category")).set_axis(labels.index.astype(str))
    values = {hook.name: x for hook, x in _activations(view).items()}
    width = next(iter(values.values())).shape[1]
    return anndata.AnnData(
        X=values[view.hooks[-1].name].copy(),
        obs=labels,
        var=pd.DataFrame(index=pd.Index([str(i) for i in range(width)], name="dimension")),
        layers=values,
        uns={
            "fingerprint": view.store.fingerprint,
            "model": str(view.store.manifest["soft"].get("model", "")),
            "layer": {hook.name: hook.table_layer for hook in view.hooks},
        },
    )


def row_labels(view: View) -> pd.DataFrame:
    """The labels of a view's rows, under the names of one's own prompts.

    `member` is the shown member that a row is, else the last that its prompt shows, and `ordinal` its number.

    Raises:
        InputError: no row is chosen.
    """
    check_view(view)
    store = view.store
    rows = store.rows[view.chosen(_ALL)]
    if not len(rows):
        raise InputError(f"no row fits {view.noted(_ALL)!r}")
    prompts, number = store.prompts, rows["prompt"].to_numpy()
    last = [(v[-1], m[-1]) if v else (-1, "") for v, m in zip(prompts["values"], prompts["members"], strict=True)]
    shown = rows["member"] >= 0
    found = rows[[*OF_A_ROW]].assign(
        text=prompts["text"].to_numpy()[number],
        member=rows["shown"].where(shown, [last[i][1] for i in number]),
        ordinal=rows["value"].where(shown, [last[i][0] for i in number]),
    )
    further = rows.drop(columns=[name for name in (*OF_A_ROW, *_NOT_LABELS) if name in rows])
    kinds = rows[["kind"]].rename(columns={"kind": "sequence"}) if rows["kind"].ne(OWN).any() else rows[[]]
    return pd.concat([found, further, kinds], axis=1)


def _activations(view: View) -> dict[Hook, Float[np.ndarray, "row d"]]:
    chosen = view.chosen(_ALL)
    return {hook: view.store.load(hook, chosen).numpy() for hook in view.hooks}
