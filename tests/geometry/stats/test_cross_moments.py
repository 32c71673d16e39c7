"""Joint moments of pairs of sites: against sums over rows, whatever the memory allowed."""

import numpy as np
import pytest
import torch

from cache.errors import InputError, NumbersError
from geometry.stats import cross_moments as module
from geometry.stats.cross_moments import cross_moments, norm_products

WIDTHS = (7, 5, 9, 7)


@pytest.fixture(scope="module")
def sites():
    """Four sites of 500 rows that correlate, with means a thousand times their spread."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(500, 4))
    return [
        torch.from_numpy((shared @ rng.normal(size=(4, d)) + rng.normal(size=(500, d)) + 1000 * i).astype(np.float32))
        for i, d in enumerate(WIDTHS)
    ]


def sources_of(sites, passes=None):
    """Sites that come in blocks of at most 64 rows, and count how often they are read."""

    def source(x, n):
        if passes is not None:
            passes.append(n)
        return iter(torch.split(x, min(n, 64)))

    return [lambda n, x=x: source(x, n) for x in sites]


PAIRS = [(0, 1), (0, 2), (3, 1), (2, 3)]


def test_moments_of_every_pair_are_those_of_its_rows(sites):
    found = dict(cross_moments(sources_of(sites), PAIRS))
    assert list(found) == PAIRS
    for (i, j), joint in found.items():
        x, y = (sites[n].double().numpy() for n in (i, j))
        u, v = x - x.mean(axis=0), y - y.mean(axis=0)
        np.testing.assert_allclose(joint.cross, u.T @ v, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(joint.x.scatter, u.T @ u, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(joint.y.scatter, v.T @ v, rtol=1e-5, atol=1e-3)
        assert joint.x.n_rows == 500


@pytest.mark.parametrize(("budget", "n_passes"), [(1, 4), (8 * 63, 4), (8 * 63 * 2, 2), (8 * 63 * 4, 1), (1 << 30, 1)])
def test_the_budget_changes_the_passes_and_not_the_values(sites, budget, n_passes, monkeypatch):
    passes, one_pass = [], module._one_pass
    monkeypatch.setattr(module, "_one_pass", lambda *args: passes.append(args[1]) or one_pass(*args))
    whole = dict(cross_moments(sources_of(sites), PAIRS))
    passes.clear()
    found = dict(cross_moments(sources_of(sites), PAIRS, budget=budget))
    between = [[pair for pair in pairs if pair[0] != pair[1]] for pairs in passes]
    assert [len(pairs) for pairs in between] == [len(PAIRS) // n_passes] * n_passes
    assert list(found) == PAIRS
    for pair in PAIRS:
        for side in ("x", "y"):
            np.testing.assert_array_equal(getattr(found[pair], side).scatter, getattr(whole[pair], side).scatter)
        np.testing.assert_array_equal(found[pair].cross, whole[pair].cross)


def test_rows_are_asked_for_in_blocks_and_sites_without_a_pair_not_at_all(sites):
    asked = []
    unread = [*sources_of(sites[:2], asked), lambda n: pytest.fail("read in vain")]
    assert len(dict(cross_moments(unread, [(0, 1)]))) == 1
    assert asked == [module.N_ROWS] * 4  # each site once for its width and once for its rows
    assert list(cross_moments(unread, [])) == []


def test_norm_products_are_those_of_a_loop_over_rows(sites):
    squares = np.stack([((z := x.double().numpy()) - z.mean(axis=0)).__pow__(2).sum(axis=1) for x in sites])
    np.testing.assert_allclose(norm_products(sources_of(sites)), squares @ squares.T, rtol=1e-5)


@pytest.mark.parametrize("work", [lambda sources: dict(cross_moments(sources, [(0, 1)])), norm_products])
def test_values_that_are_not_finite_and_sites_without_rows_are_refused(sites, work):
    spoilt = sites[1].clone()
    spoilt[300, 2] = float("inf")
    with pytest.raises(NumbersError, match="not all finite"):
        work(sources_of([sites[0], spoilt]))
    with pytest.raises(InputError, match="there is no row"):
        norm_products([lambda n: iter(())])
