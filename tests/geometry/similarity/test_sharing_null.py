"""The null and the interval of what decides: type I and coverage on families like ours, and reliability by hand."""

import sys

import numpy as np
import pytest
import scipy.stats
import torch

from geometry.similarity.of_families import context_products, matched_cosine, matched_products, retrieval
from geometry.similarity.sharing_null import (
    distance_of,
    interval_of_cosine,
    reliability,
    studentised,
    unrelated_cosines,
    unrelated_retrievals,
)
from geometry.stats.ranks import rank_p_over_layers
from geometry.stats.uncertainty import template_bootstrap_se
from geometry.stats.unrelated_codes import draw_directions, draw_weights, expected_spread, mean_code, unrelated_codes
from tests.geometry.unrelated_families import KINDS, cells, codes, mixed
from tests.type_one import in_range
from tests.variants import some

N_CONTROLS = 20
SCORES = {"matched_cosine": studentised, "retrieval": lambda *x: np.append(retrieval(*x[:2]), unrelated_retrievals(*x))}


class World:
    """One draw of controls and of a family at every layer; controls are windowed, whatever the family is."""

    def __init__(self, rng, kind, n_members, n_layers, n_draws=100):
        self.rng, self.kind = rng, kind
        weights = draw_weights(n_draws, n_members, n_members * N_CONTROLS, seed=int(rng.integers(1_000_000)))
        controls = [cells(rng, codes(rng, "windowed", n_members, n_layers)) for _ in range(N_CONTROLS)]
        self.controls = controls
        self.directions = [
            draw_directions([mean_code(one[layer]) for one in controls], weights) for layer in range(n_layers)
        ]
        self.code = codes(rng, kind, n_members, n_layers)
        self.x = cells(rng, self.code)

    def other(self, cosine):
        return cells(self.rng, mixed(self.rng, self.code, self.kind, cosine))

    def p(self, y, measure="matched_cosine"):
        """The smallest p over layers."""
        sides = zip(self.x, y, self.directions, strict=True)
        return np.min(rank_p_over_layers(np.stack([SCORES[measure](*side) for side in sides])))


def p_values(kind, n_members, n_layers, n_worlds, seed=0, measures=tuple(SCORES)):
    """The smallest p over layers of unrelated families in each world, by measure."""
    rng = np.random.default_rng([seed, n_members, n_layers])
    found = {measure: [] for measure in measures}
    for _ in range(n_worlds):
        world = World(rng, kind, n_members, n_layers)
        y = world.other(0.0)
        for measure in measures:
            found[measure].append(world.p(y, measure))
    return {measure: np.array(values) for measure, values in found.items()}


@pytest.mark.parametrize(("n_layers", "n_worlds", "measures"), [(1, 80, tuple(SCORES)), (4, 40, ("matched_cosine",))])
@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_unrelated_families_are_rarely_called_related(kind, n_layers, n_worlds, measures):
    for p in p_values(kind, 7, n_layers, n_worlds, measures=measures).values():
        assert in_range((p <= 0.05).sum(), len(p))
        assert abs(p.mean() - 0.5) < 4 * 0.29 / np.sqrt(n_worlds)  # neither always 1 nor too small


