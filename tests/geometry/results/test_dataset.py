"""Named arrays: the same rows at every site, and lines of a table that come back as they were."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cache import Hook, plan_recording
from cache.errors import InputError
from geometry.results.dataset import from_lines, per_layer, tidy
from tests.recordings import recorded

RESID = tuple(Hook("resid_post", layer) for layer in range(3))


def stored(model, prompts, path, **choices):
    return recorded(model, plan_recording(model, prompts, **choices), path)


@pytest.fixture(scope="module")
def store(gpt2, prompts, tmp_path_factory):
    path = tmp_path_factory.mktemp("layerwise") / "a.h5"
    with stored(gpt2, prompts.subset(range(0, 105, 5)), path, sites="mlp,heads,resid") as store:
        yield store


def describe(x):
    return {
        "mean": (("d",), x.mean(dim=0).numpy()),
        "norm": (("row",), x.norm(dim=1).numpy()),
        "n": ((), np.array(len(x))),
    }


@pytest.mark.parametrize("where", [None, "is_last", "family == 'months' and member == 2"])
def test_every_hook_is_given_the_same_rows_and_answers_are_stacked(store, where):
    named = per_layer(store.view("resid_post", layers="spread", where=where), describe)
    assert {name: axes for name, (axes, _) in named.items()} == {
        "mean": ("hook", "d"),
        "norm": ("hook", "row"),
        "n": ("hook",),
    }
    chosen = store.rows.eval(where or "position >= 0").to_numpy()
    assert named["n"][1].tolist() == [chosen.sum()] * 3
    for i, hook in enumerate(RESID):
        by_hand = store.load(hook).double().numpy()[chosen]
        scale = np.abs(by_hand).max()
        np.testing.assert_allclose(named["mean"][1][i], by_hand.mean(axis=0), rtol=0, atol=1e-5 * scale)
        np.testing.assert_allclose(named["norm"][1][i], np.sqrt((by_hand**2).sum(axis=1)), rtol=1e-5)


def test_a_bar_moves_with_every_site(store, bars):
    per_layer(store.view("resid_post", layers="spread"), describe)
    assert bars == [("sites", 3, True, [1, 2, 3])]


def test_rows_that_are_not_there_are_told(store):
    with pytest.raises(InputError, match=r"no row fits 'position > 500'; columns are prompt, position, token"):
        per_layer(store.view(where="position > 500"), describe)


LINES = pd.DataFrame(
    {
        "hook": ["a", "a", "b"],
        "donor": ["y", "x", "y"],
        "share": [0.5, np.nan, 0.25],
        "n_rows": [3, 4, 5],
        "word": ["yes", "no", "unknown"],
        "kept": [True, False, True],
    }
)


def test_lines_of_cells_come_back_as_they_were_and_cells_without_one_stay_empty():
    axes = {"hook": ["a", "b"], "donor": ["x", "y"]}
    arrays = from_lines(LINES, axes, {"null": (("draw",), np.arange(6.0).reshape(3, 2))})
    assert {name: one for name, (one, _) in arrays.items()} == {
        **dict.fromkeys(["share", "n_rows", "word", "kept"], ("hook", "donor")),
        "null": ("hook", "donor", "draw"),
    }
    assert arrays["n_rows"][1].tolist() == [[4, 3], [0, 5]]
    assert arrays["word"][1].tolist() == [["no", "yes"], ["", "unknown"]]
    assert arrays["kept"][1].tolist() == [[False, True], [False, True]]
    np.testing.assert_array_equal(arrays["share"][1], [[np.nan, 0.5], [np.nan, 0.25]])
    np.testing.assert_array_equal(arrays["null"][1], [[[2, 3], [0, 1]], [[np.nan] * 2, [4, 5]]])
    dataset = xr.Dataset(arrays, axes)
    again = tidy(dataset, ["hook", "donor"])
    pd.testing.assert_frame_equal(again, LINES.iloc[[1, 0, 2]].reset_index(drop=True))
