"""Linear probes: against scikit-learn on all features, and on planted and absent codes."""

import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from cache.errors import InputError, NumbersError
from geometry.stats.uncertainty import share_interval
from probes.linear import probe as linear
from probes.linear.probe import (
    PENALTIES,
    C,
    Fold,
    balanced_accuracy,
    group_codes,
    leave_groups_out,
    mean_cosine,
    member_se,
    predict_classes,
    predict_values,
    r_squared,
    row_space_of,
)

N_FAMILIES, N_MEMBERS, N_TEMPLATES, D = 3, 8, 4, 40
FAMILY, MEMBER, TEMPLATE = (
    axis.ravel() for axis in np.meshgrid(range(N_FAMILIES), range(N_MEMBERS), range(N_TEMPLATES), indexing="ij")
)


def noise(seed, *, scale=1.0, rows=N_FAMILIES * N_MEMBERS * N_TEMPLATES, d=D):
    return scale * np.random.default_rng(seed).normal(size=(rows, d))


def tensor(x):
    return torch.from_numpy(x).float()


def accuracy(x, labels, groups):
    return balanced_accuracy(labels, predict_classes(tensor(x), labels[None], leave_groups_out(groups.tolist()))[0])


def held_out(x, targets, groups):
    return predict_values(tensor(x), targets, leave_groups_out(groups.tolist()), groups)


def number_score(x, y, groups):
    found = held_out(x, y.astype(float)[None, :, None], groups)
    return r_squared(y.astype(float), found.predicted[0, :, 0], found.training_mean[0, :, 0])


def angle_score(x, angles, groups):
    found = held_out(x, np.stack([np.cos(angles), np.sin(angles)], axis=1)[None], groups)
    return mean_cosine(angles, found.predicted[0])


@pytest.mark.parametrize(("most", "n_folds"), [(10, 8), (8, 8), (3, 3)])
def test_every_group_is_left_out_once_and_never_on_both_sides(most, n_folds):
    folds = leave_groups_out([f"m{i}" for i in MEMBER], most=most)
    assert len(folds) == n_folds
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(MEMBER)))
    for fold in folds:
        assert sorted(np.concatenate([fold.train, fold.test]).tolist()) == list(range(len(MEMBER)))
        assert not set(MEMBER[fold.train]) & set(MEMBER[fold.test])


def test_groups_are_numbered_in_the_order_they_come():
    assert group_codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("d", [200, 12])
def test_rotating_into_the_row_space_leaves_a_penalised_solution_as_it_is(d):
    """More features than rows, and fewer; one feature is constant, one doubled."""
    x = noise(1, d=d) + 3 * noise(2, rows=1, d=d) + FAMILY[:, None] * noise(3, rows=1, d=d)
    x[:, 3], x[:, 5] = 7.0, x[:, 4]
    fold = leave_groups_out(MEMBER.tolist())[2]
    train, test = row_space_of(x, fold)
    assert train.shape[1] <= min(len(fold.train), d)
    scaler = StandardScaler().fit(x[fold.train])
    settings = {"C": C, "class_weight": "balanced", "tol": 1e-7, "max_iter": 10_000}
    ours = LogisticRegression(**settings).fit(train, FAMILY[fold.train])
    theirs = LogisticRegression(**settings).fit(scaler.transform(x[fold.train]), FAMILY[fold.train])
    truth = theirs.predict_proba(scaler.transform(x[fold.test]))
    np.testing.assert_allclose(ours.predict_proba(test), truth, atol=1e-4)


def test_every_draw_is_predicted_by_scikit_learns_probe_of_its_own():
    x = noise(4, d=120) + FAMILY[:, None] * noise(5, rows=1, d=120, scale=0.3)
    draws = np.stack([FAMILY, MEMBER % 3])
    folds = leave_groups_out(TEMPLATE.tolist())
    found = predict_classes(tensor(x), draws, folds)
    single = tensor(x).double().numpy()
    for labels, mine in zip(draws, found, strict=True):
        for fold in folds:
            scaler = StandardScaler().fit(single[fold.train])
            probe = LogisticRegression(C=C, class_weight="balanced", max_iter=10_000)
            probe.fit(scaler.transform(single[fold.train]), labels[fold.train])
            assert (mine[fold.test] == probe.predict(scaler.transform(single[fold.test]))).mean() > 0.95


