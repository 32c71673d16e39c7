"""Null donors: where control codes lie, and structured as the donor or as controls are; one draw for all layers."""

import pytest
import torch

from probes.transfer.donors import unrelated_donors, unrelated_subspaces


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_members_resemble_one_another_on_average_as_the_donors_do():
    """Isotropic controls: the expected products of a draw are those of the donor, at the donor's size."""
    code = draw(5, 40)
    code[1] = code[0] + 0.1 * draw(40, seed=3)
    drawn = unrelated_donors(code, [draw(5, 40, seed=9 + i) for i in range(40)], 2_000, 0)
    centred = code - code.mean(dim=0)
    found, truth = torch.einsum("bid,bjd->ij", drawn, drawn), centred @ centred.T
    torch.testing.assert_close(found / found.trace(), truth / truth.trace(), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.flatten(1).norm(dim=1), centred.norm().expand(2_000), rtol=1e-4, atol=0)


def test_codes_lie_in_the_span_of_centred_control_codes():
    span = torch.linalg.qr(draw(12, 3, seed=1))[0].T
    controls = [draw(4, 3, seed=i) @ span + 5 for i in range(10)]
    for drawn in (
        unrelated_donors(draw(4, 12, seed=8), controls, 3, 1),
        torch.stack(unrelated_subspaces(controls, 2, 3, 1)),
    ):
        torch.testing.assert_close(drawn @ span.T @ span, drawn)


def test_the_weights_are_those_of_every_layer_and_place_and_the_seed_draws_them():
    code, controls = draw(4, 12), [draw(4, 12, seed=i) for i in range(3, 15)]
    turned = torch.linalg.qr(draw(12, 12, seed=2))[0]
    rotated = [c @ turned for c in controls]
    one, other = unrelated_donors(code, controls, 2, 5), unrelated_donors(code @ turned, rotated, 2, 5)
    torch.testing.assert_close(one @ turned, other, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one, unrelated_donors(code, controls, 2, 6))
    for basis, there in zip(unrelated_subspaces(controls, 2, 3, 5), unrelated_subspaces(rotated, 2, 3, 5), strict=True):
        torch.testing.assert_close((basis @ turned).T @ basis @ turned, there.T @ there)
        torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    assert not torch.allclose(*(unrelated_subspaces(controls, 2, 1, seed)[0] for seed in (5, 6)))


def test_a_draws_subspace_is_that_of_a_combination_of_whole_codes():
    """Controls whose members differ along one line each: every draw's members differ along one line."""
    line = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    controls = [line * draw(1, 12, seed=i) for i in range(10)]
    span = torch.cat([control[:1] for control in controls])
    coordinates = torch.stack([one[0] for one in unrelated_subspaces(controls, 1, 400, 0)]) @ torch.linalg.pinv(span)
    spread = (coordinates / coordinates.norm(dim=1, keepdim=True)).square().mean(dim=0)
    torch.testing.assert_close(spread, torch.full((10,), 0.1, dtype=torch.float64), atol=0.02, rtol=0)


@pytest.mark.parametrize("n_members", [5, 4])
def test_of_fewer_than_ten_controls_of_the_same_members_there_is_no_null(n_members):
    controls = [draw(5, 12, seed=i) for i in range(9)] + [draw(n_members, 12, seed=9)]
    assert len(unrelated_subspaces(controls, 2, 3, 0)) == (3 if n_members == 5 else 0)
    assert unrelated_subspaces(controls[:9], 2, 3, 0) == ()
    assert unrelated_subspaces([torch.zeros(5, 12).double()] * 10, 2, 3, 0) == ()
    assert len(unrelated_donors(draw(5, 12), controls, 3, 0)) == 3
    assert (
        len(unrelated_donors(draw(5, 12), controls[:9], 3, 0))
        == len(unrelated_donors(draw(5, 12), controls, 0, 0))
        == 0
    )
