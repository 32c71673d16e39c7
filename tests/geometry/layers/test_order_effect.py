"""Index or word: lists cut by hand, and simulated lists of which it is known whether their order matters."""

import numpy as np
import pytest
import scipy.stats
import torch

from cache.prompts.rules import reordered
from geometry.layers.order_effect import NO_LISTS, OrderedLists, ordered_lists, set_apart, shared_by_list
from geometry.rows.cells import Balance, CellPlan
from geometry.similarity.of_families import matched_products
from geometry.stats.ranks import rank_p_over_layers

CONTEXTS = (
    "quote|0|increasing|length 3",
    "quote|1|increasing|length 3",
    "list|0|increasing|length 3",
    "quote|1|reordered:1|length 3",
    "quote|0|reordered:1|length 3",
    "quote|0|reordered:0|length 3",
    "quote|1|reordered:0|length 3",
    "quote|0|decreasing|length 3",
)


def plan_of(counts, contexts=CONTEXTS, families=("a", "b")):
    chosen = np.ones(1, dtype=bool)
    return CellPlan(families, contexts, tuple(range(counts.shape[2])), np.zeros(1, dtype=np.int64), chosen, counts)


def ones(n_members=4):
    return np.ones((2, len(CONTEXTS), n_members), dtype=np.int64)


def test_lists_are_compared_in_the_frames_and_templates_that_all_have():
    found = ordered_lists(plan_of(ones()), ("a", "b"), (0, 1, 2, 3))
    assert found.lists == tuple(Balance(contexts, (0, 1, 2, 3)) for contexts in ((0, 1), (5, 6), (4, 3)))


def test_members_are_those_of_all_lists():
    counts = ones()
    counts[1, 3, 2] = 0
    assert ordered_lists(plan_of(counts), ("a", "b"), (0, 1, 2)).lists[0].members == (0, 1)
    assert ordered_lists(plan_of(counts), ("a", "b"), (1, 2)) == OrderedLists(())


def test_without_two_contexts_or_a_reordered_list_there_is_nothing_to_set_it_against():
    counts = ones()
    counts[:, 3] = 0
    assert ordered_lists(plan_of(counts), ("a", "b"), (0, 1, 2)) == OrderedLists(())
    increasing = plan_of(np.ones((2, 3, 4), dtype=np.int64), CONTEXTS[:3])
    assert ordered_lists(increasing, ("a", "b"), (0, 1)) == OrderedLists(())
    apart = plan_of(np.ones((2, 4, 4), dtype=np.int64), CONTEXTS[3:7])
    assert ordered_lists(apart, ("a", "b"), (0, 1)) == OrderedLists(())
    assert shared_by_list(torch.zeros(2, 8, 4, 3), plan_of(ones()), ("a", "b"), OrderedLists(())) is NO_LISTS


def test_reordered_lists_are_set_apart_from_what_is_compared():
    kept = set_apart(plan_of(ones())).counts[0, :, 0]
    assert kept.tolist() == [1, 1, 1, 0, 0, 0, 0, 1]
    alone = plan_of(np.ones((2, 4, 4), dtype=np.int64), CONTEXTS[3:7])
    assert set_apart(alone) is alone


def test_what_is_shared_is_the_matched_product_of_each_list():
    cells = torch.from_numpy(np.random.default_rng(0).normal(size=(2, len(CONTEXTS), 4, 6)))
    cells[1] = cells[0] + 0.1 * cells[1]
    plan = plan_of(ones())
    lists = ordered_lists(plan, ("a", "b"), (0, 1, 3))
    found, sums = shared_by_list(cells, plan, ("a", "b"), lists), np.zeros(3)
    for number, contexts in enumerate(((0, 1), (5, 6), (4, 3))):
        x, y = (cells[family][list(contexts)][:, [0, 1, 3]] for family in (0, 1))
        assert found.products[number] == pytest.approx(matched_products(x, y)[0])
        sums += np.array(matched_products(x, y)) * (number > 0)
    own = sums[1] > 0 and sums[2] > 0
    truth = sums[0] / np.sqrt(sums[1] * sums[2]) if own else np.nan
    assert found.reordered == pytest.approx(truth, nan_ok=True)
    first, *rest = found.products
    bound = (first - np.mean(rest) + 1.65 * np.std(rest)) / first if first > 0 else np.nan
    assert found.bound == pytest.approx(bound, nan_ok=True)


def simulated(rng, *, order, n_lists=20, n_members=9, n_layers=3, n_contexts=3, d=40):
    """Products of two spellings of a list: words, pairs of neighbours and, in the increasing list, an order code."""
    ordinals = range(1, n_members + 1)
    circles = [tuple(ordinals), *(reordered(k, ordinals, int(rng.integers(1e9))) for k in range(n_lists - 1))]
    scores = np.empty((n_layers, n_lists))
    word, near = rng.normal(size=(n_members, d)), rng.normal(size=(n_members, n_members, d))
    answer = rng.normal(size=(n_members, d))
    for layer in range(n_layers):
        for number, circle in enumerate(circles):
            code = np.empty((n_members, d))
            for place, member in enumerate(circle):
                code[member - 1] = word[member - 1] + near[circle[place - 1] - 1, member - 1]
            code = code + order * answer * (number == 0)
            code = code[2:]
            sides = [
                torch.from_numpy(code + rng.normal(size=(n_contexts, *code.shape)) + 0.3 * rng.normal(size=code.shape))
                for _ in range(2)
            ]
            scores[layer, number] = matched_products(*sides)[0]
    return scores


def p_of(rng, **choices):
    return float(np.min(rank_p_over_layers(simulated(rng, **choices))))


def test_for_a_list_without_an_order_the_increasing_one_is_highest_once_in_twenty():
    rng = np.random.default_rng(0)
    count = sum(p_of(rng, order=0.0) <= 0.05 for _ in range(200))
    assert scipy.stats.binom.ppf(0.005, 200, 0.03) <= count <= scipy.stats.binom.ppf(0.995, 200, 0.07)


def test_an_order_code_is_found():
    rng = np.random.default_rng(1)
    assert np.mean([p_of(rng, order=1.5) <= 0.05 for _ in range(20)]) > 0.9
