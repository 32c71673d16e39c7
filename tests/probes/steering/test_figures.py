from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cache import Hook
from probes.steering.figures import steering_by_layer, steering_grid
from tests.results import of_table

LAYERS = (-1, 0, 1, 2)


@pytest.fixture
def result():
    """A sweep over four layers: the mean difference at two strengths and two position sets, and controls."""
    lines = []
    for layer in LAYERS:
        for positions in ("last", "all"):
            for alpha in (1.0, 2.0):
                lines.append(("mean_difference", layer, alpha, positions, (layer + 1) / 4 if alpha == 1 else 0.1))
        lines += [("unembedding_difference", layer, alpha, "last", alpha / 10) for alpha in (1.0, 2.0)]
        if layer in (-1, 2):
            lines += [(name, layer, 1.0, "last", 0.05) for name in ("random", "wrong_target")]
    table = pd.DataFrame(lines, columns=["method", "layer", "alpha", "positions", "success"])
    hooks = [Hook("resid_pre" if layer < 0 else "resid_post", max(layer, 0)) for layer in LAYERS]
    table = table.assign(n_rows=63, n_members=7, n_templates=9)
    parameters = {"source": "digits", "target": "numwords", "alphas": [1.0, 2.0]}
    made = of_table("sweep", hooks, table, ["method", "alpha", "positions"], parameters=parameters)
    return replace(made, rows=pd.DataFrame({"unit": ["three"], "answer": ["three"]}))


def by_answer():
    lines = [(layer, answer, (layer + 1) / 4) for layer in LAYERS for answer in ("three", "four", "five")]
    return pd.DataFrame(lines, columns=["layer", "unit", "success"])


GRID = "mean_difference"


def frames():
    """By method; controls at two of the layers."""
    few = by_answer()[by_answer()["layer"].isin([-1, 2])]
    flat = {name: few.assign(success=0.05) for name in ("random", "wrong_target")}
    return {GRID: by_answer(), "unembedding_difference": by_answer().assign(success=0.1)} | flat


def test_there_is_a_panel_a_position_set_with_a_dot_an_answer_and_layer(result):
    figure = steering_by_layer(result, {"last": frames(), "all": {GRID: by_answer()}})
    assert [axis.get_title() for axis in figure.axes] == ["positions: last", "positions: all"]
    for axis in figure.axes:
        dots = next(line for line in axis.lines if line.get_label() == "each left-out answer")
        assert sorted(dots.get_ydata()) == sorted(by_answer()["success"])
        assert len(set(dots.get_xdata())) == len(by_answer())
        mean = next(line for line in axis.lines if "mean over answers" in str(line.get_label()))
        assert mean.get_ydata().tolist() == [0, 0.25, 0.5, 0.75]


def test_controls_are_drawn_at_the_same_strengths_and_what_is_hindsight_says_so(result):
    last, every = steering_by_layer(result, {"last": frames(), "all": {GRID: by_answer()}}).axes
    drawn = {str(line.get_label()): line for line in last.lines}
    assert drawn["unembedding difference"].get_ydata().tolist() == pytest.approx([0.1] * 4)
    best = drawn["unembedding difference, best alpha in hindsight"]
    assert best.get_ydata().tolist() == pytest.approx([0.2] * 4)
    assert drawn["another target"].get_xdata().tolist() == [-1, 2]
    assert drawn["drawn from the covariance"].get_ydata().tolist() == pytest.approx([0.05] * 2)
    assert len(every.lines) == 2


def test_the_title_says_how_many_answers_prompts_and_templates(result):
    title = steering_by_layer(result, {"last": frames()}).get_suptitle()
    assert "digits -> numwords" in title
    assert "63 prompts, 7 answers, 9 templates" in title


def test_the_grid_has_strengths_by_layers(result):
    figure = steering_grid(result)
    images = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(images) == 2
    want = [[0, 0.25, 0.5, 0.75], [0.1] * 4]
    assert np.asarray(images[0]) == pytest.approx(np.array(want))
    assert figure.axes[0].get_xticklabels()[0].get_text() == "embed"
    assert figure.get_suptitle() == "digits -> numwords at resid_post: 63 prompts, 7 answers, 9 templates"
