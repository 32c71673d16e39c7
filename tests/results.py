"""Results put together by hand, for pictures and summaries that only read them."""

import pandas as pd

from geometry.results.dataset import from_lines, on_sites
from geometry.results.result import LayerResult


def of_table(name, hooks, table, axes=(), *, arrays=None, parameters=None, source="f", **rest):
    """A result with the lines of a table, which are told apart by `layer` and the axes; `n_rows` is 1 if not given."""
    table = pd.DataFrame(table)
    layers = {hook.table_layer: hook.name for hook in hooks}
    lines = table.assign(hook=table["layer"].map(layers)).drop(columns=["layer", "site"], errors="ignore")
    lines = lines if "n_rows" in lines else lines.assign(n_rows=1)
    labels = {axis: list(dict.fromkeys(table[axis])) for axis in axes}
    made = from_lines(lines, {"hook": [hook.name for hook in hooks], **labels}) | (arrays or {})
    parameters = {"site": "resid_post", **(parameters or {})}
    dataset = on_sites(hooks, parameters["site"], made, labels=labels)
    return LayerResult(name, dataset, parameters, source, lines=("hook", *axes), **rest)
