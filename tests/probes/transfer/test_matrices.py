"""Matrices of interventions draw what the table says: values, members, what is undecided, what stands beside them."""

import numpy as np

from probes.transfer.matrices import erasure_matrices, transfer_matrices
from tests.probes.transfer.drawn import DONORS, FAMILIES, result, texts, titles


def test_transfer_panels_are_the_best_layers_in_order_with_values_and_members():
    figure = transfer_matrices(result("transfer"))
    assert titles(figure) == ["layer 2", "layer 4", "layer 6", "layer 8"]
    last = figure.axes[3]
    assert texts(last)[:4] == [".90", "n 7", ".45°", "n 4"]
    assert [label.get_text() for label in last.get_xticklabels()] == [
        *list(DONORS)[:2],
        "control 0",
        "control 1",
    ]
    assert [label.get_text() for label in last.get_yticklabels()] == list(FAMILIES)
    assert (last.get_xlabel(), last.get_ylabel()) == ("donor", "receiver")
    np.testing.assert_allclose(last.images[0].get_array()[0], [0.9, 0.45, 0.01, 0.05])
    assert "° fewer than 5 members" in figure.get_suptitle()
    assert titles(transfer_matrices(result("transfer"), layers=1)) == ["layer 8"]
    sure = transfer_matrices(result("transfer", receivers=("digits",)), layers=2)
    assert len([axis for axis in sure.axes if axis.images]) == 2


def test_erasure_panels_have_stars_and_what_stands_beside_them():
    figure = erasure_matrices(result("erasure"), layers=2)
    assert titles(figure) == ["layer 6", "layer 8"]
    last = figure.axes[1]
    np.testing.assert_allclose(last.images[0].get_array()[0], [0.1, 0.55, 0.99, 0.95, 0.8, 0.9, 0.95])
    assert texts(last)[:3] == [".10*", "n 7", ".55°"]
    assert [label.get_text() for label in last.get_xticklabels()][-3:] == ["unrelated", "within", "unedited"]
    assert "rank 4" in figure.get_suptitle()
