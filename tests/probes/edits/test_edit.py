"""Edits as functions of activations: each is a difference that leaves what its directions do not span alone."""

import numpy as np
import pytest
import torch

from cache import Hook
from cache.errors import InputError
from geometry.bases.basis import LinearBasis, orthonormal_basis
from probes.directions.direction import Direction
from probes.edits.edit import Addition, Edit, Exchange, Removal, check_alone, removal_of

HOOK = Hook("resid_post", 1)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(4, 5, 16, generator=GENERATOR)


def direction(norm=2.0, hook=HOOK, d=16):
    vector = torch.randn(d, generator=GENERATOR)
    return Direction(hook, vector / vector.norm(), norm, "random")


ONE, OTHER = direction(2.0), direction(5.0)


@pytest.mark.parametrize("edit", [Addition(ONE), removal_of(ONE), Exchange(ONE, OTHER)], ids=lambda e: type(e).__name__)
def test_every_edit_knows_its_site_and_width_and_keeps_the_shape_and_dtype_of_what_it_is_given(edit):
    assert isinstance(edit, Edit)
    assert (edit.hook, edit.width, edit.idle) == (HOOK, 16, False)
    for x in (X, X[0, 0], X[:0, 0], X.double(), X.bfloat16()):
        change = edit.change(x)
        assert (change.shape, change.dtype) == (x.shape, x.dtype)
    kept = X.clone()
    edit.change(X)
    assert torch.equal(X, kept)


@pytest.mark.parametrize("alpha", [1.0, -0.3, 4.0])
def test_an_addition_is_alpha_times_the_norm_times_the_vector(alpha):
    change = Addition(ONE, alpha).change(X)
    torch.testing.assert_close(change, (alpha * 2.0 * ONE.vector).expand_as(X))


def test_only_an_addition_of_nothing_is_idle():
    assert Addition(ONE, 0.0).idle
    assert not Addition(ONE, -1.0).idle


def test_a_removal_projects_and_does_so_once_for_all():
    removal = removal_of(ONE)
    once = X + removal.change(X)
    torch.testing.assert_close(once @ ONE.vector, torch.zeros(4, 5), rtol=0, atol=1e-6)
    torch.testing.assert_close(once, X - (X @ ONE.vector)[..., None] * ONE.vector)
    torch.testing.assert_close(once + removal.change(once), once, rtol=0, atol=1e-6)


def test_a_removal_of_a_basis_sets_its_features_to_0_and_leaves_the_rest():
    rng = np.random.default_rng(0)
    readers = torch.from_numpy(rng.normal(size=(3, 16)))
    patterns = torch.linalg.pinv(readers).T  # readers @ patterns.T = 1, and patterns are not orthogonal
    basis = LinearBasis(torch.from_numpy(rng.normal(size=16)), patterns, readers, HOOK)
    x = X.double()
    once = x + removal_of(basis).change(x)
    torch.testing.assert_close(basis.encode(once), torch.zeros(4, 5, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(once, x - basis.encode(x) @ patterns)


def test_an_exchange_swaps_the_coordinates_in_units_of_the_steps():
    steps = torch.stack([ONE.step, OTHER.step])
    rest = X[0, 0] - torch.linalg.lstsq(steps.T, X[0, 0, :, None]).solution[:, 0] @ steps
    x = rest + 3 * ONE.step - 0.5 * OTHER.step
    changed = x + Exchange(ONE, OTHER).change(x)
    torch.testing.assert_close(changed, rest - 0.5 * ONE.step + 3 * OTHER.step, rtol=0, atol=1e-5)


def test_an_exchange_done_twice_is_nothing_and_has_no_order():
    there = X + Exchange(ONE, OTHER).change(X)
    torch.testing.assert_close(there + Exchange(OTHER, ONE).change(there), X, rtol=0, atol=1e-5)
    torch.testing.assert_close(Exchange(ONE, OTHER).change(X), Exchange(OTHER, ONE).change(X), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (ONE, ONE, "the two directions are parallel, so there is nothing to swap"),
        (ONE, -ONE, "parallel"),
        (ONE, direction(0.0), "a direction of norm 0 cannot be swapped"),
        (
            ONE,
            direction(hook=Hook("resid_post", 2)),
            "directions at one site can be swapped; got blocks.1.hook_resid_post and blocks.2.hook_resid_post",
        ),
        (ONE, direction(d=15), "directions at one site have the same width; got 16 and 15"),
        (
            direction(hook=Hook("z", 1, 0)),
            direction(hook=Hook("z", 1, 1)),
            "directions at one site can be swapped; got blocks.1.attn.hook_z, head 0 and blocks.1.attn.hook_z, head 1",
        ),
    ],
)
def test_directions_that_cannot_be_exchanged_are_refused(first, second, message):
    with pytest.raises(InputError, match=message):
        Exchange(first, second)


def test_a_basis_without_a_site_cannot_be_ablated():
    with pytest.raises(InputError, match="a basis that is to be ablated must know its site; make it with hook="):
        Removal(orthonormal_basis(torch.eye(16)[:2], torch.zeros(16)))


def test_no_edit_at_all_is_refused():
    check_alone([Addition(ONE)])
    with pytest.raises(InputError, match="no edit is given; give at least one direction"):
        check_alone([])


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(alpha):
    with pytest.raises(InputError, match="alpha must be a finite number"):
        Addition(direction(), alpha)
