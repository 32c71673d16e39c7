"""What a comparison of families comes to, pair by pair, in words."""

import numpy as np
import pandas as pd

from geometry.between_table import DESCRIBES
from geometry.layerwise import LayerResult


def summary(result: LayerResult, *, measure: str | None = None) -> pd.DataFrame:
    """One line a pair: where its index code is shared, the highest value with its company, and the verdict.

    Args:
        result: of `between_pairs`.
        measure: the deciding measure to go by; None for the first one that the result has.

    Returns:
        Columns `a, b, measure, verdict, shared_from, layer, value, se, p_layers, q, control_max, control_limit,
        readout_removed, n_members, n_templates`: `layer` is that of the highest value, `shared_from` the first layer
        from which on all are shared (nan if none). Empty if the result has no deciding measure.
    """
    deciding = result.table[result.table["verdict"] != DESCRIBES]
    name = measure or (deciding["measure"].iloc[0] if len(deciding) else None)
    lines = []
    for (a, b), mine in deciding[deciding["measure"] == name].groupby(["a", "b"], sort=False):
        plain = mine[mine["variant"] == "plain"]
        removed = mine[mine["variant"] != "plain"].set_index("layer")["value"]
        defined = plain["value"].notna().any()
        best = plain.iloc[int(plain["value"].fillna(-np.inf).argmax()) if defined else -1]
        columns = (
            "measure",
            "layer",
            "value",
            "se",
            "p_layers",
            "q",
            "control_max",
            "control_limit",
            "n_members",
            "n_templates",
        )
        line = {"a": a, "b": b, "verdict": _words(plain, best), "shared_from": _shared_from(plain)}
        line |= {column: best[column] for column in columns}
        line["readout_removed"] = removed.get(best["layer"], float("nan"))
        lines.append(line)
    order = ["a", "b", "measure", "verdict", "shared_from", "layer", "value", "se", "p_layers", "q", "control_max"]
    return pd.DataFrame(lines, columns=[*order, "control_limit", "readout_removed", "n_members", "n_templates"])


def _shared_from(plain: pd.DataFrame) -> float:
    """The first layer from which on every layer is called shared."""
    layers = []
    for layer, word in zip(plain["layer"][::-1], plain["verdict"][::-1], strict=True):
        if word != "shared":
            break
        layers.append(layer)
    return float(layers[-1]) if layers else float("nan")


def _words(plain: pd.DataFrame, best: pd.Series) -> str:
    """The verdict over layers: `shared` if any layer is, else `private` if any is, else that of the highest value."""
    if (plain["verdict"] == "shared").any():
        return "shared"
    return "private" if (plain["verdict"] == "private").any() else str(best["verdict"])
