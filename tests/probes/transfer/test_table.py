"""A transfer table counts its cells."""

import numpy as np
import pandas as pd
import pytest

from cache import Hook
from geometry.results.dataset import from_lines
from geometry.stats.uncertainty import adjusted
from probes.transfer.table import CASE, donor_kind, strongest, transfer_lines, transfer_table

HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 3))
AXES = dict(zip(CASE, (["last"], ["a", "b"], ["b", "a", "control:0"]), strict=True))
LAYER = {hook.name: hook.table_layer for hook in HOOKS}


@pytest.fixture
def cells():
    """Six members; own edits succeed but from member 0, the other donor never; pair (b, b) has no edit."""
    lines = []
    for hook in (0, 1):
        for receiver, donor in (("a", "control:0"), ("a", "a"), ("a", "b"), ("b", "a")):
            for i in range(6):
                for j in range(6):
                    if i != j:
                        line = {"hook": hook, "positions": "last", "receiver": receiver, "donor": donor}
                        line |= {"context": f"f|{j % 2}", "index": i, "target": j, "right": i < 3, "draw": -1}
                        line |= {"with_null": j % 2 == 0}
                        line |= {"success": donor == receiver and i > 0, "unchanged": i == 0, "effect": float(i)}
                        lines.append(line)
    return pd.DataFrame(lines)


def counted(cells):
    """The table of cells at both hooks, site by site."""
    by_hook = [transfer_lines(cells[cells["hook"] == number], hook) for number, hook in enumerate(HOOKS)]
    table = transfer_table([line for lines in by_hook for line in lines])
    return table.assign(layer=table["hook"].map(LAYER))


def test_shares_errors_and_counts(cells):
    table = counted(cells)
    assert table["layer"].tolist() == [-1] * 4 + [3] * 4
    assert table["donor"].tolist() == ["control:0", "a", "b", "a"] * 2
    assert table["donor_kind"].tolist() == ["control", "own", "family", "family"] * 2
    own = table.iloc[1]
    assert own["success"] == pytest.approx(5 / 6)
    assert own["success_when_right"] == pytest.approx(2 / 3)
    assert (own["unchanged"], own["effect"]) == (pytest.approx(1 / 6), pytest.approx(2.5))
    assert (own["n_members"], own["n_templates"], own["n_rows"], own["n_right"]) == (6, 2, 30, 15)
    # without member 0 all succeed; without another one 4 of 5 do
    left = np.array([1, *[0.8] * 5])
    assert own["se"] == pytest.approx(np.sqrt(5 / 6 * ((left - left.mean()) ** 2).sum()))


def test_arrays_have_a_place_for_every_pair(cells):
    table = counted(cells)
    arrays = from_lines(table, {"hook": list(LAYER), **AXES})
    axes, success = arrays["success"]
    assert axes == ("hook", "positions", "receiver", "donor")
    np.testing.assert_allclose(success[1, 0], [[0, 5 / 6, 0], [np.nan, 0, np.nan]])


def test_kinds_of_donors():
    kinds = [donor_kind("a", donor) for donor in ("a", "b", "control:3")]
    assert kinds == ["own", "family", "control"]


@pytest.fixture
def with_null(cells):
    """99 null donors of the family pairs at both hooks: no success, effects below that of (a, b) at hook 1 alone."""
    tried = cells[cells["with_null"] & (cells["donor"] != "control:0") & (cells["receiver"] != cells["donor"])]
    drawn = [
        tried.assign(draw=draw, success=False, effect=np.random.default_rng(draw).normal(size=len(tried)) + 2.5)
        for draw in range(99)
    ]
    cells.loc[(cells["hook"] == 1) & (cells["receiver"] == "a") & (cells["donor"] == "b"), "effect"] = 9.0
    return pd.concat([cells, *drawn], ignore_index=True)


def test_null_donors_count_where_they_were_tried_and_nowhere_else(cells, with_null):
    plain, table = counted(cells), counted(with_null)
    shared = ["success", "se", "ci_low", "unchanged", "effect", "n_rows", "n_members"]
    at = plain.index[~((plain["layer"] == 3) & (plain["donor"] == "b"))]
    pd.testing.assert_frame_equal(plain.loc[at, shared], table.loc[at, shared])
    assert plain[["p", "p_floor", "p_layers", "q"]].isna().all(axis=None)
    lines = table.set_index(["layer", "receiver", "donor"])
    far, tie = lines.loc[(3, "a", "b")], lines.loc[(-1, "a", "b")]
    assert (far["p"], far["p_layers"], far["p_floor"]) == (0.01, 0.01, 0.01)
    assert (far["null_mean"], far["null_max"]) == (0, 0)
    own = cells[(cells["hook"] == 0) & (cells["donor"] == "b") & cells["with_null"]]["effect"].mean()
    null = with_null[(with_null["hook"] == 0) & (with_null["donor"] == "b") & (with_null["draw"] >= 0)]
    assert tie["p"] == pytest.approx((1 + (null.groupby("draw")["effect"].mean() >= own).sum()) / 100)
    smallest = [lines.loc[[(-1, *pair), (3, *pair)], "p_layers"].min() for pair in (("a", "b"), ("b", "a"))]
    assert far["q"] == pytest.approx(adjusted(smallest)[0])
    assert lines.xs("control:0", level="donor")["q"].isna().all()


def test_each_pair_is_shown_where_it_stands_out_most(with_null):
    found = strongest(counted(with_null), ["success", "p"])
    assert found[["receiver", "donor"]].to_numpy().tolist() == [["a", "a"], ["a", "b"], ["b", "a"]]
    assert found["layer"].iloc[1] == 3
    assert found["p"].iloc[1] == 0.01
