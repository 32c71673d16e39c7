"""Index codes compared across contexts: loops over pairs of contexts, planted codes, and what must be seen."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import InputError
from geometry.similarity.of_families import (
    context_products,
    lag_profile,
    matched_cosine,
    member_products,
    nearest_members,
    retrieval,
    shared_share,
)
from tests.geometry.simulate import families

MEASURES = [matched_cosine, shared_share, retrieval]

cases = st.tuples(st.integers(2, 5), st.integers(3, 7), st.integers(3, 12), st.integers(0, 1000))


def rotation(d, seed=0):
    return torch.from_numpy(np.linalg.qr(np.random.default_rng([seed, d]).normal(size=(d, d)))[0])


def pair_of(n_contexts=3, n_members=5, d=8, seed=0):
    x, y = families(cosine=0.6, n_contexts=n_contexts, n_members=n_members, d=max(d, 6), rank=2, seed=seed)
    return x.double(), y.double()


def centred(x):
    return x.numpy() - x.numpy().mean(axis=1, keepdims=True)


def mean_product(x, y, shift=0, members=None):
    """Mean over pairs of different contexts, summed over members i of x and i + shift of y, by loops."""
    x, y = centred(x), centred(y)
    n_contexts, n_members = x.shape[:2]
    members = range(n_members) if members is None else members
    pairs = [(s, t) for s in range(n_contexts) for t in range(n_contexts) if s != t]
    return sum(x[s, i] @ y[t, i + shift] for s, t in pairs for i in members) / len(pairs)


@given(cases)
@settings(deadline=None, max_examples=25)
def test_member_products_are_means_over_pairs_of_different_contexts(case):
    x, y = pair_of(*case)
    a, b, n = centred(x), centred(y), len(x)
    truth = sum(a[s] @ b[t].T for s in range(n) for t in range(n) if s != t) / (n * (n - 1))
    np.testing.assert_allclose(member_products(x, y), truth, atol=1e-12)
    np.testing.assert_allclose(member_products(y, x), truth.T, atol=1e-12)


@given(cases)
@settings(deadline=None, max_examples=25)
def test_matched_cosine_and_shared_share_are_those_sums_over_members(case):
    x, y = pair_of(*case)
    cross, own_x, own_y = mean_product(x, y), mean_product(x, x), mean_product(y, y)
    assert matched_cosine(x, y) == pytest.approx(cross / np.sqrt(own_x * own_y))
    both_ways = (cross + mean_product(y, x)) / 2
    assert shared_share(x, y) == pytest.approx(both_ways / ((own_x + own_y) / 2))


def test_context_products_are_sums_over_members_for_every_pair_of_contexts():
    x, y = pair_of()
    a, b = centred(x), centred(y)
    truth = [[sum(a[s, i] @ b[t, i] for i in range(5)) for t in range(3)] for s in range(3)]
    np.testing.assert_allclose(context_products(x, y), truth, atol=1e-12)


def naive_lookup(x, y):
    """How often each member of x lies nearest each of y's, averaged over all contexts but its own."""
    x, y = centred(x), centred(y)
    n_contexts, n_members = x.shape[:2]
    hits = np.zeros((n_members, n_members))
    for s in range(n_contexts):
        others = np.mean([y[t] for t in range(n_contexts) if t != s], axis=0)
        for i in range(n_members):
            cosines = [x[s, i] @ other / (np.linalg.norm(x[s, i]) * np.linalg.norm(other)) for other in others]
            hits[i, int(np.argmax(cosines))] += 1 / n_contexts
    return hits


@given(cases)
@settings(deadline=None, max_examples=25)
def test_retrieval_looks_every_member_up_among_the_others_mean_over_other_contexts(case):
    x, y = (z + 0.3 * torch.from_numpy(np.random.default_rng(case[3]).normal(size=z.shape)) for z in pair_of(*case))
    truth = (naive_lookup(x, y) + naive_lookup(y, x).T) / 2
    np.testing.assert_allclose(nearest_members(x, y), truth, atol=1e-12)
    assert retrieval(x, y) == pytest.approx(truth.trace() / x.shape[1])
    assert 0 <= retrieval(x, y) <= 1


