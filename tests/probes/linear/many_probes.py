"""The probes of two families for many sets of activations at once, by another route than `probes.linear.probe`'s.

Class probes by Newton's method in all dimensions, regression by the eigenvectors of the covariance: what a simulation
of 10,000 worlds can afford. Rows are (family, context, member), as many of each, and members are left out.
"""

import numpy as np

from probes.linear.probe import PENALTIES, C

NEWTON_STEPS = 25


def family_scores(x, n_families, n_members):
    """Balanced accuracy of telling two families apart, for each set of activations (set, row, d)."""
    family, member = _grid(x.shape[1], n_families, n_members)
    right = np.zeros(x.shape[:2])
    for left_out in range(n_members):
        train, test = member != left_out, member == left_out
        z, unseen = _standardised(x, train, test)
        weights = _logistic(_with_one(z), family[train])
        right[:, test] = (_with_one(unseen) @ weights)[..., 0] > 0
    hit = right == family
    return (hit[:, family == 0].mean(axis=1) + hit[:, family == 1].mean(axis=1)) / 2


def number_scores(x, n_families, n_members):
    """R squared of the ordinal, for each set of activations (set, row, d)."""
    _, member = _grid(x.shape[1], n_families, n_members)
    error, total = np.zeros(len(x)), 0.0
    for left_out in range(n_members):
        train, test = member != left_out, member == left_out
        z, unseen = _standardised(x, train, test)
        mean = member[train].mean()
        values, axes = np.linalg.eigh(z.swapaxes(1, 2) @ z)
        scores, y = z @ axes, member[train] - mean
        penalty = _best_penalty(scores, np.clip(values, 0, None), y, member[train])
        weights = (scores.swapaxes(1, 2) @ y) / (np.clip(values, 0, None) + penalty[:, None])
        said = mean + np.einsum("sre,se->sr", unseen @ axes, weights)
        error += np.square(said - left_out).sum(axis=1)
        total += np.square(member[test] - mean).sum()
    return 1 - error / total


def _best_penalty(scores, values, y, groups):
    penalties = np.array(PENALTIES)[:, None] * np.square(scores).sum(axis=(1, 2)) / len(y)
    errors = np.zeros(penalties.shape)
    for i, penalty in enumerate(penalties):
        shrunk = scores / (values + penalty[:, None])[:, None, :]
        residual = y - np.einsum("sre,se->sr", scores, shrunk.swapaxes(1, 2) @ y)
        for group in np.unique(groups):
            rows = groups == group
            hat = scores[:, rows] @ shrunk[:, rows].swapaxes(1, 2) + 1 / len(y)
            away = np.linalg.solve(np.eye(rows.sum()) - hat, residual[:, rows, None])
            errors[i] += np.square(away).sum(axis=(1, 2))
    equal = errors <= errors.min(axis=0) * (1 + 1e-6)
    return np.where(equal, penalties, 0).max(axis=0)


def _logistic(x, labels):
    """Weights (set, d, 1) that end in the bias, which has no penalty."""
    ridge = np.eye(x.shape[2])
    ridge[-1, -1] = 0
    weights = np.zeros((len(x), x.shape[2], 1))
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(x @ weights)))
        gradient = C * x.swapaxes(1, 2) @ (p - labels[:, None]) + ridge @ weights
        weights = weights - np.linalg.solve(C * x.swapaxes(1, 2) @ (p * (1 - p) * x) + ridge, gradient)
        if np.abs(gradient).max() < 1e-10:
            break
    return weights


def _grid(n_rows, n_families, n_members):
    grid = np.indices((n_families, n_rows // n_families // n_members, n_members)).reshape(3, -1)
    return grid[0], grid[2]


def _standardised(x, train, test):
    mean, scale = x[:, train].mean(axis=1, keepdims=True), x[:, train].std(axis=1, keepdims=True)
    return (x[:, train] - mean) / scale, (x[:, test] - mean) / scale


def _with_one(x):
    return np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
