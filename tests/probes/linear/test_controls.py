"""Draws in the families' place: any subset is as good as the families, and few controls only describe."""

from math import comb

import numpy as np
import pytest

from probes.linear.controls import control_draws

POOL = [f"control:{i}" for i in range(20)]


def test_of_many_controls_so_many_draws_are_taken_and_none_twice():
    draws, ranked = control_draws(["a", "b", "c"], POOL, 40, 0)
    assert ranked
    assert len(set(draws)) == len(draws) == 40
    assert all(len(set(draw)) == 3 for draw in draws)
    assert ("a", "b", "c") not in draws
    assert draws == control_draws(["a", "b", "c"], POOL, 40, 0)[0] != control_draws(["a", "b", "c"], POOL, 40, 1)[0]


def test_of_one_family_the_draws_are_controls():
    draws, ranked = control_draws(["a"], POOL[:19], 19, 0)
    assert (sorted(draws), ranked) == (sorted((name,) for name in POOL[:19]), True)
    assert not control_draws(["a"], POOL[:18], 19, 0)[1]


def test_few_controls_describe():
    draws, ranked = control_draws(["a", "b", "c"], POOL[:4], 19, 0)
    assert (len(draws), ranked) == (comb(4, 3), False)
    assert control_draws(["a", "b"], POOL[:1], 19, 0) == ((), False)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_families_that_are_like_the_controls_are_above_all_draws_once_in_twenty(size):
    """A score that adds up over families: of controls alone, 4 families of 24 would be so in 8 %."""
    rng, names, passed = np.random.default_rng(0), [f"own:{i}" for i in range(size)], 0
    for seed in range(2_000):
        worth = dict(zip([*names, *POOL], rng.normal(size=size + 20), strict=True))
        draws, _ = control_draws(names, POOL, 19, seed)
        passed += sum(worth[name] for name in names) > max(sum(worth[name] for name in one) for one in draws)
    assert passed / 2_000 == pytest.approx(0.05, abs=0.015)
