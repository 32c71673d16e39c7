"""Cells of a transfer matrix, counted: shares with errors over members, as a table and as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cache import Hook
from cache.families.controls import CONTROL_PREFIX
from cache.store.view import View
from geometry.results.dataset import Named, from_lines, on_sites
from geometry.results.result import LayerResult
from geometry.stats.ranks import corrected, rank_p
from probes.receivers.batches import mean_over_members, share_over_members

CASE = ["positions", "receiver", "donor"]

Counted = list[tuple[dict[str, object], Float[np.ndarray, "_ 2"]]]
"""Table lines, each with what the donor (first) and its null donors do: success and effect."""


def transfer_lines(cells: pd.DataFrame, hook: Hook) -> Counted:
    """One line a position set, receiver and donor that have an edit at a site.

    Args:
        cells: one line an edit: positions, receiver, donor, draw (-1, or the number of a null donor in its place),
            context, index, target, success, unchanged, right, effect, with_null (whether null donors were tried on its
            prompt).
        hook: the site.
    """
    found: Counted = []
    for (positions, receiver, donor), mine in cells.groupby(CASE, sort=False):
        line = {"hook": hook.name, "positions": positions, "receiver": receiver, "donor": donor}
        line["donor_kind"] = donor_kind(str(receiver), str(donor))
        null = mine[mine["with_null"]].groupby("draw")[["success", "effect"]].mean().to_numpy(np.float64)
        found.append((line | _counted(mine[mine["draw"] < 0]) | _set_against(null), null))
    return found


def transfer_table(counted: Counted) -> pd.DataFrame:
    """The lines of all sites, with `p_layers` and `q`.

    Columns of the null: `null_mean` and `null_max` of its donors' success, `p` (success, then effect), `p_layers` (the
    effect, over layers) and `q` (Benjamini-Hochberg over positions, receivers and other families that are donors).
    """
    table = pd.DataFrame([line for line, _ in counted])
    effects = stacked([null for _, null in counted])[..., 1]
    found = corrected(table, effects, CASE, (table["donor_kind"] == "family").to_numpy())
    return table.assign(p_layers=found["p_layers"], q=found["q"])


def strongest(table: pd.DataFrame, columns: Sequence[str], *, falling: bool = False) -> pd.DataFrame:
    """One line a position set, receiver and donor that is no control: the layer where it stands out most.

    Args:
        table: of transfers or erasures.
        columns: the measured value, and what is shown beside it.
        falling: whether small values stand out.
    """

    def in_order(labels: pd.Series) -> pd.Series:
        return labels.map(list(dict.fromkeys(table[str(labels.name)])).index)

    mine = table[table["donor_kind"] != "control"].copy()
    mine["order"] = mine[columns[0]] if falling else -mine[columns[0]]
    mine = mine.sort_values(["p_layers", "p", "order"], kind="stable").drop_duplicates(CASE).sort_index()
    return mine.sort_values(CASE, kind="stable", key=in_order)[[*CASE, "layer", *columns]].reset_index(drop=True)


def stacked(nulls: Sequence[Float[np.ndarray, "_ 2"]]) -> Float[np.ndarray, "line draw 2"]:
    """What null donors do, line by line; nan where a line has fewer than another."""
    found = np.full((len(nulls), max(map(len, nulls)), 2), np.nan)
    for line, one in zip(found, nulls, strict=True):
        line[: len(one)] = one
    return found


def donor_kind(receiver: str, donor: str) -> str:
    """What a donor is to a receiver: `own`, another `family`, or a `control`."""
    if donor == receiver:
        return "own"
    return "control" if donor.startswith(CONTROL_PREFIX) else "family"


def matrix_result(
    name: str, table: pd.DataFrame, view: View, parameters: Mapping[str, Any], beside: Named | None = None
) -> LayerResult:
    """The lines of all sites as a result over (hook, positions, receiver, donor).

    Args:
        name: the experiment.
        table: one line a cell.
        view: the sites.
        parameters: those of `cast_parameters` among them, which are the axes' labels.
        beside: further values of each line, as `from_lines` takes them.
    """
    labels = {axis: parameters[named] for axis, named in zip(CASE, ("positions", "receivers", "donors"), strict=True)}
    arrays = from_lines(table, {"hook": [hook.name for hook in view.hooks], **labels}, beside)
    dataset = on_sites(view.hooks, view.site, arrays, labels=labels)
    return LayerResult(name, dataset, parameters, view.store.fingerprint, lines=("hook", *CASE))


def _set_against(scores: Float[np.ndarray, "draw 2"]) -> dict[str, float]:
    """What null donors do, and p; the donor itself stands first."""
    null = scores[1:, 0] if len(scores) > 1 else np.array([np.nan])
    floor = 1 / len(scores) if len(scores) > 1 else np.nan
    return {"null_mean": float(null.mean()), "null_max": float(null.max()), "p": rank_p(scores), "p_floor": floor}


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
