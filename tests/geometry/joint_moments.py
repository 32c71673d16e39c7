"""Joint moments of two sets of rows, by their definition: sums over all rows at once, in float64."""

from geometry.stats.moments import JointMoments, Moments


def joint_of(x, y):
    """Of two tensors with the same rows."""
    x, y = (rows.double().numpy() for rows in (x, y))
    means = x.mean(axis=0), y.mean(axis=0)
    a, b = x - means[0], y - means[1]
    return JointMoments(Moments(len(x), means[0], a.T @ a), Moments(len(y), means[1], b.T @ b), a.T @ b)
