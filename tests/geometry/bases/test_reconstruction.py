"""Explained variance by hand: about the rows' own mean, without the largest dimensions, and by dimension."""

import math

import pytest
import torch

from geometry.bases.reconstruction import Reconstruction, explained_variance


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def counted(x, made, features=None, parts=(1000,)):
    features = x[:, :0] if features is None else features
    found = Reconstruction.empty(x[:3].mean(dim=0), features.shape[1])
    for one in zip(*(torch.split(value, list(parts)) for value in (x, made, features)), strict=True):
        found.add(*one)
    return found.said()


def test_a_perfect_reconstruction_explains_all_and_the_mean_nothing():
    x = drawn(1000, 6) + 1e4
    for made, share in ((x, 1.0), (x.mean(dim=0).expand_as(x), 0.0), (2 * x.mean(dim=0) - x, -3.0)):
        assert explained_variance(x, made) == pytest.approx(share, abs=1e-9)
    for name in ("explained_variance", "without_largest", "median_dimension"):
        assert counted(x, 0.5 * (x + x.mean(dim=0)))[name] == pytest.approx(0.75, abs=1e-9)


def test_three_dimensions_can_carry_it():
    scales = torch.tensor([1.0, 50.0, 1.0, 1.0, 80.0, 1.0, 90.0, 1.0], dtype=torch.float64)
    x = drawn(1000, 8) * scales
    made = x.clone()
    made[:, scales == 1] = 0
    said = counted(x, made)
    assert said["explained_variance"] > 0.99
    assert said["without_largest"] == pytest.approx(0, abs=0.01)
    assert said["median_dimension"] == pytest.approx(0, abs=0.01)


def test_blocks_add_up_to_the_whole_and_lose_no_digits_of_a_far_mean():
    x, error = drawn(1000, 5), 0.3 * drawn(1000, 5, seed=1)
    features = (drawn(1000, 9, seed=2) > 1) * drawn(1000, 9, seed=3)
    whole = counted(x, x + error, features)
    assert counted(x, x + error, features, (1, 99, 0, 900)) == pytest.approx(whole)
    assert counted(x + 1e8, x + 1e8 + error, features)["explained_variance"] == pytest.approx(
        whole["explained_variance"], abs=1e-6
    )
    assert whole["l0"] == pytest.approx(float((features != 0).sum(dim=1).double().mean()))


def test_negative_values_are_active_and_what_never_is_is_dead():
    features = torch.zeros(1000, 4)
    features[::2, 0], features[5, 1] = -1.0, 2.0
    said = counted(drawn(1000, 3), drawn(1000, 3), features)
    assert (said["l0"], said["dead"]) == (pytest.approx(0.501), 0.5)


def test_of_no_rows_or_equal_ones_nothing_is_explained():
    assert all(
        math.isnan(Reconstruction.empty(torch.zeros(4), 2).said()[name]) for name in ("explained_variance", "l0")
    )
    assert math.isnan(explained_variance(torch.ones(5, 4), torch.ones(5, 4)))
    x = drawn(1000, 4) * torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64) + 3
    assert counted(x, x)["median_dimension"] == 1  # dimensions that do not vary have no part in it
