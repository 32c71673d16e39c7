"""What is left after erasures, counted: shares with their limits, p values of donors, and which are necessary."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from geometry.stats.ranks import corrected, rank_p
from geometry.stats.uncertainty import LEAST_MEMBERS
from probes.receivers.batches import mean_over_members, share_over_members
from probes.transfer.table import CASE, donor_kind

NECESSARY = 0.05

OWN, UNRELATED, WITHIN = "own", "unrelated", "within"
"""Subspaces: a donor's, one of an unrelated donor like it, and one of what varies within members."""

Removed = Sequence[tuple[str, str, int]]
"""What each copy of a receiver's prompts had removed: the kind of subspace, its donor (or none), and its rank."""


def erasure_lines(
    cells: pd.DataFrame, receiver: str, removed: Removed
) -> list[tuple[dict[str, object], Float[np.ndarray, "draw 2"]]]:
    """For each donor a table line, and what unrelated donors like it leave: the share, and the gap's change.

    Args:
        cells: one line a prompt and copy: copy (its number in `removed`, -1 for no edit), context, index, hit, right
            (unedited), gap (its change).
        receiver: the family whose prompts they are.
        removed: what the copies had removed.
    """
    means = cells.groupby("copy")[["hit", "gap"]].mean()
    found = []
    for number, (kind, donor, rank) in enumerate(removed):
        if kind != OWN:
            continue
        null, within = (
            means.loc[[i for i, one in enumerate(removed) if one == beside]].to_numpy(np.float64).reshape(-1, 2)
            for beside in ((UNRELATED, donor, rank), (WITHIN, "", rank))
        )
        label = {"receiver": receiver, "donor": donor, "donor_kind": donor_kind(receiver, donor), "rank": rank}
        unedited = float(cells.loc[cells["copy"] == -1, "hit"].mean())
        found.append((label | _counted(cells[cells["copy"] == number], unedited, null, within), null))
    return found


def with_decisions(table: pd.DataFrame, nulls: Float[np.ndarray, "line draw 2"]) -> pd.DataFrame:
    """The table with `p_layers`, `q` and `necessary`.

    `p_layers`: the change of the logit gap is lower than in the null's draws at any layer (`rank_p_over_layers`). `q`:
    over all (positions, receiver, donor) whose donor is no control (`corrected`). `necessary` is `yes` where q is at
    most .05 and less accuracy is left than in the 5 % quantile of either null and than after any control donor's
    removal.

    Args:
        table: the lines of `erasure_lines` with hook and positions, in any order.
        nulls: what unrelated donors leave, line by line.
    """
    own = np.concatenate([table["logit_gap"].to_numpy()[:, None], nulls[..., 1]], axis=1)
    found = corrected(table, -own, CASE, (table["donor_kind"] != "control").to_numpy())
    table = table.assign(p_layers=found["p_layers"], q=found["q"])
    controls = table[table["donor_kind"] == "control"].groupby(["hook", "positions", "receiver"])["left"].min()
    places = pd.MultiIndex.from_frame(table[["hook", "positions", "receiver"]])
    table = table.assign(controls_min=controls.reindex(places).to_numpy(dtype=np.float64))
    n_tested = int(table.loc[found["q"].notna().to_numpy(), CASE].drop_duplicates().shape[0])
    return table.assign(necessary=[_necessary(line, n_tested) for _, line in table.iterrows()])


def _counted(
    cells: pd.DataFrame, unedited: float, null: Float[np.ndarray, "draw 2"], within: Float[np.ndarray, "inner 2"]
) -> dict[str, object]:
    members = cells[["index"]].to_numpy()
    hit, right = cells["hit"].to_numpy(dtype=bool), cells["right"].to_numpy(dtype=bool)
    share, se, ci_low, ci_high = share_over_members(hit, members)
    gap, gap_se, n_members = mean_over_members(cells["gap"].to_numpy(), members)
    shares, inside = (one[:, 0] if len(one) else np.array([math.nan]) for one in (null, within))
    return {
        "left": share,
        "se": se,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "unedited": unedited,
        "left_when_right": float(hit[right].mean()) if right.any() else math.nan,
        "logit_gap": gap,
        "logit_gap_se": gap_se,
        "null_mean": float(shares.mean()),
        "null_low": float(np.quantile(shares, 0.05)),
        "null_min": float(shares.min()),
        "within_mean": float(inside.mean()),
        "within_low": float(np.quantile(inside, 0.05)),
        "p": rank_p(-np.vstack([[share, gap], null])),
        "p_floor": 1 / (1 + len(null)) if len(null) else math.nan,
        "n_members": n_members,
        "n_templates": int(cells["context"].nunique()),
        "n_rows": len(cells),
        "n_right": int(right.sum()),
    }


def _necessary(line: pd.Series, n_tested: int) -> str:
    """Yes, no, or undecided with the reason and what would decide it."""
    if line["donor_kind"] == "control":
        return "control"
    if line["n_members"] < LEAST_MEMBERS:
        return f"undecided (n members = {line['n_members']})"
    if math.isnan(line["q"]):
        return "undecided (no null: record 10 control families, as control:0-19)"
    if math.isnan(line["controls_min"]):
        return "undecided (no control donor)"
    if line["left"] >= min(line["null_low"], line["within_low"], line["controls_min"]):
        return "no"
    if line["q"] <= NECESSARY:
        return "yes"
    if line["p_layers"] > line["p_floor"] + 1e-12:
        return "no"
    enough = math.ceil(n_tested / NECESSARY) - 1
    return f"undecided (q = {line['q']:.2g} at the floor of p: {enough:,} unrelated subspaces decide it)"
