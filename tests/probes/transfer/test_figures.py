"""Pictures of interventions draw what the table says: values, members, what is undecided, bands and references."""

import numpy as np
import pytest

from cache import Hook
from probes.transfer.figures import erasure_by_layer, last_or_answer_by_layer, transfer_by_layer
from probes.transfer.matrices import transfer_matrices
from tests.probes.transfer.drawn import LAYERS, line, result, titles, value
from tests.results import of_table


def test_curves_have_the_own_edit_in_bold_a_control_band_and_null_donors():
    figure = transfer_by_layer(result("transfer"))
    assert titles(figure) == ["in digits: 7 members", "in days: 4 members°"]
    axis = figure.axes[0]
    np.testing.assert_allclose(line(axis, "digits").get_ydata(), [value(layer, "digits", "digits") for layer in LAYERS])
    assert line(axis, "digits").get_linewidth() > line(axis, "days").get_linewidth()
    assert line(figure.axes[1], "days").get_linewidth() > line(figure.axes[1], "digits").get_linewidth()
    band = next(drawn for drawn in axis.collections if drawn.get_label() == "controls (2)")
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.01, 0.05))
    assert set(line(axis, "null donors").get_ydata()) == {0.02}
    assert line(axis, "digits").get_xdata().tolist() == list(LAYERS)


def test_erasure_curves_have_unrelated_donors_and_the_unedited_accuracy():
    axis = erasure_by_layer(result("erasure")).axes[0]
    assert set(line(axis, "unrelated donors").get_ydata()) == {0.8}
    assert set(line(axis, "unedited").get_ydata()) == {0.95}
    others = erasure_by_layer(result("erasure", receivers=("digits",)))
    assert titles(others) == ["in digits: 7 members"]


@pytest.mark.parametrize("draw", [transfer_matrices, transfer_by_layer])
def test_each_position_set_has_its_own_picture(draw):
    found = result("transfer", sets=("last", "members"))
    found.table.loc[found.table["positions"] == "members", "success"] = 0.33
    assert "resid_post, last" in draw(found).get_suptitle()
    figure = draw(found, "members")
    assert "resid_post, members" in figure.get_suptitle()


def test_last_or_answer_has_two_curves_a_panel_and_says_how_often_the_model_is_right():
    lines = [
        {"layer": layer, "family": family, "kind": kind, "as_last": 0.1 * layer, "as_answer": 0.05 * layer}
        | {f"as_{name}_ci_{end}": 0.1 * layer + se for name in ("last", "answer") for end in ("low", "high")}
        | {"unchanged": 0.3, "donor_accuracy": 0.75, "n_members": n}
        for layer in (0, 4, 8)
        for family, n, se in (("digits", 7, 0.05), ("days", 4, np.nan))
        for kind in ("decreasing", "step:2")
    ]
    hooks = [Hook("resid_post", layer) for layer in (0, 4, 8)]
    found = of_table("last_or_answer", hooks, lines, ["family", "kind"])
    figure = last_or_answer_by_layer(found)
    assert titles(figure)[0] == "digits, decreasing: 7 members\nmodel right on these 75%"
    assert titles(figure)[3].startswith("days, step:2: 4 members°")
    np.testing.assert_allclose(line(figure.axes[0], "read as last member").get_ydata(), [0, 0.4, 0.8])
    np.testing.assert_allclose(line(figure.axes[0], "read as answer").get_ydata(), [0, 0.2, 0.4])
    assert set(line(figure.axes[0], "unchanged").get_ydata()) == {0.3}
