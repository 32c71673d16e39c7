"""Null donors keep a donor's member structure and lie where control codes do; the seed's weights serve everywhere."""

import numpy as np
import torch

from probes.transfer_null import unrelated_steps


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_members_resemble_one_another_on_average_as_the_donors_do():
    """Isotropic controls: the expected products of a draw's steps are those of the donor's, up to scale."""
    code = draw(5, 1, 40)
    code[1] = code[0] + 0.1 * draw(40, seed=3)
    controls = [draw(5, 1, 40, seed=9 + i) for i in range(40)]
    drawn = unrelated_steps(code, controls, start=2, n_draws=2_000, seed=0)[:, :, 0]
    found = torch.einsum("bid,bjd->ij", drawn, drawn)
    steps = (code - code[2])[:, 0]
    truth = steps @ steps.T
    torch.testing.assert_close(found / found.trace(), truth / truth.trace(), atol=0.02, rtol=0)
    assert not drawn[:, 2].any()


def test_steps_lie_in_the_span_of_centred_control_codes():
    span = torch.linalg.qr(draw(12, 3, seed=1))[0].T
    controls = [draw(4, 2, 3, seed=i) @ span + 5 for i in range(3)]
    drawn = unrelated_steps(draw(4, 2, 12, seed=8), controls, start=0, n_draws=3, seed=1)
    assert drawn.shape == (3, 4, 2, 12)
    torch.testing.assert_close(drawn @ span.T @ span, drawn)


def test_the_weights_are_those_of_every_layer_and_place_and_the_seed_draws_them():
    code, controls = draw(4, 1, 12), [draw(4, 1, 12, seed=i) for i in range(3, 6)]
    turned = torch.linalg.qr(draw(12, 12, seed=2))[0]
    one = unrelated_steps(code, controls, start=1, n_draws=2, seed=5)
    other = unrelated_steps(code @ turned, [c @ turned for c in controls], start=1, n_draws=2, seed=5)
    torch.testing.assert_close(one @ turned, other)
    twice = unrelated_steps(code.repeat(1, 2, 1), [c.repeat(1, 2, 1) for c in controls], start=1, n_draws=2, seed=5)
    torch.testing.assert_close(twice[:, :, 0], twice[:, :, 1])
    torch.testing.assert_close(twice[:, :, :1], one)
    assert not np.allclose(one, unrelated_steps(code, controls, start=1, n_draws=2, seed=6))