@pytest.mark.parametrize("d", [200, 12])
def test_a_regression_is_scikit_learns_ridge(monkeypatch, d):
    monkeypatch.setattr(linear, "PENALTIES", (0.05,))
    x = tensor(noise(6, d=d)).double().numpy()
    y = np.stack([MEMBER + noise(7, d=2)[:, 0], noise(8, d=2)[:, 1]], axis=1)
    found = held_out(x, np.stack([y, 2 * y - 5]), MEMBER)
    for fold in leave_groups_out(MEMBER.tolist()):
        scaler = StandardScaler().fit(x[fold.train])
        ridge = Ridge(alpha=0.05 * d).fit(scaler.transform(x[fold.train]), y[fold.train])
        truth = ridge.predict(scaler.transform(x[fold.test]))
        np.testing.assert_allclose(found.predicted[0, fold.test], truth, atol=1e-7)
        np.testing.assert_allclose(found.predicted[1, fold.test], 2 * truth - 5, atol=1e-7)
        expected = np.broadcast_to(y[fold.train].mean(axis=0), truth.shape)
        np.testing.assert_allclose(found.training_mean[0, fold.test], expected)


def test_the_penalty_is_the_one_that_does_best_on_left_out_groups_of_the_training_rows():
    x = tensor(noise(9) + MEMBER[:, None] * noise(10, rows=1, scale=0.1)).double().numpy()
    y = MEMBER + noise(11)[:, 0]
    found = held_out(x, y[None, :, None], TEMPLATE).predicted[0, :, 0]
    for fold in leave_groups_out(TEMPLATE.tolist()):
        z = StandardScaler().fit(x[fold.train])
        train, target, inner = z.transform(x[fold.train]), y[fold.train], TEMPLATE[fold.train]
        errors = []
        for penalty in PENALTIES:
            left = [
                target[inner == g]
                - Ridge(alpha=penalty * D).fit(train[inner != g], target[inner != g]).predict(train[inner == g])
                for g in np.unique(inner)
            ]
            errors.append(np.square(np.concatenate(left)).sum())
        best = Ridge(alpha=PENALTIES[int(np.argmin(errors))] * D).fit(train, target)
        np.testing.assert_allclose(found[fold.test], best.predict(z.transform(x[fold.test])), atol=1e-6)


def test_a_penalty_that_cannot_be_chosen_is_the_strongest_however_many_draws_there_are():
    """Of three members two are trained on; with one of them left out there is one value to learn."""
    few = MEMBER < 3
    x, y = noise(28)[few] + MEMBER[few][:, None] * noise(29, rows=1), MEMBER[few].astype(float)
    one, many = (held_out(x, np.tile(y[None, :, None], (n, 1, 1)), MEMBER[few]).predicted for n in (1, 4))
    for mine in many:
        np.testing.assert_allclose(mine, one[0], atol=1e-9)
    assert np.abs(one[0, :, 0] - np.array([1.5, 1, 0.5])[MEMBER[few]]).max() < 0.01


@pytest.mark.parametrize("groups", [MEMBER, TEMPLATE])
def test_a_planted_family_direction_is_found(groups):
    x = noise(12, scale=0.3) + 2 * noise(13, rows=N_FAMILIES)[FAMILY]
    assert accuracy(x, FAMILY, groups) == 1


@pytest.mark.parametrize("groups", [MEMBER, TEMPLATE])
def test_random_labels_are_at_chance(groups):
    """Over 12 draws of 96 rows the mean has a standard error of .014 about 1/3; four of them are allowed."""
    draws = np.random.default_rng(14).permuted(np.tile(FAMILY, (12, 1)), axis=1)
    found = predict_classes(tensor(noise(15)), draws, leave_groups_out(groups.tolist()))
    scores = [balanced_accuracy(*pair) for pair in zip(draws, found, strict=True)]
    assert abs(np.mean(scores) - 1 / 3) < 0.056


def test_the_interval_of_a_probe_of_noise_covers_chance():
    covered = []
    for seed in range(20):
        found = predict_classes(tensor(noise(100 + seed)), FAMILY[None], leave_groups_out(MEMBER.tolist()))[0]
        se = member_se(lambda kept, found=found: balanced_accuracy(FAMILY[kept], found[kept]), MEMBER)
        low, high = share_interval(balanced_accuracy(FAMILY, found), se, N_MEMBERS)
        covered.append(low <= 1 / N_FAMILIES <= high)
    assert np.mean(covered) >= 0.93


def test_a_cue_of_each_member_carries_to_other_templates_but_not_to_other_members():
    """Every (family, member) has a random code of its own: nothing of it is common to a family.

    Over 8 draws of 24 codes the mean has a standard error of .034 about 1/3; three of them are allowed.
    """
    scores = []
    for seed in range(8):
        codes = noise(200 + seed, rows=N_FAMILIES * N_MEMBERS, d=60)
        x = codes[FAMILY * N_MEMBERS + MEMBER] + noise(300 + seed, scale=0.1, d=60)
        assert accuracy(x, FAMILY, TEMPLATE) == 1
        scores.append(accuracy(x, FAMILY, MEMBER))
    assert abs(np.mean(scores) - 1 / 3) < 0.1


