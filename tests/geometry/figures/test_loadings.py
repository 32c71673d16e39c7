"""Pictures of what components stand for: a table shows its own words, and heads are told apart."""

import numpy as np
import pandas as pd

from cache import Hook
from geometry.figures.loadings import heads_by_layer, loading_table
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult


def table(n_layers=3, *, tokens=True):
    lines = []
    for layer in range(-1, n_layers - 1):
        for component in range(2):
            line = {"layer": layer, "component": component, "explained_variance_ratio": 0.25}
            line |= {"highest": f"digits:{layer}", "lowest": "x" * 80}
            lines.append(line | ({"promotes": "$a$ _b", "suppresses": "c"} if tokens else {}))
    return pd.DataFrame(lines)


def texts(figure):
    cells = figure.axes[0].tables[0].get_celld()
    n_lines, n_columns = (1 + max(place[i] for place in cells) for i in (0, 1))
    return [[cells[i, j].get_text().get_text() for j in range(n_columns)] for i in range(n_lines)]


def test_every_component_is_a_line_under_the_names_of_the_columns():
    shown = texts(loading_table(table(), title="t"))
    assert shown[0] == ["layer", "component", "share", "highest members", "lowest members", "promotes", "suppresses"]
    assert shown[1][:4] == ["embed", "1", "25%", "digits:-1"]
    assert shown[4][:2] == ["0", "2"]
    assert len(shown) == 7


def test_long_cells_are_cut_and_dollars_are_not_mathematics():
    figure = loading_table(table(), title="t")
    assert texts(figure)[1][4].endswith("…")
    assert len(texts(figure)[1][4]) == 50
    figure.draw_without_rendering()


def test_of_many_layers_a_few_are_shown_the_first_and_the_last_among_them():
    shown = texts(loading_table(table(31), title="t"))
    layers = list(dict.fromkeys(line[0] for line in shown[1:]))
    assert (len(layers), layers[0], layers[-1]) == (6, "embed", "29")


def test_without_tokens_the_columns_are_fewer_and_a_missing_share_is_a_dash():
    content = table(tokens=False)
    content["explained_variance_ratio"] = float("nan")
    shown = texts(loading_table(content, title="t"))
    assert shown[0][-1] == "lowest members"
    assert shown[1][2] == "-"


def test_each_head_has_its_column_with_its_share_of_a_components_direction():
    hooks = [Hook("z", layer) for layer in range(3)]
    directions = np.zeros((3, 2, 12))  # four heads of three dimensions
    directions[0, 0, 3:6], directions[1, 0, 9:] = 1, [1, -1, 0]
    directions[:, 1] = np.nan
    directions[2, 1] = np.tile([2, 0, 0], 4)
    arrays = {"directions": (("hook", "component", "d"), directions)}
    dataset = on_sites(hooks, "z", arrays, {"n_rows": 9, "n_members": 5, "n_templates": 2})
    figure = heads_by_layer(LayerResult("svd", dataset, {"site": "z", "n_heads": 4}, "ab"))
    first, second, bar = figure.axes
    np.testing.assert_allclose(first.images[0].get_array(), [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(second.images[0].get_array()[2], [0.25] * 4)
    assert (first.get_title(), second.get_title(), bar.get_ylabel()) == ("SV1", "SV2", "share of the direction")
    assert (first.get_xlabel(), first.get_ylabel()) == ("head", "layer")
    assert "each of 4 heads" in figure.caption
    figure.draw_without_rendering()
