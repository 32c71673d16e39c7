"""UMAP of a store: planted groups kept apart, with its trustworthiness, and rows drawn."""

import numpy as np
import pytest

from cache import ActivationStore, Hook
from cache.errors import InputError
from geometry.bases.embedding import umap
from geometry.layers import umap as module
from geometry.layers.umap import umap_by_layer
from geometry.results.over import Loop
from tests.geometry.layers.planted_parts import chosen_by_hand, planted_parts
from tests.views import analysed, arrays_of


@pytest.fixture(scope="module")
def planted(gpt2, prompts, tmp_path_factory):
    path = tmp_path_factory.mktemp("umap") / "a.h5"
    planted_parts(gpt2, prompts, path)
    with ActivationStore.open(path) as store:
        yield store


@pytest.fixture(autouse=True)
def circles_but_where_it_is_slow(request):
    if "slow" not in request.keywords:
        request.getfixturevalue("circles")


@pytest.fixture
def picture(planted):
    return umap_by_layer(planted.view("mlp_out", "1-2"), n_neighbors=10, seed=3)


def test_a_picture_is_that_of_the_chosen_rows_and_says_how_far_it_can_be_trusted(planted, picture):
    """UMAP itself is tried on planted groups in tests/geometry/bases."""
    alone = umap(planted.load(Hook("mlp_out", 1))[chosen_by_hand(planted)], n_neighbors=10, seed=3)
    np.testing.assert_array_equal(picture.values("scores")[0], alone.coordinates)
    assert picture.values("trustworthiness")[0] == pytest.approx(alone.trustworthiness, abs=1e-12)


@pytest.mark.slow
def test_a_picture_keeps_planted_groups_apart(planted, picture):
    points, groups = picture.values("scores")[0], picture.rows["unit"].to_numpy() % 4
    centres = np.stack([points[groups == group].mean(axis=0) for group in range(4)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == groups).mean() > 0.95
    assert 0.8 < picture.values("trustworthiness")[0] <= 1


def test_equal_rows_have_no_picture(picture):
    assert not picture.values("scores")[1].any()
    assert np.isnan(picture.values("trustworthiness")[1])


def test_a_picture_has_the_axes_the_table_and_the_parameters_that_it_names(planted, picture):
    assert {name: axes for name, (axes, _) in arrays_of(picture).items()} == {
        "scores": ("hook", "row", "axis"),
        "trustworthiness": ("hook",),
    }
    n_rows = len(chosen_by_hand(planted))
    assert picture.values("scores").shape == (2, n_rows, 2)
    assert list(picture.table.columns) == [
        *("layer", "site", "hook", "trustworthiness", "n_members", "n_templates", "n_rows")
    ]
    assert picture.table["layer"].tolist() == [1, 2]
    np.testing.assert_array_equal(picture.table["trustworthiness"], picture.values("trustworthiness"))
    assert picture.table["n_rows"].eq(n_rows).all()
    assert picture.parameters == {
        "site": "mlp_out",
        "layers": "1-2",
        "where": "member >= 0 and position > 0",
        "n_neighbors": 10,
        "most_rows": 4000,
        "seed": 3,
    }
    assert (picture.name, picture.source) == ("umap", planted.fingerprint)


def test_of_too_many_rows_some_are_drawn_for_the_picture_in_their_order(planted, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 40)
    drawn, again = (umap_by_layer(planted.view("mlp_out", "2"), seed=1) for _ in range(2))
    all_rows = chosen_by_hand(planted)
    kept = np.sort(np.random.default_rng(1).choice(len(all_rows), 40, replace=False))
    expected = planted.rows.iloc[[all_rows[i] for i in kept]].reset_index(drop=True)
    assert drawn.values("scores").shape == (1, 40, 2)
    assert drawn.rows[["prompt", "position"]].equals(expected[["prompt", "position"]])
    assert drawn.rows["unit"].tolist() == expected["value"].tolist()
    assert drawn.table["n_rows"].tolist() == [40]
    assert again.rows.equals(drawn.rows)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"where": "prompt == 2 and member >= 0"}, "UMAP needs 5 rows and 2 neighbours; got 4 and 15"),
        ({"layers": "0", "n_neighbors": 1}, "UMAP needs 5 rows and 2 neighbours; got .* and 1"),
        ({"layers": "9"}, "the store has mlp_out at layers 0, 1, 2; got '9'"),
    ],
)
def test_what_cannot_be_analysed_is_told(planted, choices, message):
    with pytest.raises(InputError, match=message):
        analysed(umap_by_layer, planted, **({"site": "mlp_out"} | choices))


def test_each_layer_is_told_when_it_is_done(planted):
    told = []
    umap_by_layer(planted.view("mlp_out", "2"), loop=Loop(on_hook=told.append))
    assert told == [Hook("mlp_out", 2)]
