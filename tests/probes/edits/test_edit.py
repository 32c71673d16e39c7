"""Edits as functions of activations: each is a difference that leaves what its directions do not span alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cache import Hook
from cache.errors import InputError
from geometry.bases.basis import LinearBasis, orthonormal_basis
from geometry.bases.nonnegative import nmf
from probes.directions.direction import Direction
from probes.edits.edit import addition, check_alone, exchange, removal

HOOK = Hook("resid_post", 1)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(4, 5, 16, generator=GENERATOR)


def direction(norm=2.0, hook=HOOK, d=16):
    vector = torch.randn(d, generator=GENERATOR)
    return Direction(hook, vector / vector.norm(), norm, "random")


ONE, OTHER = direction(2.0), direction(5.0)


RNG = np.random.default_rng(0)
READERS = torch.from_numpy(RNG.normal(size=(3, 16)))
PATTERNS = torch.linalg.pinv(READERS).T  # readers @ patterns.T = 1, and patterns are not orthogonal
BASIS = LinearBasis(torch.from_numpy(RNG.normal(size=16)), PATTERNS, READERS, HOOK)
PARTS = nmf(X.flatten(0, 1), k=3, n_runs=1).decomposition.basis
EDITS = {
    "addition": addition(ONE),
    "removal": removal(ONE),
    "removal of features": removal(BASIS, [0, 2]),
    "removal of parts": removal(replace(PARTS, hook=HOOK)),
    "exchange": exchange(ONE, OTHER),
}


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_knows_its_site_and_width_and_keeps_the_shape_and_dtype_of_what_it_is_given(name):
    edit = EDITS[name]
    assert (edit.hook, edit.width, edit.idle, edit.weights) == (HOOK, 16, False, "")
    for x in (X, X[0, 0], X[:0, 0], X.double(), X.bfloat16()):
        change = edit.difference(x)
        assert (change.shape, change.dtype) == (x.shape, x.dtype)
    kept = X.clone()
    edit.difference(X)
    assert torch.equal(X, kept)


# --- the three that are asked for most, by their own formulas


def added(x, alpha):
    return (alpha * ONE.step).to(x).expand_as(x)


def removed(x, basis):
    return -basis.encode(x) @ basis.directions.to(x)


def exchanged(x):
    steps = torch.stack([ONE.vector, OTHER.vector]).double() * torch.tensor([[2.0], [5.0]], dtype=torch.float64)
    amounts = x @ torch.linalg.pinv(steps.T).to(x).T
    return (amounts.flip(-1) - amounts) @ steps.to(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 5, 16), (20, 16), (1, 16), (16,)])
def test_each_comes_out_as_its_own_formula_bit_by_bit(dtype, shape):
    x = 100 * X.flatten()[: math.prod(shape)].reshape(shape).to(dtype)
    line = orthonormal_basis(ONE.vector[None], torch.zeros(16), HOOK)
    for alpha in (1.0, -0.3, 4.0, 1e-3):
        assert torch.equal(addition(ONE, alpha).difference(x), added(x, alpha))
    assert torch.equal(removal(ONE).difference(x), removed(x, line))
    assert torch.equal(removal(BASIS).difference(x), removed(x, BASIS))
    assert torch.equal(removal(BASIS, range(3)).difference(x), removed(x, BASIS))
    assert torch.equal(exchange(ONE, OTHER).difference(x), exchanged(x))


@pytest.mark.parametrize("alpha", [1.0, -0.3, 4.0])
def test_an_addition_is_alpha_times_the_norm_times_the_vector(alpha):
    change = addition(ONE, alpha).difference(X)
    torch.testing.assert_close(change, (alpha * 2.0 * ONE.vector).expand_as(X))


def test_only_an_addition_of_nothing_is_idle():
    assert addition(ONE, 0.0).idle
    assert addition(direction(0.0)).idle
    assert not addition(ONE, -1.0).idle


def test_an_addition_raises_its_one_feature_by_1():
    edit = addition(ONE, -0.7)
    moved = X + edit.difference(X)
    torch.testing.assert_close(edit.basis.encode(moved), edit.basis.encode(X) + 1, rtol=0, atol=1e-5)


def test_a_removal_projects_and_does_so_once_for_all():
    edit = removal(ONE)
    once = X + edit.difference(X)
    torch.testing.assert_close(once @ ONE.vector, torch.zeros(4, 5), rtol=0, atol=1e-6)
    torch.testing.assert_close(once, X - (X @ ONE.vector)[..., None] * ONE.vector)
    torch.testing.assert_close(once + edit.difference(once), once, rtol=0, atol=1e-6)


def test_a_removal_of_a_basis_sets_its_features_to_0_and_leaves_the_rest():
    x = X.double()
    once = x + removal(BASIS).difference(x)
    torch.testing.assert_close(BASIS.encode(once), torch.zeros(4, 5, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(once, x - BASIS.encode(x) @ PATTERNS)


def test_a_removal_of_some_features_leaves_the_others_as_they_are():
    x = X.double()
    before, after = BASIS.encode(x), BASIS.encode(x + removal(BASIS, [2, 0]).difference(x))
    torch.testing.assert_close(after[..., [0, 2]], torch.zeros(4, 5, 2, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(after[..., 1], before[..., 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("features", "got"), [([3], 3), ([0, -1], -1), ([], "none")])
def test_features_that_are_not_there_are_refused(features, got):
    with pytest.raises(InputError, match=f"features of this basis are numbered 0 to 2; got {got}"):
        removal(BASIS, features)


def test_an_exchange_swaps_the_coordinates_in_units_of_the_steps():
    steps = torch.stack([ONE.step, OTHER.step])
    rest = X[0, 0] - torch.linalg.lstsq(steps.T, X[0, 0, :, None]).solution[:, 0] @ steps
    x = rest + 3 * ONE.step - 0.5 * OTHER.step
    changed = x + exchange(ONE, OTHER).difference(x)
    torch.testing.assert_close(changed, rest - 0.5 * ONE.step + 3 * OTHER.step, rtol=0, atol=1e-5)


def test_an_exchange_done_twice_is_nothing_and_has_no_order():
    there = X + exchange(ONE, OTHER).difference(X)
    torch.testing.assert_close(there + exchange(OTHER, ONE).difference(there), X, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        exchange(ONE, OTHER).difference(X), exchange(OTHER, ONE).difference(X), rtol=0, atol=1e-5
    )


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
        exchange(first, second)


def test_a_basis_without_a_site_cannot_be_edited():
    with pytest.raises(
        InputError, match=r"the basis of an edit must know its site; basis_at\(store, hook, basis\) notes"
    ):
        removal(orthonormal_basis(torch.eye(16)[:2], torch.zeros(16)))


def test_no_edit_at_all_is_refused():
    check_alone([addition(ONE)])
    with pytest.raises(InputError, match="no edit is given; give at least one direction"):
        check_alone([])


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(alpha):
    with pytest.raises(InputError, match="alpha must be a finite number"):
        addition(direction(), alpha)
