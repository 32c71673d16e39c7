"""A transfer table counts its cells."""

import numpy as np
import pandas as pd
import pytest

from cache import Hook
from probes.transfer_table import donor_kind, transfer_arrays, transfer_table

HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 3))
AXES = (["last"], ["a", "b"], ["b", "a", "random"])


@pytest.fixture
def cells():
    """Six members; own edits succeed but from member 0, the other donor never; pair (b, b) has no edit."""
    lines = []
    for hook in (0, 1):
        for receiver, donor in (("a", "random"), ("a", "a"), ("a", "b"), ("b", "a")):
            for i in range(6):
                for j in range(6):
                    if i != j:
                        line = {"hook": hook, "positions": "last", "receiver": receiver, "donor": donor}
                        line |= {"context": f"f|{j % 2}", "index": i, "target": j, "right": i < 3}
                        line |= {"success": donor == receiver and i > 0, "unchanged": i == 0, "effect": float(i)}
                        lines.append(line)
    return pd.DataFrame(lines)


def test_shares_errors_and_counts(cells):
    table = transfer_table(cells, HOOKS, AXES)
    assert table["layer"].tolist() == [-1] * 4 + [3] * 4
    assert table["donor"].tolist() == ["b", "a", "random", "a"] * 2
    assert table["donor_kind"].tolist() == ["family", "own", "random", "family"] * 2
    own = table.iloc[1]
    assert own["success"] == pytest.approx(5 / 6)
    assert own["success_when_right"] == pytest.approx(2 / 3)
    assert (own["unchanged"], own["effect"]) == (pytest.approx(1 / 6), pytest.approx(2.5))
    assert (own["n_members"], own["n_templates"], own["n_rows"], own["n_right"]) == (6, 2, 30, 15)
    # without member 0 all succeed; without another one 4 of 5 do
    left = np.array([1, *[0.8] * 5])
    assert own["se"] == pytest.approx(np.sqrt(5 / 6 * ((left - left.mean()) ** 2).sum()))


def test_arrays_have_a_place_for_every_pair(cells):
    table = transfer_table(cells, HOOKS, AXES)
    arrays = transfer_arrays(table, HOOKS, AXES)
    axes, success = arrays["success"]
    assert axes == ("hook", "positions", "receiver", "donor")
    np.testing.assert_allclose(success[1, 0], [[0, 5 / 6, 0], [np.nan, 0, np.nan]])


def test_kinds_of_donors():
    kinds = [donor_kind("a", donor) for donor in ("a", "b", "control:3", "random")]
    assert kinds == ["own", "family", "control", "random"]
