"""Batches: each pool in its share, every row once a turn in another order, and the same from any batch on."""

from itertools import islice

import numpy as np
import pytest
import torch

from cache.errors import InputError
from probes.sae_training import batches as module
from probes.sae_training.batches import batches
from tests.probes.sae_training.stores import HOOK, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store, _ = make_store(tmp_path_factory.mktemp("batches") / "store.h5")
    with store:
        yield store


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", 7)
    monkeypatch.setattr(module, "AT_ONCE", 5)


def rows_of(store, x):
    """Which rows of the store these activations are."""
    known = {one.numpy().tobytes(): row for row, one in enumerate(store.load(HOOK))}
    return [known[one.numpy().tobytes()] for one in x]


def pools(store):
    rows = np.arange(len(store.rows))
    return {"text": (rows[10:400:2], 13), "sequences": (rows[500:700], 5)}


def some(store, count, **choices):
    hooks = [store.site(HOOK), store.site(("resid_post", 2))]
    return list(islice(batches(store, hooks, pools(store), **choices), count))


def test_each_pool_gives_its_share_and_the_same_rows_at_every_site(store):
    other = store.load(("resid_post", 2))
    for batch in some(store, 4):
        first, second = batch.values()
        rows = rows_of(store, first)
        assert all(10 <= row < 400 and row % 2 == 0 for row in rows[:13])
        assert all(500 <= row < 700 for row in rows[13:])
        assert len(rows) == 18
        assert torch.equal(second, other[rows])


def test_every_row_comes_once_a_turn_and_each_turn_has_its_own_order(store):
    rows = np.concatenate([rows_of(store, next(iter(batch.values())))[:13] for batch in some(store, 45)])
    assert len(rows) == 585  # three turns of 195 rows
    turns = rows.reshape(3, 195)
    for turn in turns:
        assert sorted(turn) == list(range(10, 400, 2))
    assert not np.array_equal(turns[0], turns[1])
    assert np.abs(np.diff(turns[0])).mean() > 20  # neighbours in the file are not neighbours here


@pytest.mark.parametrize("start", [1, 7, 15, 40])
def test_it_goes_on_from_any_batch(store, start):
    whole = some(store, start + 3, seed=4)
    for here, there in zip(some(store, 3, seed=4, start=start), whole[start:], strict=True):
        assert all(torch.equal(here[hook], there[hook]) for hook in there)


def test_the_seed_decides_the_order(store):
    (one,), (other,), (again,) = some(store, 1), some(store, 1, seed=1), some(store, 1)
    hook = store.site(HOOK)
    assert torch.equal(one[hook], again[hook])
    assert not torch.equal(one[hook], other[hook])


def test_no_more_rows_are_read_than_are_mixed(store, monkeypatch):
    read = []
    load = type(store).load
    monkeypatch.setattr(
        type(store), "load", lambda self, hook, where: read.append(where.sum()) or load(self, hook, where)
    )
    some(store, 6)
    assert max(read) <= module.STRETCH * module.AT_ONCE


@pytest.mark.parametrize("pool", [(np.arange(0), 3), (np.arange(5), 0)])
def test_a_pool_without_rows_is_refused(store, pool):
    with pytest.raises(InputError, match="a batch needs rows of every pool"):
        next(batches(store, [store.site(HOOK)], {"text": pool}))
