"""Pictures of interventions draw what the table says: values, members, what is undecided, bands and references."""

import numpy as np
import pytest

from cache import Hook
from probes.transfer.figures import (
    erasure_by_layer,
    erasure_matrices,
    last_or_answer_by_layer,
    transfer_by_layer,
    transfer_matrices,
)
from tests.results import of_table

LAYERS = (-1, 2, 4, 6, 8)
FAMILIES = ("digits", "days")
DONORS = {"digits": "family", "days": "family", "control:0": "control", "control:1": "control"}


def value(layer, receiver, donor):
    """Own edits grow with the layer; controls stand at .01 and .05."""
    if donor.startswith("control"):
        return 0.01 if donor == "control:0" else 0.05
    return 0.1 * (layer + 1) * (1.0 if donor == receiver else 0.5)


def result(name, *, sets=("last",), receivers=FAMILIES):
    lines = []
    for layer in LAYERS:
        for positions in sets:
            for receiver in receivers:
                for donor, kind in DONORS.items():
                    share = value(layer, receiver, donor)
                    line = {"layer": layer, "positions": positions, "receiver": receiver, "donor": donor}
                    line |= {"donor_kind": "own" if donor == receiver else kind, "n_templates": 4}
                    line |= {"n_members": 4 if "days" in (receiver, donor) else 7}
                    few = "days" in (receiver, donor)
                    line |= {"ci_low": np.nan if few else share - 0.1, "ci_high": np.nan if few else share + 0.1}
                    if name == "transfer":
                        line |= {"success": share, "null_mean": 0.02}
                    else:
                        line |= {"left": 1 - share, "null_mean": 0.8, "within_mean": 0.9, "unedited": 0.95}
                        line |= {"necessary": "yes" if layer == 8 and donor == receiver == "digits" else "no"}
                    lines.append(line)
    hooks = tuple(Hook("resid_pre", 0) if layer < 0 else Hook("resid_post", layer) for layer in LAYERS)
    parameters = {"positions": list(sets), "rank": 4, "n_null": 19}
    return of_table(name, hooks, lines, ["positions", "receiver", "donor"], parameters=parameters)


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def line(axis, label):
    return next(drawn for drawn in axis.get_lines() if drawn.get_label() == label)


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
