"""The picture of cosines: a panel a direction, itself in black, controls dashed, sums dotted."""

import numpy as np
import pandas as pd

from cache import Hook
from geometry.results.result import layer_result
from probes.cosines.figures import cosines_over_layers

NAMES = ["a -> b", "b -> c", "a -> c", "control:0 -> control:1"]
HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 0), Hook("resid_post", 1))


def result():
    cosines = np.linspace(-0.2, 0.9, 3 * 16).reshape(3, 4, 4)
    line = {"kind": "composition", "first": "a -> b -> c", "second": "a -> c"}
    table = pd.DataFrame([{"layer": layer, "cosine": 0.1 * layer} | line for layer in (-1, 0, 1)])
    parameters = {"site": "resid_post", "method": "pca", "pairs": NAMES}
    arrays = {"cosine": (("hook", "first", "second"), cosines)}
    return layer_result("direction cosines", HOOKS, arrays, parameters=parameters, source="f", table=table)


def test_each_direction_has_a_panel_with_itself_the_others_and_the_sum_that_makes_it():
    figure = cosines_over_layers(result())
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in panels] == NAMES
    for number, axis in enumerate(panels):
        drawn = {line.get_label(): line for line in axis.get_lines()}
        own = drawn["the same direction"]
        np.testing.assert_allclose(own.get_ydata(), result().values("cosine")[:, number, number])
        assert own.get_color() == "black"
        assert set(NAMES) - {NAMES[number]} <= set(drawn)
        if number != 3:
            assert drawn[NAMES[3]].get_linestyle() == "--"
        assert ("a -> b -> c" in drawn) == (number == 2)
    np.testing.assert_allclose(panels[2].get_lines()[-2].get_ydata(), [-0.1, 0, 0.1])
    assert figure.get_suptitle() == "resid_post: cosines between directions (pca)"
