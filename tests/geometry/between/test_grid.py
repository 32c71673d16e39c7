"""Grids of layers: which resamples they are computed on. Their values are held to loops in test_layers.py."""

import numpy as np

from geometry.between.grid import N_PERMUTATIONS, resamples


def test_all_rows_come_first_then_orders_of_one_side_then_each_unit_left_out():
    units = np.array([3, 1, 3, 2, 2])
    made = resamples(units, seed=0)
    assert len({one.name for one in made}) == len(made) == 1 + N_PERMUTATIONS - 1 + 3
    assert (made[0].rows, made[0].order) == (None, None)
    orders = [one for one in made if one.order is not None]
    assert all(sorted(one.order) == list(range(5)) and one.rows is None for one in orders)
    left_out = {one.name: one.rows.tolist() for one in made if one.rows is not None}
    assert left_out == {"without 1": [0, 2, 3, 4], "without 2": [0, 1, 2], "without 3": [1, 3, 4]}


def test_the_seed_draws_the_orders_and_nothing_else():
    units = np.arange(6)
    one, same, other = (resamples(units, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.order, b.order) for a, b in zip(one, same, strict=True) if a.order is not None)
    assert not all(np.array_equal(a.order, b.order) for a, b in zip(one, other, strict=True) if a.order is not None)
    assert [a.name for a in one] == [b.name for b in other]
