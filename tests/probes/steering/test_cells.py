import numpy as np
import pandas as pd
import pytest

from cache import Hook
from geometry.results.dataset import on_sites
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import share_interval
from probes.steering.cells import (
    before_and_after,
    compared_cells,
    earliest_layer,
    modal_cell,
    nested_cells,
    success_by_layer,
    sweep_summary,
)

ANSWERS = ("three", "four", "five", "six", "seven")


def planted(success, moved=None):
    """A sweep with two layers, alphas 1 and 2, two prompts an answer, and the success that is given."""
    success = np.asarray(success, dtype=float)
    n_hooks, n_settings, n_trials = success.shape
    names = [answer for answer in ANSWERS for _ in range(n_trials // len(ANSWERS))]
    settings = [["mean_difference", 1.0, "last"], ["mean_difference", 2.0, "last"], ["random", 1.0, "last"]]
    settings += [["random", 2.0, "last"], ["unembedding_difference", 1.0, "last"]]
    axes = ("hook", "setting", "trial")
    arrays = {
        "trial_success": (axes, success),
        "trial_within_families": (axes, success),
        "trial_probability_moved": (axes, success if moved is None else moved),
        "trial_old_rank": (axes, 10 * success),
        "trial_top1": (axes, np.where(np.isnan(success), -1, success).astype(np.int64)),
    }
    rows = pd.DataFrame(
        {
            "answer": names,
            "source_answer": names,
            "unit": names,
            "context": [f"quote|{i % 2}" for i in range(n_trials)],
            "text": [f"text {i}" for i in range(n_trials)],
            "before": "no",
        }
    )
    parameters = {"settings": settings[:n_settings], "tokens": {"0": "no", "1": "yes"}, "positions": ["last"]}
    hooks = [Hook("resid_post", layer) for layer in range(n_hooks)]
    return LayerResult("sweep", on_sites(hooks, "resid_post", arrays), parameters, "", rows)


def test_the_cell_is_chosen_without_the_answer_that_it_is_judged_on():
    """Only `three` succeeds at layer 1, the others at layer 0: in hindsight, `three` would get its own cell."""
    success = np.zeros((2, 2, 10))
    success[0, 0, 2:], success[1, 1, :2] = 1, 1
    cells = nested_cells(planted(success)).set_index("answer")
    assert cells.loc["three", "success"] == 0
    assert cells.loc["three", ["layer", "alpha"]].tolist() == [0, 1]
    assert cells.drop("three")["success"].eq(1).all()
    assert cells.drop("three")["top1_after"].eq("yes").all()
    assert cells["n_rows"].eq(2).all()


def test_ties_go_to_the_cell_that_moves_more():
    success, moved = np.ones((2, 2, 10)), np.zeros((2, 2, 10))
    moved[1, 0] = 0.5
    cells = nested_cells(planted(success, moved))
    assert cells[["layer", "alpha"]].drop_duplicates().to_numpy().tolist() == [[1, 1]]


def test_success_by_layer_chooses_alpha_at_that_layer():
    success = np.zeros((2, 2, 10))
    success[0, 1], success[1, 0] = 1, 1
    frame = success_by_layer(planted(success))
    assert frame["success"].eq(1).all()
    assert frame.groupby("layer")["alpha"].unique().map(list).tolist() == [[2.0], [1.0]]
    assert len(frame) == 2 * len(ANSWERS)


def test_other_methods_are_judged_at_the_cells_that_the_mean_difference_chose():
    """The control does best at layer 1; the mean difference at layer 0 and alpha 2."""
    success = np.zeros((2, 5, 10))
    success[0, 1], success[1, 2:4] = 1, 1
    success[0, 3, :2] = 1
    cells = nested_cells(planted(success), "random").set_index("answer")
    assert cells[["layer", "alpha"]].drop_duplicates().to_numpy().tolist() == [[0, 2]]
    assert cells["success"].tolist() == [1, 0, 0, 0, 0]
    frame = success_by_layer(planted(success), "random")
    assert frame.groupby("layer")["alpha"].unique().map(list).tolist() == [[2.0], [1.0]]
    assert frame.groupby("layer")["success"].mean().tolist() == [0.2, 1]


def test_layers_where_a_method_was_not_tried_are_left_out():
    success = np.ones((2, 3, 10))
    success[1, 2] = np.nan
    assert success_by_layer(planted(success), "random")["layer"].unique().tolist() == [0]
    assert len(success_by_layer(planted(success), "unheard_of")) == 0
    success[0, 0] = 0
    assert nested_cells(planted(success), "random")["success"].isna().all()


def test_the_cells_to_compare_at_are_those_chosen_and_every_so_many_layers_own():
    success = np.zeros((4, 2, 10))
    success[1, 1, 2:], success[2, 0, :2], success[3, 1] = 1, 1, 0.5
    nested, thinned = compared_cells(planted(success), every=3)
    assert nested == [set(), {(2.0, "last")}, set(), set()]
    assert thinned == [{(1.0, "last")}, set(), set(), {(2.0, "last")}]


@pytest.mark.parametrize(("share", "layer"), [(1.0, 0), (0.8, 1), (0.0, 1)])
def test_the_earliest_layer_is_the_first_at_nine_tenths(share, layer):
    success = np.ones((2, 2, 10))
    success[0, :, round(10 * share) :] = 0
    assert earliest_layer(planted(success)) == layer


def test_no_layer_reaches_it():
    assert earliest_layer(planted(np.zeros((2, 2, 10)))) is None


def test_the_summary_has_its_errors_over_answers_and_the_best_cell_in_hindsight():
    success = np.zeros((2, 5, 10))
    success[0, 0] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    success[1, 2, :4], success[1, 4, :4], success[0, 2, :2] = 1, 1, 1
    table = sweep_summary(planted(success)).set_index("method")
    mine = table.loc["mean_difference"]
    assert mine["success"] == pytest.approx(0.9)
    assert mine["worst_answer"] == 0.5
    assert mine["se"] == pytest.approx(np.std([1, 1, 1, 1, 0.5], ddof=1) / 5**0.5)
    assert (mine["ci_low"], mine["ci_high"]) == share_interval(mine["success"], mine["se"], 5)
    assert mine["earliest_layer"] == 0
    assert table.loc["unembedding_difference", "hindsight"] == pytest.approx(0.4)
    assert np.isnan(table.loc["random", "hindsight"])
    assert table.loc["random", ["success", "layer", "alpha"]].tolist() == [0.2, 0, 1]
    assert table.loc["random", "earliest_layer"] is pd.NA
    assert table["n_rows"].eq(10).all()


def test_before_and_after_are_texts():
    success = np.zeros((2, 2, 10))
    success[1, 1] = 1
    table = before_and_after(planted(success))
    assert table["after"].eq("yes").all()
    assert table["before"].eq("no").all()
    assert table["prompt"].tolist() == [f"text {i}" for i in range(10)]


def test_the_modal_cell_is_one_that_answers_chose_together():
    """Layer 26 and alpha 2 are each the most frequent, and no two answers chose them together."""
    cells = pd.DataFrame(
        {
            "layer": [26, 26, 26, 24, 24],
            "alpha": [1.0, 1.0, 2.0, 2.0, 2.0],
            "positions": "last",
            "success": [1.0, 0.5, 1.0, 1.0, 1.0],
        }
    )
    assert modal_cell(cells) == (24, 2.0, "last")  # as many as at (26, 1), and more successful
    assert modal_cell(cells.iloc[:3]) == (26, 1.0, "last")


def test_the_summary_names_a_cell_and_how_many_chose_it():
    success = np.zeros((2, 2, 10))
    success[0, 0, 2:], success[1, 1, :2] = 1, 1
    mine = sweep_summary(planted(success)).set_index("method").loc["mean_difference"]
    assert (mine["layer"], mine["alpha"], mine["chosen"]) == (0, 1.0, 5)
