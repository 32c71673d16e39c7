"""Pictures of comparisons draw what the table says, and nothing that it does not."""

import numpy as np
import pytest

from geometry.figures.compare import described_by_layer, shared_index_by_layer
from tests.geometry import comparisons

NAN = float("nan")
VALUES = {
    "digits - months": [NAN, 0.3, 0.9, 0.6],
    "digits - letters": [NAN, 0.05, 0.04, 0.02],
    "months - letters": [NAN, 0.07, NAN, 0.02],
}


def line(axis, label):
    return next(drawn for drawn in axis.get_lines() if drawn.get_label() == label)


def test_each_pair_has_a_panel_but_the_private_family_is_a_line_in_the_others():
    figure = shared_index_by_layer(comparisons.result(VALUES))
    panels = [axis for axis in figure.axes if axis.get_title().startswith("digits")]
    assert [axis.get_title() for axis in panels] == ["digits - months: 8 members, 20 controls"]
    (axis,) = panels
    np.testing.assert_array_equal(line(axis, "all directions").get_ydata(), VALUES["digits - months"])
    np.testing.assert_allclose(line(axis, "readout removed").get_ydata(), 0.9 * np.array(VALUES["digits - months"]))
    np.testing.assert_allclose(line(axis, "with letters").get_ydata(), [NAN, 0.06, 0.04, 0.02])
    assert line(axis, "all directions").get_xdata().tolist() == list(comparisons.LAYERS)


def test_no_panel_cuts_off_a_line_of_another():
    figure = shared_index_by_layer(comparisons.result({"a - b": [0.1, -0.9, 0.2, 0.3], "a - c": [0.1, 0.2, 0.3, 0.4]}))
    assert all(axis.get_ylim()[0] < -0.9 for axis in figure.axes if axis.get_title().startswith("a - "))


def test_only_layers_called_shared_have_filled_points():
    axis = shared_index_by_layer(comparisons.result({"a - b": [NAN, 0.05, 0.9, 0.6]})).axes[0]
    dots = next(drawn for drawn in axis.get_lines() if drawn.get_marker() == "o")
    assert dots.get_xdata().tolist() == [1, 2]


def test_the_band_reaches_from_the_lowest_to_the_highest_control():
    axis = shared_index_by_layer(comparisons.result({"a - b": [0.1, 0.2, 0.3, 0.4]}, control=0.33)).axes[0]
    band = next(drawn for drawn in axis.collections if drawn.get_label() == "controls")
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((-0.33, 0.33))


def test_the_inset_is_the_lag_profile_at_the_highest_value():
    axis = shared_index_by_layer(comparisons.result({"a - b": [0.1, 0.2, 0.8, 0.4]})).axes[0]
    (inset,) = axis.child_axes
    assert [bar.get_height() for bar in inset.patches] == [-0.2, -0.1, 0.1, 0.9, 0.1, -0.1, -0.2]
    assert [text.get_text() for text in inset.texts] == ["layer 1"]


def test_few_controls_are_said_to_be_too_few_and_none_draw_no_band():
    few = shared_index_by_layer(comparisons.result({"a - b": [0.1, 0.2, 0.8, 0.4]}, n_controls=2)).axes[0]
    assert few.get_title() == "a - b: 8 members, 2 controls (too few)"
    none = shared_index_by_layer(comparisons.result({"a - b": [0.1, 0.2, 0.8, 0.4]}, n_controls=0)).axes[0]
    assert not [drawn for drawn in none.collections if drawn.get_label() == "controls"]


def test_a_pair_without_any_value_says_so_in_its_panel():
    figure = shared_index_by_layer(comparisons.result({"a - b": [NAN] * 4, "a - c": [0.1, 0.2, 0.3, 0.4]}))
    assert not figure.axes[0].child_axes
    assert [text.get_text() for text in figure.axes[0].texts] == ["reliable at no layer"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert not figure.axes[1].texts
    assert len(figure.axes[1].child_axes) == 1


def test_what_is_only_between_the_private_family_and_others_is_drawn_all_the_same():
    figure = shared_index_by_layer(comparisons.result({"digits - letters": [0.0, 0.1, 0.1, 0.1]}))
    assert figure.axes[0].get_title().startswith("digits - letters")


def test_describing_measures_have_a_row_of_panels_with_their_null():
    result = comparisons.result(
        {"a - b": [0.5, 0.6, 0.7, 0.99], "a - c": [0.5] * 4}, measure="cka", readout=False, half=np.nan
    )
    figure = described_by_layer(result, ["cka"])
    assert [axis.get_title() for axis in figure.axes] == ["a - b", "a - c"]
    table = result.table[result.table["b"] == "b"]
    np.testing.assert_array_equal(line(figure.axes[0], "permuted").get_ydata(), table["permuted_mean"])
    band = max(path.vertices[:, 1].max() for drawn in figure.axes[0].collections for path in drawn.get_paths())
    assert band <= 1


@pytest.mark.parametrize("values", [[0.99, 1.0, 1.0, 1.0], [-0.9, 0.1, 0.9, 3.0]])
def test_nothing_but_the_inset_is_drawn_above_the_values(values):
    """What of a curve, an interval or a band is highest, and the lowest that belongs to the inset."""
    figure = shared_index_by_layer(comparisons.result({"a - b": values, "a - c": [0.1] * 4}))
    figure.draw_without_rendering()
    for axis in figure.axes[:2]:
        (inset,) = axis.child_axes
        lowest = inset.get_tightbbox().y0
        curves = [line.get_xydata() for line in axis.get_lines() if len(line.get_xydata()) > 2]
        bands = [path.vertices for one in axis.collections for path in one.get_paths()]
        for points in (*curves, *bands):
            heights = axis.transData.transform(points)[:, 1]
            assert np.nanmax(heights) < lowest
        top = axis.bbox.y1
        assert inset.get_tightbbox().y1 <= top


def test_a_value_outside_the_axis_is_marked_and_the_caption_says_so():
    found = comparisons.result({"a - b": [0.1, 0.2, 7.0, 0.3]}, measure="shared_share")
    figure = shared_index_by_layer(found, measure="shared_share")
    assert "Triangles: values above 1.5, drawn there." in figure.caption


def test_the_first_panel_of_each_line_names_what_is_measured():
    pairs = {f"a - {name}": [0.1, 0.2, 0.3, 0.4] for name in "bcdef"}
    named = [axis.get_ylabel() for axis in shared_index_by_layer(comparisons.result(pairs)).axes[:5]]
    assert named == ["matched_cosine", "", "", "matched_cosine", ""]


def test_what_stands_beside_the_values_is_inside_the_axis_too():
    """The mean under permuted members, and the readout removed, lie lower than any value."""
    described = comparisons.result({"a - b": [0.5] * 4}, measure="cka", readout=False, half=np.nan, control=0.1)
    described.dataset["permuted_mean"][:] = -0.4
    decided = comparisons.result({"a - b": [0.5] * 4})
    decided.dataset["value"][..., 1, :] = -0.6
    for figure in (described_by_layer(described, ["cka"]), shared_index_by_layer(decided)):
        axis = figure.axes[0]
        assert axis.get_ylim()[0] < min(np.nanmin(one.get_ydata()) for one in axis.get_lines() if len(one.get_ydata()))
        assert not [one for one in axis.get_lines() if one.get_marker() in ("v", "^")]