def test_the_lag_profile_matches_each_member_of_x_with_ys_so_many_places_on():
    x, y = pair_of(n_contexts=4, n_members=6)
    profile = lag_profile(x, y)
    assert len(profile) == 7
    for lag in range(-3, 4):
        members = [i for i in range(6) if 0 <= i + lag < 6]
        own_x, own_y = mean_product(x, x, members=members), mean_product(y, y, members=[i + lag for i in members])
        truth = mean_product(x, y, lag, members) / np.sqrt(own_x * own_y)
        assert profile[lag + 3] == pytest.approx(truth)
    assert profile[3] == pytest.approx(matched_cosine(x, y))
    np.testing.assert_allclose(lag_profile(y, x), profile[::-1])


def test_lags_that_leave_less_than_two_members_have_no_value():
    profile = lag_profile(*pair_of(n_members=4), max_lag=4)
    np.testing.assert_array_equal(np.isnan(profile), [True, True, False, False, False, False, False, True, True])


@pytest.mark.parametrize("shift", [-2, 0, 2])
def test_a_code_that_is_shifted_by_places_peaks_at_that_lag(shift):
    whole = families(n_families=2, n_members=11, seed=4)
    x, y = whole[0, :, 2:9], whole[1, :, 2 - shift : 9 - shift]
    assert int(np.nanargmax(lag_profile(x, y))) - 3 == shift


@pytest.mark.parametrize("measure", MEASURES)
@given(cases)
@settings(deadline=None, max_examples=20)
def test_neither_side_comes_first_and_a_common_order_or_rotation_changes_nothing(measure, case):
    x, y = pair_of(*case)
    value = measure(x, y)
    assert measure(y, x) == pytest.approx(value)
    rng = np.random.default_rng(case[3])
    members, contexts = (torch.from_numpy(rng.permutation(n)) for n in (case[1], case[0]))
    assert measure(x[:, members], y[:, members]) == pytest.approx(value)
    assert measure(x[contexts], y[contexts]) == pytest.approx(value)
    turn = rotation(x.shape[2], case[3])
    assert measure(x @ turn, y @ turn) == pytest.approx(value)


@pytest.mark.parametrize("measure", MEASURES)
def test_whatever_a_whole_context_has_in_common_changes_nothing(measure):
    x, y = pair_of()
    effects = 100 * torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 1, 8)))
    assert measure(x + effects[0], y + effects[1]) == pytest.approx(measure(x, y))
    assert measure(x + effects[0], y + effects[0]) == pytest.approx(measure(x, y))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_rotation_of_one_side_is_seen(measure):
    """What CKA, RSA and Procrustes are blind to: the same shape along other directions is not the same code."""
    x, _ = families(d=128)
    turned = x @ rotation(128).float()
    assert measure(x, x) > 0.95
    assert measure(x, turned) < 0.5


def test_a_code_turned_about_is_at_minus_1():
    x, y = families(noise=0.01)
    assert matched_cosine(x, -y) == pytest.approx(-1, abs=0.01)
    assert shared_share(x, -y) == pytest.approx(-1, abs=0.01)


def test_the_size_of_one_side_is_seen_by_the_share_alone():
    x, y = pair_of(n_contexts=4, n_members=7)
    assert matched_cosine(x, 5 * y) == pytest.approx(matched_cosine(x, y))
    assert retrieval(x, 5 * y) == retrieval(x, y)
    large, small = families(sizes=[3.0, 1.0], noise=0.01)
    assert matched_cosine(large, small) == pytest.approx(1, abs=0.01)
    assert shared_share(large, small) == pytest.approx(2 * 3 / (9 + 1), abs=0.01)