@pytest.mark.slow
@pytest.mark.parametrize(("n_layers", "n_worlds"), [(1, 1000), (8, 500), (30, 200)])
@pytest.mark.parametrize("n_members", [5, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_type_one_error_in_full(kind, n_members, n_layers, n_worlds):
    for measure, p in p_values(kind, n_members, n_layers, n_worlds, seed=1).items():
        rate = f"{(p <= 0.05).mean():.3f} of {n_worlds}"
        sys.stdout.write(f"type I {measure} {kind} n={n_members} layers={n_layers}: {rate}\n")
        assert in_range((p <= 0.05).sum(), len(p))


def coverage(kind, n_members, n_worlds, seed=0):
    """In how many worlds the interval covers a true cosine, by cosine."""
    rng = np.random.default_rng([seed, n_members])
    covered = dict.fromkeys((0.0, 0.5, 0.9), 0)
    for _ in range(n_worlds):
        world = World(rng, kind, n_members, 1)
        for cosine in covered:
            x, (y,) = world.x[0], world.other(cosine)
            error = template_bootstrap_se(
                context_products(x, y), context_products(x, x), context_products(y, y), n_draws=60
            )
            low, high = interval_of_cosine(matched_cosine(x, y), x, y, world.directions[0], error)
            covered[cosine] += int(low <= cosine <= high)
    return covered


@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_intervals_cover_the_true_cosine(kind):
    assert min(coverage(kind, 7, 60).values()) >= scipy.stats.binom.ppf(0.01, 60, 0.93)


@pytest.mark.slow
@pytest.mark.parametrize("n_members", [5, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_coverage_in_full(kind, n_members):
    for cosine, count in coverage(kind, n_members, 1000, seed=1).items():
        sys.stdout.write(f"coverage {kind} n={n_members} true {cosine}: {count / 1000:.3f}\n")
        assert count >= 930


@pytest.mark.parametrize("kind", some(KINDS, "line"))
def test_a_shared_code_is_found(kind):
    rng = np.random.default_rng(3)
    found = []
    for _ in range(12):
        world = World(rng, kind, 7, 2)
        found.append(world.p(world.other(0.8)) <= 0.05)
    assert np.mean(found) >= 0.9


def test_products_that_noise_enters_are_not_taken_for_a_code():
    """The same noise in the same contexts of both families raises the product of their means, not the statistic."""
    rng = np.random.default_rng(4)
    world = World(rng, "independent", 7, 1)
    y = world.other(0.0)[0]
    noise = torch.from_numpy(3 * rng.normal(size=tuple(y.shape)))
    before, after = matched_cosine(world.x[0], y), matched_cosine(world.x[0] + noise, y + noise)
    assert abs(after) < 0.6
    assert abs(before) < 0.6
    code_x, code_y = mean_code(world.x[0] + noise), mean_code(y + noise)
    assert np.vdot(code_x, code_y) / np.linalg.norm(code_x) / np.linalg.norm(code_y) > abs(after)


def test_reliability_is_the_share_of_the_means_variance_that_recurs():
    x = cells(np.random.default_rng(5), codes(np.random.default_rng(5), "walk", 6, 1))[0]
    centred = x - x.mean(dim=1, keepdim=True)
    pairs = [float((centred[i] * centred[j]).sum()) for i in range(8) for j in range(8) if i != j]
    whole = float(centred.mean(dim=0).square().sum())
    assert reliability(x) == pytest.approx(np.mean(pairs) / whole)
    assert reliability(torch.zeros(4, 3, 5)) != reliability(torch.zeros(4, 3, 5))
    assert reliability(x.mean(dim=0).expand(8, -1, -1)) == pytest.approx(1)
    noise = [reliability(torch.from_numpy(np.random.default_rng(s).normal(size=(8, 7, 50)))) for s in range(40)]
    assert abs(np.mean(noise)) < 0.1


def test_a_cosine_of_reliable_codes_cannot_lie_far_above_1():
    rng = np.random.default_rng(6)
    reliable = 0
    for noise in np.linspace(0.5, 2.5, 60):
        x, y = (cells(rng, code, noise=noise)[0] for code in [codes(rng, "walk", 7, 1)] * 2)
        if min(reliability(x), reliability(y)) >= 0.7:
            reliable += 1
            assert matched_cosine(x, y) <= 1 / 0.7
    assert 20 < reliable < 60


def test_unrelated_cosines_are_matched_cosines_of_codes_made():
    rng = np.random.default_rng(7)
    world = World(rng, "line", 7, 1, n_draws=5)
    x, (y,) = world.x[0], world.other(0.0)
    directions = world.directions[0]
    _, own_x, own_y = matched_products(x, y)
    by_hand = [
        np.vdot(mean_code(one), drawn @ directions.axes) / np.sqrt(own_x * own_y)
        for one, other in ((x, y), (y, x))
        for drawn in unrelated_codes(mean_code(other), directions)
    ]
    np.testing.assert_allclose(unrelated_cosines(x, y, directions), by_hand, rtol=1e-3, atol=1e-5)


def test_value_and_draws_are_each_in_the_spread_that_their_own_structure_has():
    rng = np.random.default_rng(7)
    world = World(rng, "line", 7, 1, n_draws=5)
    x, (y,) = world.x[0], world.other(0.3)
    directions, cross = world.directions[0], matched_products(x, y)[0]
    codes_of = mean_code(x), mean_code(y)
    own = np.mean([expected_spread(*way, directions) ** 2 for way in (codes_of, codes_of[::-1])])
    by_hand = [cross / np.sqrt(own)]
    for one, other in (codes_of, codes_of[::-1]):
        for drawn in unrelated_codes(other, directions) @ directions.axes:
            by_hand.append(np.vdot(one, drawn) / expected_spread(one, drawn, directions))
    np.testing.assert_allclose(studentised(x, y, directions), by_hand, rtol=1e-3, atol=1e-5)


def test_unrelated_retrievals_are_those_of_families_made_with_such_codes():
    rng = np.random.default_rng(8)
    world = World(rng, "independent", 5, 1, n_draws=4)
    x, (y,) = world.x[0], world.other(0.0)
    directions = world.directions[0]
    found = unrelated_retrievals(x, y, directions)
    assert found.shape == (8,)
    centred = y - y.mean(dim=1, keepdim=True)
    rest = torch.roll(centred - torch.from_numpy(mean_code(y)), 1, dims=0)
    for drawn, value in zip(unrelated_codes(mean_code(y), directions), found, strict=False):
        code = torch.from_numpy((drawn @ directions.axes).astype(np.float64))
        there = retrieval(x, code.expand(len(x), -1, -1))
        back = retrieval(code + rest, x)
        # one way x is looked up among the code alone, the other way the code with what contexts add among x
        low, high = sorted((there, back))
        assert low - 0.35 <= value <= high + 0.35
        assert 0 <= value <= 1


def test_a_controls_distance_is_in_spreads_of_unrelated_codes():
    rng = np.random.default_rng(9)
    distances = []
    for _ in range(12):
        world = World(rng, "windowed", 7, 1, n_draws=2)
        distances += [distance_of(world.x[0], one[0], world.directions[0]) for one in world.controls]
    assert np.std(distances) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(distances)) < 0.2
    zero = torch.zeros(8, 7, 200, dtype=torch.float64)
    assert np.isnan(distance_of(zero, world.controls[0][0], world.directions[0]))
