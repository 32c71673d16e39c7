"""Codes of unrelated families: the structure is kept, the directions are the controls', layers hang together."""

import numpy as np
import pytest

from cache.errors import InputError
from geometry.stats.unrelated_codes import (
    draw_directions,
    draw_weights,
    expected_spread,
    relative_sizes,
    root,
    unrelated_codes,
    unrelated_products,
)
from tests.geometry.unrelated_families import KINDS, codes

N_MEMBERS, N_DRAWS = 7, 400


@pytest.fixture(scope="module")
def controls():
    rng = np.random.default_rng(0)
    return [codes(rng, "windowed", N_MEMBERS, 2) for _ in range(20)]


@pytest.fixture(scope="module")
def weights():
    return draw_weights(N_DRAWS, N_MEMBERS, 20 * N_MEMBERS)


@pytest.fixture(scope="module")
def directions(controls, weights):
    return draw_directions([one[0] for one in controls], weights)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_familys_products_on_average_and_its_size_always(kind, directions):
    code = codes(np.random.default_rng(1), kind, N_MEMBERS, 1)[0]
    drawn = unrelated_codes(code, directions)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=(1, 2)), np.linalg.norm(code), rtol=1e-4)
    np.testing.assert_allclose(drawn.sum(axis=1), 0, atol=1e-3 * np.abs(drawn).max())
    mean = np.matmul(drawn, drawn.transpose(0, 2, 1)).mean(axis=0)
    whole = code @ code.T
    assert np.corrcoef(mean.ravel(), whole.ravel())[0, 1] > 0.98


def test_directions_have_the_covariance_of_the_controls_codes(controls, directions):
    pooled = np.concatenate([one[0] for one in controls])
    covariance = pooled.T @ pooled / np.square(pooled).sum()
    rows = directions.drawn.reshape(-1, directions.drawn.shape[2])
    found = directions.axes.T @ (rows.T @ rows / len(rows)) @ directions.axes
    assert np.linalg.norm(found - covariance) < 0.12 * np.linalg.norm(covariance)
    assert np.square(rows).sum(axis=1).mean() == pytest.approx(1, abs=0.02)
    assert directions.spread.sum() == pytest.approx(1)


def test_products_are_those_of_the_codes_made(directions):
    rng = np.random.default_rng(2)
    x, y = (codes(rng, kind, N_MEMBERS, 1)[0] for kind in ("walk", "line"))
    made = unrelated_codes(y, directions) @ directions.axes
    np.testing.assert_allclose(
        unrelated_products(x, y, directions), np.einsum("bmd,md->b", made, x), rtol=1e-3, atol=1e-3
    )


def test_the_expected_spread_is_that_of_many_draws(directions):
    rng = np.random.default_rng(3)
    x, y = (codes(rng, "windowed", N_MEMBERS, 1)[0] for _ in range(2))
    assert unrelated_products(x, y, directions).std() == pytest.approx(expected_spread(x, y, directions), rel=0.12)


def test_draws_of_two_layers_resemble_each_other_as_codes_do(controls, weights):
    x = codes(np.random.default_rng(4), "windowed", N_MEMBERS, 2)
    y = codes(np.random.default_rng(5), "windowed", N_MEMBERS, 2)
    layers = [draw_directions([one[layer] for one in controls], weights) for layer in (0, 1)]
    first, second = (unrelated_products(x[i], y[i], layers[i]) for i in (0, 1))
    assert np.corrcoef(first, second)[0, 1] > 0.5
    other = draw_directions([one[1] for one in controls], draw_weights(N_DRAWS, N_MEMBERS, 20 * N_MEMBERS, seed=1))
    assert abs(np.corrcoef(first, unrelated_products(x[1], y[1], other))[0, 1]) < 0.2


def test_sizes_are_relative_to_their_own_root_mean_square(directions):
    y = codes(np.random.default_rng(6), "line", N_MEMBERS, 1)[0]
    sizes = relative_sizes(y, directions)
    assert np.square(sizes).mean() == pytest.approx(1, rel=1e-4)
    assert sizes.std() > 0.05


def test_a_root_times_itself_is_the_products(controls):
    code = controls[0][0]
    np.testing.assert_allclose(root(code) @ root(code), code @ code.T, rtol=1e-3, atol=1e-3 * np.square(code).sum())


def test_draws_follow_the_seed():
    np.testing.assert_array_equal(draw_weights(3, 2, 4, seed=5), draw_weights(3, 2, 4, seed=5))
    assert (draw_weights(3, 2, 4, seed=5) != draw_weights(3, 2, 4, seed=6)).all()
    assert draw_weights(3, 2, 4).shape == (3, 2, 4)
    with pytest.raises(InputError, match=r"are 1 or more; got 0, 7, 20"):
        draw_weights(0, 7, 20)
