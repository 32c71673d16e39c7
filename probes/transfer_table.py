"""Cells of a transfer matrix, counted: shares with errors over members, as a table and as arrays."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from cache import Hook
from geometry.cells import CONTROL_PREFIX
from probes.receiver_prompts import mean_over_members, share_over_members

Axes = tuple[Sequence[str], Sequence[str], Sequence[str]]
MEASURED = ("success", "se", "success_when_right", "unchanged", "effect", "effect_se", "n_members")


def transfer_table(cells: pd.DataFrame, hooks: Sequence[Hook], axes: Axes) -> pd.DataFrame:
    """One line a layer, position set, receiver and donor that have an edit, in the axes' order.

    Args:
        cells: one line an edit: hook (its number), positions, receiver, donor, context, index, target, success,
            unchanged, right, effect.
        hooks: the sites.
        axes: position sets, receivers and donors.
    """
    keys = ["hook", "positions", "receiver", "donor"]
    groups = dict(iter(cells.groupby(keys, sort=False)))
    lines = []
    for number, positions, receiver, donor in product(range(len(hooks)), *axes):
        if (number, positions, receiver, donor) in groups:
            hook = hooks[number]
            line = {"layer": hook.table_layer, "site": hook.kind, "hook": hook.name, "positions": positions}
            line |= {"receiver": receiver, "donor": donor, "donor_kind": donor_kind(receiver, donor)}
            lines.append(line | _counted(groups[number, positions, receiver, donor]))
    return pd.DataFrame(lines)


def donor_kind(receiver: str, donor: str) -> str:
    """What a donor is to a receiver: `own`, another `family`, a `control`, or `random`."""
    if donor == receiver:
        return "own"
    return "random" if donor == "random" else "control" if donor.startswith(CONTROL_PREFIX) else "family"


def transfer_arrays(
    table: pd.DataFrame, hooks: Sequence[Hook], axes: Axes, names: Sequence[str] = MEASURED
) -> dict[str, tuple[tuple[str, ...], Shaped[np.ndarray, "..."]]]:
    """Columns of a table of pairs, over (hook, positions, receiver, donor); nan where a pair has no edit."""
    labels = pd.MultiIndex.from_product([[hook.name for hook in hooks], *axes])
    indexed = table.set_index(["hook", "positions", "receiver", "donor"])[list(names)].reindex(labels)
    shape = (len(hooks), *(len(axis) for axis in axes))
    over = ("hook", "positions", "receiver", "donor")
    return {name: (over, indexed[name].to_numpy(dtype=np.float64).reshape(shape)) for name in names}


def _counted(cells: pd.DataFrame) -> dict[str, object]:
    members = cells[["index", "target"]].to_numpy()
    right = cells["right"].to_numpy()
    success = cells["success"].to_numpy(dtype=bool)
    share, se, ci_low, ci_high = share_over_members(success, members)
    effect, effect_se, n_members = mean_over_members(cells["effect"].to_numpy(), members)
    return {
        "success": share,
        "se": se,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "success_when_right": float(success[right].mean()) if right.any() else np.nan,
        "unchanged": float(cells["unchanged"].mean()),
        "effect": effect,
        "effect_se": effect_se,
        "n_members": n_members,
        "n_templates": int(cells["context"].nunique()),
        "n_rows": len(cells),
        "n_right": int(right.sum()),
    }