def test_a_linear_code_of_the_number_reaches_members_that_were_left_out():
    x = noise(18, scale=0.3) + MEMBER[:, None] * noise(19, rows=1)
    assert number_score(x, MEMBER, MEMBER) > 0.95
    assert number_score(x, MEMBER, TEMPLATE) > 0.98


def test_a_random_code_of_the_number_does_not():
    x = noise(20, rows=N_MEMBERS, d=200)[MEMBER] + noise(21, scale=0.1, d=200)
    assert number_score(x, MEMBER, TEMPLATE) > 0.95
    assert number_score(x, MEMBER, MEMBER) < 0.2


def test_a_planted_circle_is_read_and_noise_is_not():
    angles = 2 * np.pi * MEMBER / N_MEMBERS
    plane = noise(22, rows=2)
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane + noise(23, scale=0.1)
    assert angle_score(x, angles, MEMBER) > 0.95
    assert angle_score(x, angles, TEMPLATE) > 0.98
    # the mean of a circle without one member points away from it
    assert angle_score(noise(24), angles, MEMBER) < 0.2


def test_scores_are_what_their_definitions_say():
    labels = np.array([0, 0, 0, 1])
    assert balanced_accuracy(labels, np.array([0, 0, 1, 1])) == pytest.approx((2 / 3 + 1) / 2)
    assert balanced_accuracy(labels, np.zeros(4, dtype=np.int64)) == 0.5
    y, mean = np.array([1.0, 2, 3]), np.full(3, 2.0)
    assert r_squared(y, y, mean) == 1
    assert r_squared(y, mean, mean) == 0
    assert r_squared(y, y + 2, mean) == -5
    assert np.isnan(r_squared(mean, y, mean))
    angles = np.array([0, np.pi / 2, np.pi, 0])
    predicted = np.array([[3.0, 0.0], [0.0, -2.0], [-1.0, 1.0], [0.0, 0.0]])
    assert mean_cosine(angles, predicted) == pytest.approx((1 - 1 + np.sqrt(0.5) + 0) / 4)


def test_errors_are_of_whole_members_and_take_five():
    hit = np.random.default_rng(25).random(len(MEMBER)) < 0.7
    means = np.array([hit[m != MEMBER].mean() for m in range(N_MEMBERS)])
    truth = np.sqrt((N_MEMBERS - 1) / N_MEMBERS * np.square(means - means.mean()).sum())
    assert member_se(lambda kept: float(hit[kept].mean()), MEMBER) == pytest.approx(truth)
    few = MEMBER % 4
    assert np.isnan(member_se(lambda kept: float(hit[kept].mean()), few))


def test_activations_that_are_all_equal_leave_a_probe_at_chance():
    x = np.ones((len(FAMILY), D))
    assert accuracy(x, FAMILY, MEMBER) == pytest.approx(1 / N_FAMILIES)
    assert number_score(x, MEMBER, MEMBER) == pytest.approx(0)


def test_what_cannot_be_probed_is_told():
    x = tensor(noise(26))
    with pytest.raises(InputError, match="leaving whole groups out takes 2 groups and 2 folds; got 1 and 10"):
        leave_groups_out(["a", "a"])
    with pytest.raises(InputError, match="takes 2 groups and 2 folds; got 2 and 1"):
        leave_groups_out(["a", "b"], most=1)
    folds = leave_groups_out(MEMBER.tolist())
    message = "class 0 occurs only in rows that are left out, so that no probe sees it; leave out other groups"
    with pytest.raises(InputError, match=re.escape(message)):
        predict_classes(x, MEMBER[None], folds)
    with pytest.raises(InputError, match="the rows that a probe is fitted on are all of class 0; a probe needs 2"):
        predict_classes(x, np.zeros_like(FAMILY)[None], folds)
    half = MEMBER // 4
    with pytest.raises(InputError, match="chooses its penalty on left-out groups; it needs 3 groups, got 2"):
        held_out(noise(27), np.zeros((1, len(half), 1)), half)
    x[3, 4] = torch.nan
    with pytest.raises(NumbersError, match="the activations are not all finite"):
        predict_classes(x, FAMILY[None], folds)
    with pytest.raises(NumbersError, match="the activations are not all finite"):
        predict_values(x, np.zeros((1, len(half), 1)), folds, MEMBER)


def test_a_fold_is_of_row_numbers():
    fold = Fold(np.array([0, 1]), np.array([2]))
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 1], [2])
