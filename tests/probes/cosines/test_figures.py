"""The picture of cosines: a panel a direction, itself in black, controls dashed, sums dotted."""

import numpy as np

from cache import Hook
from probes.cosines.figures import cosine_matrices, cosines_over_layers
from tests.results import of_table

NAMES = ["a -> b", "b -> c", "a -> c", "control:0 -> control:1"]
HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 0), Hook("resid_post", 1))


def result():
    pairs = [("directions", first, second) for i, first in enumerate(NAMES) for second in NAMES[i:]]
    pairs.append(("composition", "a -> b -> c", "a -> c"))
    lines = [
        {"layer": layer, "comparison": number, "kind": kind, "first": first, "second": second}
        | {"cosine": 0.1 * layer if kind == "composition" else (layer + 1) / 4 + number / 100}
        for layer in (-1, 0, 1)
        for number, (kind, first, second) in enumerate(pairs)
    ]
    return of_table("direction cosines", HOOKS, lines, ["comparison"], parameters={"method": "pca", "pairs": NAMES})


def cosines_of(first, second):
    table = result().table
    return table.loc[(table["first"] == first) & (table["second"] == second), "cosine"]


def test_each_direction_has_a_panel_with_itself_the_others_and_the_sum_that_makes_it():
    figure = cosines_over_layers(result())
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in panels] == NAMES
    for number, axis in enumerate(panels):
        drawn = {line.get_label(): line for line in axis.get_lines()}
        own = drawn["the same direction"]
        np.testing.assert_allclose(own.get_ydata(), cosines_of(NAMES[number], NAMES[number]))
        for later in NAMES[number + 1 :]:
            np.testing.assert_allclose(drawn[later].get_ydata(), cosines_of(NAMES[number], later))
        for earlier in NAMES[:number]:
            np.testing.assert_allclose(drawn[earlier].get_ydata(), cosines_of(earlier, NAMES[number]))
        assert own.get_color() == "black"
        assert set(NAMES) - {NAMES[number]} <= set(drawn)
        if number != 3:
            assert drawn[NAMES[3]].get_linestyle() == "--"
        assert ("a -> b -> c" in drawn) == (number == 2)
        assert drawn.get("a -> b -> c", own) is own or drawn["a -> b -> c"].get_color() != "black"  # it lies on `own`
    np.testing.assert_allclose(panels[2].get_lines()[-2].get_ydata(), [-0.1, 0, 0.1])
    assert figure.get_suptitle() == "resid_post: cosines between directions (pca)"


def test_no_panel_cuts_off_a_line_of_another():
    """The last panel alone has nothing below 0; the first has."""
    found = result()
    found.dataset["cosine"][:, 1] = -0.8
    for axis in cosines_over_layers(found).axes:
        if axis.axison:
            assert axis.get_ylim()[0] < -0.8


def test_many_directions_are_matrices_a_panel_a_layer():
    figure = cosine_matrices(result(), layers=2)
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in panels] == ["embed", "layer 1"]
    for axis, layer in zip(panels, (-1, 1), strict=True):
        drawn = np.asarray(axis.images[0].get_array())
        np.testing.assert_array_equal(drawn, drawn.T)
        for i, first in enumerate(NAMES):
            for j in range(i, len(NAMES)):
                assert drawn[i, j] == cosines_of(first, NAMES[j]).iloc[layer + 1]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == NAMES
    assert figure.axes[-1].get_ylabel() == "cosine"
    assert "4 directions (pca)" in figure.caption


def test_panels_without_another_beneath_name_the_columns():
    figure = cosine_matrices(result(), layers=3)
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in panels] == [False, True, True]


def test_a_layer_without_any_direction_says_so():
    found = result()
    found.dataset["cosine"][0] = np.nan
    first, second, _ = cosine_matrices(found, layers=2).axes
    assert [text.get_text() for text in first.texts] == ["no direction can be had here"]
    assert not second.texts
