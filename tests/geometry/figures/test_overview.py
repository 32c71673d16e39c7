"""Overviews: of many families a panel a pair, where a reader looks for it, and of layers a cell a pair."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from cache import Hook
from geometry.figures.overview import families_overview, layer_heatmap
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from tests.geometry import comparisons

FAMILIES = ("digits", "numwords", "months", "days", "letters", "roman", "ordinals", "tens")
PAIRS = {f"{a} - {b}": [0.1, 0.01 * i, 0.9, 0.6] for i, (a, b) in enumerate(combinations(FAMILIES, 2))}


def at(figure):
    """Panels by the names of their line and column, which only the outer ones carry."""
    panels = {
        (axis.get_subplotspec().rowspan.start, axis.get_subplotspec().colspan.start): axis for axis in figure.axes
    }
    lines = {line: axis.get_ylabel() for (line, _), axis in panels.items() if axis.get_ylabel()}
    columns = {column: axis.get_title() for (_, column), axis in panels.items() if axis.get_title()}
    return {(lines[line], columns[column]): axis for (line, column), axis in panels.items()}


@pytest.fixture(scope="module")
def eight():
    return families_overview(comparisons.result(PAIRS))


def test_each_pair_of_eight_families_has_its_panel_and_there_is_no_other(eight):
    assert len(eight.axes) == 28
    assert {frozenset(pair) for pair in at(eight)} == {frozenset(pair.split(" - ")) for pair in PAIRS}


def test_a_panel_shows_the_value_of_its_own_pair(eight):
    for (line, column), axis in at(eight).items():
        (value,) = [one for one in axis.get_lines() if one.get_label() == "value"]
        np.testing.assert_allclose(value.get_ydata(), PAIRS[f"{column} - {line}"])
        assert [text.get_text() for text in axis.texts] == ["n 8"]
        assert [one.get_label() for one in axis.collections] == ["controls"]


def test_all_have_the_same_axes_and_only_the_outer_ones_numbers(eight):
    assert len({axis.get_ylim() for axis in eight.axes}) == len({axis.get_xlim() for axis in eight.axes}) == 1
    eight.draw_without_rendering()
    labels = {axis: [label for label in axis.get_yticklabels() if label.get_visible()] for axis in eight.axes}
    numbered = [axis for axis, shown in labels.items() if any(label.get_text() for label in shown)]
    assert {axis.get_ylabel() for axis in numbered} == set(FAMILIES[1:])
    assert [text.get_text() for text in eight.legends[0].get_texts()] == ["controls", "value", "readout removed"]


def test_eight_families_fit_a_page(eight):
    width, height = eight.get_size_inches()
    assert width < 14
    assert height < 12


def test_pairs_without_all_others_are_named_too():
    figure = families_overview(comparisons.result({"a - b": [0.1] * 4, "c - d": [0.2] * 4}, readout=False))
    assert set(at(figure)) == {("b", "a"), ("d", "c")}
    assert "permuted members" in figure.caption


def test_nothing_is_cut_off_below():
    figure = families_overview(comparisons.result({**PAIRS, "digits - tens": [0.1, -0.9, 0.2, 0.3]}))
    assert figure.axes[0].get_ylim()[0] < -0.9


def grid(values, layers, layers_b):
    hooks, hooks_b = (
        [Hook("resid_post" if i >= 0 else "resid_pre", max(i, 0)) for i in one] for one in (layers, layers_b)
    )
    labels = pd.DataFrame({"layer_b": list(layers_b), "hook_b": [hook.name for hook in hooks_b]})
    arrays = {"value": (("hook", "hook_b"), values)}
    dataset = on_sites(hooks, "resid_post", arrays, {"n_members": 6, "n_rows": 12}, {"hook_b": labels})
    return LayerResult("grid", dataset, {"site": "resid_post", "measure": "cka"}, "ab" * 32, lines=("hook", "hook_b"))


def test_the_heat_map_has_a_cell_for_every_pair_of_layers_and_names_the_ticks_it_keeps():
    values = np.linspace(0, 1, 31 * 20).reshape(31, 20)
    axis = layer_heatmap(grid(values, range(-1, 30), range(-1, 19))).axes[0]
    np.testing.assert_array_equal(axis.images[0].get_array(), values)
    assert [tick.get_text() for tick in axis.get_yticklabels()][:3] == ["embed", "1", "3"]
    assert len(axis.get_yticklabels()) <= 16
    assert axis.get_title() == "resid_post: cka, 12 rows, 6 members"


def test_a_negative_similarity_is_within_the_colours():
    axis = layer_heatmap(grid(np.array([[1.0, -0.4], [-0.4, 1.0]]), (0, 1), (0, 1))).axes[0]
    assert axis.images[0].get_clim() == (-0.4, 1)


def test_few_layers_have_their_similarities_written_down():
    assert [text.get_text() for text in layer_heatmap(grid(np.array([[0.5]]), (3,), (3,))).axes[0].texts] == ["0.50"]
    assert not layer_heatmap(grid(np.ones((9, 2)), range(9), range(2))).axes[0].texts
