"""Draws vary as the rows do, and are the same for the same seed."""

import numpy as np
import torch

from geometry.stats.draws import gaussian_combinations


def test_draws_have_the_scatter_of_the_rows_and_lie_in_their_span():
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(6, 3)) @ rng.normal(size=(3, 5)))
    drawn = gaussian_combinations(rows, (200, 100), np.random.default_rng(1))
    assert (drawn.shape, drawn.dtype) == ((200, 100, 5), torch.float64)
    scatter = torch.einsum("abi,abj->ij", drawn, drawn) / 20_000
    torch.testing.assert_close(scatter, rows.T @ rows, rtol=0, atol=0.05 * float((rows.T @ rows).abs().max()))
    assert int(torch.linalg.matrix_rank(drawn.reshape(-1, 5))) == 3


def test_weights_hang_on_the_seed_and_the_number_of_rows_alone():
    rows = torch.eye(4)
    first, again, other = (gaussian_combinations(rows, (3,), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    torch.testing.assert_close(gaussian_combinations(2 * rows, (3,), np.random.default_rng(0)), 2 * first)
