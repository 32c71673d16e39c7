"""What is left after erasures: counted by hand, and every decision with its reason."""

import numpy as np
import pandas as pd
import pytest

from probes.transfer.erasure_table import OWN, UNRELATED, WITHIN, erasure_lines, with_decisions

REMOVED = [
    *((OWN, "a", 2), (OWN, "b", 1), (UNRELATED, "b", 1), (UNRELATED, "a", 2), (UNRELATED, "a", 2)),
    *((WITHIN, "", 2), (WITHIN, "", 1)),
]


def test_lines_are_set_against_the_nulls_of_their_donor_and_rank():
    hits = {-1: [1, 1, 1], 0: [1, 0, 0], 1: [1, 1, 0], 2: [1, 1, 1], 3: [1, 0, 0], 4: [0, 0, 0]}
    hits |= {5: [1, 1, 0], 6: [1, 1, 1]}
    gaps = {-1: 0.0, 0: -3.0, 1: -2.0, 2: -1.0, 3: -2.0, 4: -9.0, 5: -9.0, 6: 0.0}
    cells = pd.DataFrame(
        [
            {"copy": copy, "context": "f|0", "index": i, "hit": bool(hit), "right": True, "gap": gaps[copy]}
            for copy, row in hits.items()
            for i, hit in enumerate(row)
        ]
    )
    (first, null), (second, other) = erasure_lines(cells, "a", REMOVED)
    assert (first["donor_kind"], first["left"], first["unedited"], first["null_min"]) == ("own", 1 / 3, 1, 0)
    assert first["p"] == 2 / 3  # copy 4 leaves less; copy 3 as much, and moves the gap less
    np.testing.assert_allclose(null, [[1 / 3, -2], [0, -9]])
    assert [one[key] for one in (first, second) for key in ("within_mean", "within_low")] == [2 / 3, 2 / 3, 1, 1]
    assert (second["donor_kind"], second["rank"], second["p"], second["p_floor"]) == ("family", 1, 0.5, 0.5)
    assert len(other) == 1


def line(**changes):
    base = {"hook": "b", "positions": "last", "receiver": "a", "donor": "a", "donor_kind": "own", "left": 0.2}
    base |= {"logit_gap": -9.0, "null_low": 0.8, "within_low": 0.8, "n_members": 7, "p_floor": 0.01}
    return base | changes


CONTROL = line(donor="control:0", donor_kind="control", left=0.9, logit_gap=0.0)


@pytest.mark.parametrize(
    ("changes", "n_null", "verdict"),
    [
        ({}, 99, "yes"),
        ({"left": 0.8}, 99, "no"),  # as much as 19 of 20 of either null's leave
        ({"left": 0.85, "null_low": 0.95, "within_low": 0.95}, 99, "yes"),
        ({"left": 0.85, "null_low": 0.95}, 99, "no"),  # as much as subspaces within members leave
        ({"left": 0.85, "within_low": 0.95}, 99, "no"),
        ({"left": 0.9, "null_low": 0.95, "within_low": 0.95}, 99, "no"),  # as much as a control donor's subspace leaves
        ({"logit_gap": 0.0}, 99, "no"),
        ({"n_members": 4}, 99, "undecided (n members = 4)"),
        ({"p_floor": 0.1}, 9, "undecided (q = 0.1 at the floor of p: 19 unrelated subspaces decide it)"),
        ({}, 0, "undecided (no null: record 10 control families, as control:0-19)"),
    ],
)
def test_each_decision_says_why(changes, n_null, verdict):
    table = pd.DataFrame([line(**changes), CONTROL])
    nulls = np.random.default_rng(0).normal(size=(2, n_null or 1, 2)) * (1.0 if n_null else np.nan)
    found = with_decisions(table, nulls)
    assert found["necessary"].tolist() == [verdict, "control"]
    assert np.isnan(found["q"].iloc[1])
    assert found["controls_min"].tolist() == [0.9, 0.9]


def test_without_a_control_donor_nothing_is_called_necessary():
    found = with_decisions(pd.DataFrame([line()]), np.random.default_rng(0).normal(size=(1, 99, 2)))
    assert found["necessary"].item() == "undecided (no control donor)"


def test_q_counts_all_pairs_of_families_and_a_layer_keeps_its_own_p():
    lines = [
        line(hook=hook, donor=donor, donor_kind=kind)
        for hook in "ab"
        for donor, kind in (("a", "own"), ("b", "family"))
    ]
    table = pd.DataFrame(lines).assign(logit_gap=[-9.0, 0.0, 0.0, 0.0])
    found = with_decisions(table, np.random.default_rng(0).normal(size=(4, 99, 2)))
    assert found["p_layers"].iloc[0] == 0.01
    assert found["q"].iloc[0] == 0.02
    assert found["q"].iloc[2] == found["p_layers"].iloc[2] > 0.3
