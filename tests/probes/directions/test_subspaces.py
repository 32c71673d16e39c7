"""Erasure: LEACE's theorem, index subspaces that were planted, and random subspaces with the rows' covariance."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cache import Hook
from cache.errors import InputError, NumbersError
from probes.directions.subspaces import index_subspace, leace, subspaces_within, within_members
from probes.edits.edit import removal

HOOK = Hook("resid_post", 1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def classes():
    """Rows of 4 classes whose means differ in 3 dimensions, in a space with a skewed covariance."""
    x = draw(200, 12) @ draw(12, 12, seed=1)
    labels = [i % 4 for i in range(200)]
    return x + (draw(4, 12, seed=2) * 3)[labels], labels


def erased(basis, x):
    return x + removal(basis).difference(x)


def class_means(x, labels):
    return torch.stack([x[np.array(labels) == one].mean(dim=0) for one in sorted(set(labels))])


def test_after_leace_all_classes_have_one_mean_and_a_probe_is_at_chance(classes):
    x, labels = classes
    out = erased(leace(x, labels, hook=HOOK), x)
    means = class_means(out, labels)
    torch.testing.assert_close(means, x.mean(dim=0).expand(4, -1), atol=1e-8, rtol=0)
    before = LogisticRegression(max_iter=2000).fit(x.numpy(), labels).score(x.numpy(), labels)
    after = LogisticRegression(max_iter=2000).fit(out.numpy(), labels)
    assert before > 0.9
    np.testing.assert_allclose(after.predict_proba(out.numpy()), 0.25, atol=1e-3)


def test_leace_is_the_formula_of_the_paper(classes):
    """Eq. 1 with numpy's eigendecomposition, where the covariance has full rank."""
    x, labels = (classes[0].numpy(), classes[1])
    z = np.eye(4)[labels]
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    whitener = vectors @ np.diag(values**-0.5) @ vectors.T
    u = np.linalg.svd(whitener @ (centred.T @ (z - z.mean(axis=0)) / len(x)))[0][:, :3]
    truth = x - centred @ (np.linalg.inv(whitener) @ u @ u.T @ whitener).T
    np.testing.assert_allclose(erased(leace(*classes, hook=HOOK), classes[0]).numpy(), truth, atol=1e-8)


def test_leace_is_idempotent_and_changes_nothing_outside_its_directions(classes):
    x, labels = classes
    basis = leace(x, labels, hook=HOOK)
    torch.testing.assert_close(basis.readers @ basis.directions.T, torch.eye(3, dtype=torch.float64))
    once = erased(basis, x)
    torch.testing.assert_close(erased(basis, once), once)
    outside = torch.linalg.svd(basis.directions)[2][3:]
    torch.testing.assert_close(once @ outside.T, x @ outside.T)
    unread = draw(5, 12, seed=4)
    unread = unread - unread @ torch.linalg.pinv(basis.readers) @ basis.readers
    torch.testing.assert_close(erased(basis, x.mean(dim=0) + unread), x.mean(dim=0) + unread)


def test_leace_moves_less_than_the_orthogonal_projection(classes):
    x, labels = classes
    between = class_means(x, labels) - class_means(x, labels).mean(dim=0)
    v = torch.linalg.svd(between)[2][:3]
    orthogonal = (x - x.mean(dim=0)) @ v.T @ v
    assert (erased(leace(x, labels, hook=HOOK), x) - x).square().sum() < orthogonal.square().sum()


def test_leace_takes_fewer_directions_if_asked_and_more_dimensions_than_rows(classes):
    assert leace(*classes, rank=2).directions.shape == (2, 12)
    assert leace(*classes, rank=9).directions.shape == (3, 12)
    x, labels = draw(12, 40), [i % 3 for i in range(12)]
    out = erased(leace(x, labels, hook=HOOK), x)
    torch.testing.assert_close(class_means(out, labels), x.mean(dim=0).expand(3, -1), atol=1e-8, rtol=0)


def test_the_index_subspace_is_the_one_planted_whatever_the_contexts_add():
    plane = torch.linalg.qr(draw(20, 3))[0].T
    codes = (draw(1, 6, 3, seed=1) @ plane) + 10 * draw(5, 1, 20, seed=2)
    basis = index_subspace(codes, 3, HOOK)
    torch.testing.assert_close(basis.directions.T @ basis.directions, plane.T @ plane)
    torch.testing.assert_close(basis.offset, codes.mean(dim=(0, 1)))
    means = (codes - codes.mean(dim=1, keepdim=True)).mean(dim=0)
    first = torch.linalg.svd(means)[2][0]
    torch.testing.assert_close(index_subspace(codes, 1).directions[0].abs(), first.abs())
    assert (basis.hook, index_subspace(codes, 9).directions.shape) == (HOOK, (3, 20))


def test_where_nothing_varies_there_is_nothing_to_remove():
    same = draw(5, 1, 20).expand(5, 4, 20)
    x = draw(3, 20, seed=5)
    basis = index_subspace(same, 2, HOOK)
    assert basis.directions.shape == (0, 20)
    torch.testing.assert_close(erased(basis, x), x)


def test_what_varies_within_members_has_neither_index_nor_context_in_it():
    noise = draw(4, 5, 7)
    index, context = 10 * draw(1, 5, 7, seed=1), 10 * draw(4, 1, 7, seed=2)
    found = within_members(noise + index + context)
    torch.testing.assert_close(found, within_members(noise))
    by_hand = noise - noise.mean(dim=0) - noise.mean(dim=1, keepdim=True) + noise.mean(dim=(0, 1))
    torch.testing.assert_close(found, by_hand.reshape(20, 7))


def test_subspaces_within_members_miss_the_index_and_their_weights_are_those_of_all_layers():
    plane = torch.eye(12, dtype=torch.float64)[:3]
    noise = draw(4, 6, 12) * torch.tensor([0.0] * 3 + [1.0] * 9, dtype=torch.float64)
    cells = draw(1, 6, 3, seed=1) @ plane + noise
    found = subspaces_within([cells, cells + 1], 2, 6, 5, 3)
    assert len(found) == 5
    for directions in found:
        torch.testing.assert_close(directions @ directions.T, torch.eye(2, dtype=torch.float64))
        torch.testing.assert_close(directions @ plane.T, torch.zeros(2, 3, dtype=torch.float64))
    turned = torch.linalg.qr(draw(12, 12, seed=5))[0]
    for directions, other in zip(found, subspaces_within([cells @ turned] * 2, 2, 6, 5, 3), strict=True):
        span = directions @ turned
        torch.testing.assert_close(other.T @ other, span.T @ span)
    assert not torch.allclose(found[0], found[1])
    again, other = (subspaces_within([cells, cells], 2, 6, 1, seed)[0] for seed in (3, 4))
    torch.testing.assert_close(again, found[0])
    assert not torch.allclose(again, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: index_subspace(draw(2, 3, 4), 0), "the rank of what is erased must be 1 or more; got 0"),
        (lambda: leace(draw(3, 4), [0, 1, 0], rank=0), "must be 1 or more; got 0"),
        (lambda: leace(draw(3, 4), [0, 1]), "each of 3 rows needs a label; got 2"),
        (lambda: leace(draw(3, 4), [1, 1, 1]), "erasure needs rows of 2 classes or more; got 1"),
    ],
)
def test_what_cannot_be_erased_is_told(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_what_is_not_finite_is_refused():
    with pytest.raises(NumbersError):
        index_subspace(torch.full((2, 3, 4), float("nan")), 1)
