"""Nonlinearities by hand; products of what is active are those of everything."""

import pytest
import torch

from cache.errors import InputError
from probes.sae.coding import Nonlinearity, preactivations, slots_of, written, written_active

PRE = torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 0.2, -0.3, -4.0]])
BY_HAND = {
    "relu": (Nonlinearity("relu"), [[1.0, 0.0, 0.5, 3.0], [0.0, 0.2, 0.0, 0.0]]),
    "jumprelu": (
        Nonlinearity("jumprelu", threshold=torch.tensor([1.0, -3.0, 0.4, -1.0])),
        [[0.0, 0.0, 0.5, 3.0], [0.0, 0.2, 0.0, 0.0]],
    ),
    "gated": (
        Nonlinearity("gated", slope=torch.tensor([2.0, 1.0, 1.0, 0.5]), shift=torch.tensor([0.0, 9.0, -1.0, 1.0])),
        [[2.0, 0.0, 0.0, 2.5], [0.0, 9.2, 0.0, 0.0]],
    ),
    "topk": (Nonlinearity("topk", k=2), [[1.0, 0.0, 0.0, 3.0], [0.0, 0.2, 0.0, 0.0]]),
    "abstopk": (Nonlinearity("abstopk", k=2), [[0.0, -2.0, 0.0, 3.0], [-1.0, 0.0, 0.0, -4.0]]),
}


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sparse(n=40, width=300, n_active=6):
    """Values of few features, of either sign."""
    where = torch.rand(n, width, generator=torch.Generator().manual_seed(1)).argsort(dim=1)[:, :n_active]
    return torch.zeros(n, width).scatter_(1, where, drawn(n, n_active))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_nonlinearity_by_hand_leaves_what_it_is_given(name):
    nonlinearity, values = BY_HAND[name]
    given = PRE.clone()
    torch.testing.assert_close(nonlinearity(given), torch.tensor(values))
    assert torch.equal(given, PRE)
    torch.testing.assert_close(nonlinearity.of_own(PRE.clone()), torch.tensor(values))
    assert nonlinearity.by_element == (name not in ("topk", "abstopk"))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_nonlinearity_passes_gradients_to_what_is_active(name):
    pre = PRE.clone().requires_grad_()
    values = BY_HAND[name][0](pre)
    values.sum().backward()
    assert torch.equal(pre.grad != 0, values != 0)


def test_few_features_write_what_all_write():
    features, directions, offset = sparse(), drawn(300, 7), drawn(7, seed=2)
    whole = features.double() @ directions.double() + offset.double()
    torch.testing.assert_close(written(features, directions, offset), whole.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(written(features.double(), directions, offset), whole)
    dense = features + 1  # too many to be written one by one
    torch.testing.assert_close(written(dense, directions, offset), (whole + directions.double().sum(dim=0)).float())
    numbers = features.abs().topk(9, dim=1).indices
    values = features.gather(1, numbers)
    numbers = numbers.masked_fill(values == 0, -1)
    values = values.masked_fill(values == 0, torch.nan)  # of empty slots nothing is looked at
    torch.testing.assert_close(written_active(numbers, values, directions, offset), whole.float(), rtol=1e-5, atol=1e-5)


def test_slopes_of_features_that_are_not_active_are_not_lost():
    features, directions = sparse().requires_grad_(), drawn(300, 7)
    written(features, directions, torch.zeros(7)).sum().backward()
    torch.testing.assert_close(features.grad, directions.sum(dim=1).expand(40, -1))


def test_nothing_active_leaves_the_offset_in_every_row():
    offset = drawn(7)
    for shape in ((3, 300), (2, 0, 300), (300,)):
        assert torch.equal(written(torch.zeros(shape), drawn(300, 7), offset), offset.expand(*shape[:-1], 7))


def test_a_mean_far_larger_than_what_is_read_costs_no_digits():
    centre, encoder = 1e6 * drawn(64).sign(), drawn(64, 20)
    moved = (drawn(5, 64, seed=4) * 16).round() / 16  # which float32 holds beside the centre
    found = preactivations(centre + moved, centre, encoder, torch.zeros(20))
    torch.testing.assert_close(found, moved @ encoder)


def test_another_width_is_refused_even_where_it_would_fit_in_lines():
    weights = torch.zeros(4), drawn(4, 6), torch.zeros(6)
    with pytest.raises(InputError, match="the SAE reads activations of width 4; got 8"):
        preactivations(drawn(3, 8), *weights)
    with pytest.raises(InputError, match="the SAE has 6 features; got values of 12"):
        written(drawn(3, 12), drawn(6, 4), torch.zeros(4))


def test_slots_hold_what_is_active_and_write_the_same():
    features = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    features[features.abs() < 0.8] = 0
    features[4] = 0
    most = int((features != 0).sum(dim=1).max())
    directions, offset = torch.randn(9, 5), torch.randn(5)
    for n_slots in (most, most + 3):
        numbers, values = slots_of(features, n_slots)
        assert numbers.shape == values.shape == (20, n_slots)
        for row, line in enumerate(features):
            active = line.nonzero()[:, 0]
            assert numbers[row].tolist() == [*active.tolist(), *[-1] * (n_slots - len(active))]
            assert values[row].tolist() == [*line[active].tolist(), *[0] * (n_slots - len(active))]
        found = written_active(numbers, values, directions, offset)
        torch.testing.assert_close(found, written(features, directions, offset), rtol=1e-5, atol=1e-5)