@pytest.mark.parametrize("noise", [0.3, 3.0])
@pytest.mark.parametrize("cosine", [1.0, 0.7, 0.3, 0.0])
def test_a_planted_cosine_is_found_whatever_the_noise(cosine, noise):
    """Noise of three times the code's size halves a plain cosine and more; the ceiling gives it back."""
    for seed in range(5):
        x, y = families(cosine=cosine, noise=noise, seed=seed)
        assert matched_cosine(x, y) == pytest.approx(cosine, abs=0.06)
        assert shared_share(x, y) == pytest.approx(cosine, abs=0.06)
    plain = torch.nn.functional.cosine_similarity(*(torch.from_numpy(centred(z)).flatten(1) for z in (x, y))).mean()
    assert noise == 0.3 or abs(plain - cosine / 4) < 0.1


def test_a_shared_code_is_retrieved_and_a_private_one_at_chance():
    shared, private = (
        np.mean([retrieval(*families(cosine=cosine, noise=0.05, seed=s)) for s in range(20)]) for cosine in (1.0, 0.0)
    )
    assert shared > 0.95
    assert private == pytest.approx(1 / 9, abs=0.08)


def test_words_that_recur_in_the_same_context_alone_make_no_match():
    """The same noise in both families, in each context another: a comparison within contexts would call it shared."""
    x, y = families(cosine=0.0, noise=0.0, n_contexts=20)
    noise = 0.5 * torch.from_numpy(np.random.default_rng(0).normal(size=x.shape).astype(np.float32))
    within = (centred(x + noise) * centred(y + noise)).sum() / (centred(x + noise) ** 2).sum()
    assert within > 0.8
    assert abs(matched_cosine(x + noise, y + noise)) < 0.15


@pytest.mark.parametrize("measure", [matched_cosine, shared_share])
def test_a_float32_mean_of_ten_thousand_times_the_spread_costs_no_digits(measure):
    x, y = ((z + 1e4).float() for z in pair_of())
    assert measure(x, y) == pytest.approx(measure(x.double() - 1e4, y.double() - 1e4), abs=1e-9)


def test_constant_dimensions_take_no_part():
    x, y = pair_of()
    wider = [torch.cat([z, torch.full((3, 5, 2), -777.7, dtype=torch.float64)], dim=2) for z in (x, y)]
    for measure in MEASURES:
        assert measure(*wider) == pytest.approx(measure(x, y))


def test_a_family_without_an_index_effect_has_no_cosine():
    x, _ = pair_of()
    still = x.float()[:, :1].repeat(1, 5, 1)
    assert np.isnan(matched_cosine(x.float(), still))
    assert np.isnan(lag_profile(x.float(), still)).all()
    assert np.isnan(shared_share(still, still))
    assert shared_share(x.float(), still) == 0
    opposite = torch.stack([x[0], -x[0]])  # members differ in each context, and the other way in the next
    assert np.isnan(matched_cosine(opposite, x[:2]))
    assert np.isnan(shared_share(opposite, opposite))


def raw(function):
    """The function as users call it, without the shape checks that run during tests."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("products", [member_products, context_products, nearest_members])
def test_families_of_unlike_sizes_are_refused(products):
    message = "two families need the same contexts, members and width; got 3 contexts of 5 members of width 8 and "
    with pytest.raises(InputError, match=f"^{message}3 contexts of 4 members of width 8$"):
        raw(products)(torch.zeros(3, 5, 8), torch.zeros(3, 4, 8))


@pytest.mark.parametrize("measure", [*MEASURES, lag_profile, member_products, context_products, nearest_members])
def test_one_context_or_one_member_is_refused(measure):
    for shape, size in (((1, 5, 8), "1 contexts of 5"), ((3, 1, 8), "3 contexts of 1")):
        message = f"^a comparison across contexts needs 2 contexts and 2 members; got {size} members of width 8$"
        with pytest.raises(InputError, match=message):
            measure(torch.ones(shape), torch.ones(shape))
