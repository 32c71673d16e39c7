"""Measures of layer against layer: from prepared rows and from moments they are the measures of `similarity`."""

import numpy as np
import pytest
import torch

from geometry.bases.canonical import svcca
from geometry.similarity.layer_measures import GRID_MEASURES
from geometry.similarity.of_rows import linear_cka, linear_cka_debiased, procrustes
from geometry.stats.cross_moments import cross_moments, norm_products

TRUE = {"cka": linear_cka, "cka_debiased": linear_cka_debiased, "svcca": svcca, "procrustes": procrustes}


def pair_of(n_rows, d_x, d_y, seed=0, noise=1.0):
    rng = np.random.default_rng([seed, n_rows, d_x, d_y])
    shared = rng.normal(size=(n_rows, 3)) * (5, 3, 2)
    return [
        torch.from_numpy(
            (shared @ rng.normal(size=(3, d)) + noise * rng.normal(size=(n_rows, d)) + 4).astype(np.float32)
        )
        for d in (d_x, d_y)
    ]


def by_rows(name, x, y):
    measure = GRID_MEASURES[name]
    return measure.combine(measure.prepare(x), measure.prepare(y))


def by_moments(name, x, y):
    sources = [lambda n, z=z: iter(torch.split(z, 17)) for z in (x, y)]
    joint = dict(cross_moments(sources, [(0, 1)]))[0, 1]
    return GRID_MEASURES[name].from_moments(joint, norm_products(sources))


def test_there_is_an_oracle_for_every_measure():
    assert set(GRID_MEASURES) == set(TRUE)


@pytest.mark.parametrize("name", TRUE)
@pytest.mark.parametrize("shape", [(60, 8, 11), (60, 11, 8), (12, 30, 25), (12, 30, 5)])
def test_rows_and_moments_give_the_measure_of_similarity(name, shape):
    x, y = pair_of(*shape)
    truth = TRUE[name](x, y)
    assert 0.3 < truth < 0.9999
    assert by_rows(name, x, y) == pytest.approx(truth, abs=1e-9)
    assert by_moments(name, x, y) == pytest.approx(truth, abs=2e-5)


@pytest.mark.parametrize("name", TRUE)
def test_a_turn_a_scale_and_a_shift_change_nothing(name):
    x, y = pair_of(60, 8, 11)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(1).normal(size=(11, 11)))[0]).float()
    for way in (by_rows, by_moments):
        assert way(name, x, 3 * y @ turn - 7) == pytest.approx(way(name, x, y), abs=1e-5)
        assert way(name, y, 3 * y @ turn - 7) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", TRUE)
def test_rows_that_are_all_equal_have_no_similarity(name):
    x, y = pair_of(30, 8, 11)
    equal = y[:1].repeat(30, 1)
    for way in (by_rows, by_moments):
        assert np.isnan(way(name, x, equal))
        assert np.isnan(way(name, equal, x))
        assert np.isnan(way(name, equal, equal))


def test_debiased_cka_of_unrelated_rows_is_0_on_average_and_cka_is_not():
    rng = np.random.default_rng(0)
    values = {"cka": [], "cka_debiased": []}
    for _ in range(60):
        x, y = (torch.from_numpy(rng.normal(size=(20, 30))).float() for _ in range(2))
        for name, found in values.items():
            found.append(by_moments(name, x, y))
    assert np.mean(values["cka"]) > 0.5
    assert abs(np.mean(values["cka_debiased"])) < 3 * np.std(values["cka_debiased"]) / np.sqrt(60)
