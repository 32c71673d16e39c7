"""The company of a value: unrelated codes, interval and controls, and when there is none of them."""

import numpy as np
import pytest
import torch

from geometry.similarity.family_measures import MEASURES
from geometry.similarity.of_families import lag_profile, matched_cosine, retrieval, shared_share
from geometry.similarity.pair_evidence import directions_of, measured, pair_cells, varies, weights_for
from geometry.similarity.sharing_null import distance_of, reliability, unrelated_cosines
from geometry.stats.permutations import member_permutations, own_index_p
from geometry.stats.unrelated_codes import draw_weights
from tests.geometry.unrelated_families import cells, codes, mixed

N_MEMBERS = 6
ORDERS = member_permutations(N_MEMBERS, most=20)


@pytest.fixture(scope="module")
def families():
    rng = np.random.default_rng(0)
    x = codes(rng, "windowed", N_MEMBERS, 1)
    y = mixed(rng, x, "windowed", 0.8)
    return [cells(rng, one, noise=0.5)[0] for one in (x, y, *(codes(rng, "windowed", N_MEMBERS, 1) for _ in range(12)))]


@pytest.fixture(scope="module")
def pair(families):
    x, y, *controls = families
    return pair_cells(
        x, y, controls, directions_of(controls, draw_weights(300, N_MEMBERS, N_MEMBERS * len(controls))), 0
    )


def test_what_all_measures_share_is_of_the_two_families(families, pair):
    x, y = families[:2]
    assert pair.known.own_p == max(own_index_p(x), own_index_p(y))
    assert pair.known.reliability == min(reliability(x), reliability(y))
    np.testing.assert_array_equal(pair.known.lags, lag_profile(x, y))
    assert 0 < pair.known.error < 0.2
    assert pair.directions is not None
    assert pair_cells(x, y, families[2:], None, 0).directions is None


@pytest.mark.parametrize(("name", "value"), [("matched_cosine", matched_cosine), ("shared_share", shared_share)])
def test_a_cosine_and_what_is_proportional_to_it_have_one_null_and_one_interval(families, pair, name, value):
    got, cosine = (measured(MEASURES[one], pair, ORDERS) for one in (name, "matched_cosine"))
    assert got.value == pytest.approx(value(*families[:2]))
    scale = got.value / cosine.value
    np.testing.assert_allclose(got.unrelated, scale * unrelated_cosines(*families[:2], pair.directions), rtol=1e-6)
    assert (got.ci_low, got.ci_high) == pytest.approx((scale * cosine.ci_low, scale * cosine.ci_high))
    assert got.ci_low < got.value < got.ci_high
    assert len(got.unrelated) == 600
    assert got.permuted_mean < got.permuted_max
    np.testing.assert_array_equal(got.distances, cosine.distances)
    assert got.spread == pytest.approx(got.unrelated.std(), rel=0.15)
    assert got.distances[3, 1] == distance_of(pair.y, families[5], pair.directions)
    assert got.controls[3].tolist() == [value(families[0], families[5]), value(families[5], families[1])]


def test_a_count_of_hits_has_no_interval_and_its_controls_lie_in_its_own_null(families, pair):
    got = measured(MEASURES["retrieval"], pair, ORDERS)
    assert got.value == retrieval(*families[:2])
    assert np.isnan([got.ci_low, got.ci_high]).all()
    assert len(got.unrelated) == 400
    np.testing.assert_allclose(got.distances, (got.controls - got.unrelated.mean()) / got.unrelated.std())
    assert got.spread == got.unrelated.std()


def test_measures_that_describe_have_permuted_members_and_controls_only(pair):
    got = measured(MEASURES["cka"], pair, ORDERS)
    assert np.isfinite(got.value)
    assert np.isnan([got.ci_low, got.ci_high]).all()
    assert len(got.unrelated) == 0
    assert got.permuted_mean < got.permuted_max
    assert np.isfinite(got.controls).all()
    assert np.isnan(got.distances).all()


def test_codes_that_do_not_recur_have_no_value_in_a_measure_that_decides(families):
    rng = np.random.default_rng(1)
    noisy = [one + 20 * torch.from_numpy(rng.normal(size=tuple(one.shape))) for one in families]
    pair = pair_cells(noisy[0], families[1], [families[2], noisy[3], families[4]], None, 0)
    assert pair.known.reliability < 0.7
    got = measured(MEASURES["matched_cosine"], pair, ORDERS)
    assert np.isnan(got.value)
    assert np.isnan([got.permuted_mean, got.permuted_max]).all()
    assert np.isnan(got.controls).all(axis=1).tolist() == [False, True, False]
    assert np.isfinite(measured(MEASURES["cka"], pair, ORDERS).value)


def test_without_enough_controls_there_is_a_value_alone(families):
    pair = pair_cells(families[0], families[1], families[2:5], None, 0)
    got = measured(MEASURES["matched_cosine"], pair, ORDERS)
    assert got.value == matched_cosine(*families[:2])
    assert len(got.unrelated) == 0
    assert np.isnan([got.ci_low, got.ci_high]).all()
    assert [weights_for(3, 5, n, seed=0) is None for n in (9, 10)] == [True, False]
    assert weights_for(0, 5, 10, seed=0) is None


def test_below_five_members_there_is_no_interval(families):
    few = [one[:, :4] for one in families]
    pair = pair_cells(few[0], few[1], few[2:], directions_of(few[2:], draw_weights(50, 4, 48)), 0)
    got = measured(MEASURES["matched_cosine"], pair, member_permutations(4))
    assert len(got.unrelated) == 100
    assert np.isnan([got.ci_low, got.ci_high]).all()


def test_a_family_whose_members_are_all_alike_has_nothing_to_compare(families):
    still = families[0][:, :1].expand(-1, N_MEMBERS, -1).contiguous()
    assert not varies(still)
    pair = pair_cells(still, families[1], families[2:4], None, 0)
    assert np.isnan([pair.known.own_p, pair.known.reliability]).all()
    for name in ("matched_cosine", "cka"):
        assert np.isnan(measured(MEASURES[name], pair, ORDERS).value)
