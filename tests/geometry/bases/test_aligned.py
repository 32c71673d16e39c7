"""Components that were exchanged and turned round are drawn as if they had not been."""

import numpy as np
import pytest

from geometry.bases.aligned import aligned

ROWS = np.random.default_rng(0).normal(size=(40, 3)) * [3, 2, 1]


def planted(order, signs, *, noise=0.3):
    """Layers that show the same rows, with a little noise, in other orders and the other way round."""
    rng = np.random.default_rng(1)
    layers = [(ROWS + noise * rng.normal(size=ROWS.shape))[:, o] * s for o, s in zip(order, signs, strict=True)]
    return np.stack(layers)


def test_what_was_planted_is_undone_layer_by_layer():
    orders = [[0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 2, 1]]
    signs = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, 1], [-1, -1, -1]])
    scores = planted(orders, signs)
    order, turned = aligned(scores)
    for layer, o, s in zip(scores, order, turned, strict=True):
        np.testing.assert_allclose(layer[:, o] * s, ROWS, atol=1.5)
        assert (np.diag(np.corrcoef((layer[:, o] * s).T, ROWS.T)[:3, 3:]) > 0.9).all()
    np.testing.assert_array_equal(order[1], np.argsort(orders[1]))
    np.testing.assert_array_equal(turned[3][[0, 2, 1]], signs[3])


def test_a_drift_is_followed_step_by_step_where_the_ends_have_nothing_in_common():
    """Turned by a right angle over ten layers: the last is orthogonal to the first and still goes on from its own."""
    u, v = np.linalg.qr(ROWS[:, :2] - ROWS[:, :2].mean(axis=0))[0].T
    angles = np.linspace(0, np.pi / 2, 10)
    plain = np.stack([np.stack([np.cos(a) * u + np.sin(a) * v, np.cos(a) * v - np.sin(a) * u], axis=1) for a in angles])
    flipped = plain * np.where(np.arange(10) % 2, -1, 1)[:, None, None]
    order, signs = aligned(flipped)
    drawn = np.stack([layer[:, o] * s for layer, o, s in zip(flipped, order, signs, strict=True)])
    np.testing.assert_allclose(drawn, plain, atol=1e-9)


def test_what_is_not_negative_changes_places_and_is_not_turned():
    scores = np.abs(planted([[0, 1, 2], [2, 0, 1]], np.ones((2, 3)), noise=0))
    order, signs = aligned(scores, turned=False)
    np.testing.assert_array_equal(scores[1][:, order[1]], scores[0])
    assert (signs == 1).all()


@pytest.mark.parametrize("empty", [0, 1])
def test_a_layer_without_variance_is_passed_over(empty):
    scores = planted([[0, 1, 2]] * 3, [[1, 1, 1], [-1, -1, -1], [-1, 1, -1]])
    scores[empty] = 7
    order, signs = aligned(scores)
    np.testing.assert_array_equal(order, [[0, 1, 2]] * 3)
    assert signs[empty].tolist() == [1, 1, 1]
    before = 1 - empty
    assert (signs[2] * signs[before]).tolist() == ([1, -1, 1] if before else [-1, 1, -1])


def test_a_single_layer_and_a_single_component_stay_as_they_are():
    order, signs = aligned(ROWS[None, :, :1])
    assert (order.tolist(), signs.tolist()) == ([[0]], [[1]])
