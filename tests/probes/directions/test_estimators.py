"""Directions that were planted are found, and have the length of the mean difference."""

import numpy as np
import pytest
import torch

from cache.errors import InputError
from probes.directions.estimators import (
    METHODS,
    lda,
    logistic,
    mean_difference,
    mean_differences,
    mean_only,
    principal_difference,
    random_steps,
)

CONTRASTING = ["mean_difference", "pca", "logistic", "lda"]


def planted(n=8, d=64, size=2.0, noise=0.02, nuisance=5.0, rank=5, seed=0):
    """Pairs that share a strong nuisance, orthogonal to the one direction in which they differ."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0]
    v = frame[0]
    x = nuisance * rng.normal(size=(n, rank)) @ frame[1 : 1 + rank] + 20 * frame[10]
    y = x + size * v + noise * rng.normal(size=(n, d))
    return torch.from_numpy(x).float(), torch.from_numpy(y).float(), torch.from_numpy(v)


def along(a, b):
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", CONTRASTING)
def test_a_planted_direction_is_found_from_eight_pairs_in_64_dimensions(method, seed):
    """The nuisance is orthogonal to it: else a classifier does well to turn away, which is its own right answer."""
    x, y, v = planted(seed=seed)
    assert along(METHODS[method](x, y), v) > 0.99
    assert along(METHODS[method](y, x), v) < -0.99


@pytest.mark.parametrize("method", CONTRASTING)
def test_noise_of_the_pairs_own_averages_out(method):
    """Differences of 2 with noise of length 0.8: 200 pairs find it, wherever the common noise points."""
    x, y, v = planted(n=200, noise=0.1)
    assert along(METHODS[method](x, y), v) > 0.99


@pytest.mark.parametrize("method", CONTRASTING)
def test_the_length_is_that_of_the_mean_difference_whatever_the_method(method):
    x, y, _ = planted(noise=0.5)
    truth = (y - x).mean(dim=0).norm()
    torch.testing.assert_close(METHODS[method](x, y).norm(), truth, rtol=1e-5, atol=0)


def test_the_mean_difference_is_the_mean_of_the_differences_also_of_massive_activations():
    x, y, _ = planted()
    torch.testing.assert_close(mean_difference(x, y), (y - x).mean(dim=0), rtol=1e-4, atol=1e-5)
    far = torch.full((8, 64), 3e4)
    torch.testing.assert_close(mean_difference(x + far, y + far), (y + far - (x + far)).mean(dim=0))


def test_mean_only_is_the_mean_of_the_target_alone():
    x, y, _ = planted()
    torch.testing.assert_close(mean_only(x, y), y.mean(dim=0))
    assert torch.equal(mean_only(torch.zeros_like(x), y), mean_only(x, y))


@pytest.mark.parametrize("seed", range(8))
def test_the_sign_of_the_principal_difference_is_that_of_most_pairs(seed):
    x, y, v = planted(seed=seed)
    flipped = y.clone()
    flipped[:2] = x[:2] - (y[:2] - x[:2])  # two of eight pairs point the other way
    assert along(principal_difference(x, flipped), v) > 0.99


def test_the_principal_difference_is_the_first_eigenvector_of_the_uncentred_differences():
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=(20, 6))).float() for _ in range(2))
    y = y + 1
    differences = (y - x).double().numpy()
    first = np.linalg.eigh(differences.T @ differences)[1][:, -1]
    assert abs(along(principal_difference(x, y), torch.from_numpy(first))) == pytest.approx(1, abs=1e-6)


def test_logistic_and_lda_are_sklearns_in_all_dimensions():
    """They are fitted in the rows' own space; a fit in all dimensions, at the same scale, gives the same direction."""
    from sklearn.linear_model import LogisticRegression

    x, y, _ = planted(n=12, noise=1.0)
    rows, labels = torch.cat([x, y]).double().numpy(), np.repeat([0, 1], 12)
    rows = rows - rows.mean(axis=0)
    rows /= np.sqrt((rows**2).sum() / len(rows))
    full = LogisticRegression(max_iter=10_000, tol=1e-10).fit(rows, labels)
    assert along(logistic(x, y), torch.from_numpy(full.coef_[0])) > 0.9999


def test_lda_turns_away_from_the_noise_within_groups_where_the_mean_difference_does_not():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(300, 4)) * [1, 5, 1, 1])
    y = torch.from_numpy(rng.normal(size=(300, 4)) * [1, 5, 1, 1]) + torch.tensor([2.0, 2.0, 0, 0])
    truth = torch.tensor([2.0, 2.0 / 25, 0, 0])
    assert along(lda(x.float(), y.float()), truth) > 0.98
    assert along(mean_difference(x.float(), y.float()), truth) < 0.95


@pytest.mark.parametrize("method", ["logistic", "lda"])
def test_groups_without_any_difference_are_refused(method):
    with pytest.raises(InputError, match="all activations are the same, so nothing tells the groups apart"):
        METHODS[method](torch.ones(4, 5), torch.ones(4, 5))


def test_a_mean_difference_over_chosen_pairs_is_that_of_these_pairs_alone():
    x, y, _ = planted(noise=0.5)
    keep = np.random.default_rng(0).random((6, len(x))) < 0.5
    keep[0] = False
    found = mean_differences(x, y, keep)
    assert not found[0].any()
    for step, mask in zip(found[1:], keep[1:], strict=True):
        torch.testing.assert_close(step, (y.double() - x.double())[torch.from_numpy(mask)].mean(dim=0))


def test_random_steps_vary_as_the_rows_of_both_groups_do_about_their_means():
    """A thousandfold difference between the groups is not in them."""
    x, y, v = planted(n=40, noise=0.5, size=1000.0)
    drawn = random_steps(x, y, 4000, np.random.default_rng(0))
    rows = torch.cat([x - x.mean(dim=0), y - y.mean(dim=0)]).double()
    torch.testing.assert_close(drawn.square().mean(dim=0).sum(), rows.square().sum(), rtol=0.1, atol=0)
    assert float((drawn @ v).abs().max()) < 100
