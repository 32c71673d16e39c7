"""Null donors: what the donor and the controls could have been, structured as the donor is; one draw for all layers."""

import pytest
import torch

from probes.directions.codes import IndexCodes
from probes.transfer.donors import unrelated_donors, unrelated_to


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(code):
    return code - code.mean(dim=-2, keepdim=True)


LINE = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("controls", ["independent", "line"])
def test_members_resemble_one_another_on_average_as_the_donors_do(controls):
    """Whatever structure the controls have: here one of their own, or none."""
    code = draw(5, 40)
    code[1] = code[0] + 0.1 * draw(40, seed=3)
    made = [draw(5, 40, seed=9 + i) for i in range(40)]
    if controls == "line":
        made = [0.3 * one + LINE * draw(1, 40, seed=100 + i) for i, one in enumerate(made)]
    drawn = unrelated_donors(code, made, 2_000, 0)
    found, truth = torch.einsum("bid,bjd->ij", drawn, drawn), centred(code) @ centred(code).T
    torch.testing.assert_close(found / found.trace(), truth / truth.trace(), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.flatten(1).norm(dim=1), centred(code).norm().expand(2_000))


def test_a_draw_is_a_combination_of_whole_codes_the_donors_among_them_all_alike():
    """Codes along one line each: so are draws, and every family has the same share in them."""
    code, controls = LINE * draw(1, 30, seed=99), [LINE * 7 * draw(1, 30, seed=i) for i in range(12)]
    drawn = unrelated_donors(code, controls, 4_000, 0)
    steps = drawn[:, 4] - drawn[:, 0]
    torch.testing.assert_close(drawn, LINE * steps[:, None] / 2)
    families = torch.stack([one[4] / one[4].norm() for one in (code, *controls)])
    shares = (steps @ torch.linalg.pinv(families)).square()
    torch.testing.assert_close(
        (shares / shares.sum(dim=1, keepdim=True)).mean(dim=0), torch.full((13,), 1 / 13).double(), atol=0.01, rtol=0
    )


def test_the_weights_are_those_of_every_layer_and_place_and_the_seed_draws_them():
    code, controls = draw(4, 12), [draw(4, 12, seed=i) for i in range(3, 15)]
    turned = torch.linalg.qr(draw(12, 12, seed=2))[0]
    one, other = (unrelated_donors(code @ t, [c @ t for c in controls], 2, 5) for t in (torch.eye(12).double(), turned))
    torch.testing.assert_close(one @ turned, other)
    assert not torch.allclose(one, unrelated_donors(code, controls, 2, 6))


def test_of_fewer_than_ten_controls_there_is_no_null_and_where_members_are_alike_it_is_zero():
    code, controls = draw(5, 12), [draw(5, 12, seed=i) for i in range(1, 11)]
    assert unrelated_donors(code, controls, 3, 0).shape == (3, 5, 12)
    assert unrelated_donors(code, controls[:9], 3, 0).shape == (0, 5, 12)
    assert unrelated_donors(code, controls, 0, 0).shape == (0, 5, 12)
    alike = draw(1, 12).expand(5, 12) + 1e-15 * draw(5, 12, seed=3)
    for own, others in ((alike, controls), (code, [*controls[:9], alike])):
        torch.testing.assert_close(unrelated_donors(own, others, 3, 0), torch.zeros(3, 5, 12).double())


def codes(name, members, seed):
    return IndexCodes(name, ("a", "b", "c"), tuple(members), draw(3, len(members), 2, 12, seed=seed))


def test_controls_lend_the_donors_members_and_those_without_them_or_the_donor_itself_do_not():
    donor, whole = codes("d", (3, 5), 0), [codes(f"control:{i}", (2, 3, 4, 5), i) for i in range(1, 11)]
    drawn = unrelated_to(donor, [codes("d", (3, 5), 90), *whole, codes("control:10", (3, 4), 91)], "b", 1, 3, 0)
    means = [one.cells[[0, 2]].mean(dim=0)[:, 1] for one in (donor, *whole)]
    torch.testing.assert_close(drawn, unrelated_donors(means[0], [one[[1, 3]] for one in means[1:]], 3, 0))
    assert len(unrelated_to(donor, [*whole[:9], codes("control:10", (3, 4), 91)], "b", 1, 3, 0)) == 0
