"""Joint moments of pairs of sites: against sums over rows, whatever the memory allowed."""

import numpy as np
import pytest
import torch

from geometry import cross_moments as module
from geometry.cross_moments import cross_moments
from geometry.moments import joint_moments

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
    for (i, j), crossed in found.items():
        x, y = (sites[n].double().numpy() for n in (i, j))
        u, v = x - x.mean(axis=0), y - y.mean(axis=0)
        np.testing.assert_allclose(crossed.joint.cross, u.T @ v, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(crossed.joint.x.scatter, u.T @ u, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(crossed.joint.y.scatter, v.T @ v, rtol=1e-5, atol=1e-3)
        assert crossed.joint.x.n_rows == 500
        squares = (u**2).sum(axis=1), (v**2).sum(axis=1)
        by_hand = squares[0] @ squares[0], squares[1] @ squares[1], squares[0] @ squares[1]
        np.testing.assert_allclose((crossed.norms_x, crossed.norms_y, crossed.norms_xy), by_hand, rtol=1e-5)
        np.testing.assert_allclose(
            crossed.joint.cross, joint_moments([sites[i]], [sites[j]]).cross, rtol=1e-5, atol=1e-3
        )


@pytest.mark.parametrize(("budget", "n_passes"), [(1, 4), (8 * 63, 4), (8 * 63 * 2, 2), (8 * 63 * 4, 1), (1 << 30, 1)])
def test_the_budget_changes_the_passes_and_not_the_values(sites, budget, n_passes, monkeypatch):
    passes, one_pass = [], module._one_pass
    monkeypatch.setattr(module, "_one_pass", lambda *args: passes.append(args[1]) or one_pass(*args))
    whole = dict(cross_moments(sources_of(sites), PAIRS))
    passes.clear()
    found = dict(cross_moments(sources_of(sites), PAIRS, budget=budget))
    assert [len(pairs) for pairs in passes] == [len(PAIRS) // n_passes] * n_passes
    assert list(found) == PAIRS
    for pair in PAIRS:
        np.testing.assert_array_equal(found[pair].joint.cross, whole[pair].joint.cross)
        assert (found[pair].norms_x, found[pair].norms_xy) == (whole[pair].norms_x, whole[pair].norms_xy)


def test_rows_are_asked_for_in_blocks_and_sites_without_a_pair_not_at_all(sites):
    asked = []
    unread = [*sources_of(sites[:2], asked), lambda n: pytest.fail("read in vain")]
    assert len(dict(cross_moments(unread, [(0, 1)]))) == 1
    assert asked == [module.N_ROWS] * 4  # each site once for its own moments and once for the pair
    assert list(cross_moments(unread, [])) == []
