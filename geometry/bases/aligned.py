"""Components of neighbouring layers beside each other: which continues which, and which way round."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment


def aligned(
    scores: Float[np.ndarray, "layer row component"], *, turned: bool = True
) -> tuple[Int[np.ndarray, "layer component"], Int[np.ndarray, "layer component"]]:
    """Order and signs in which each layer's components go on from those of the layer before.

    Each component follows the one with which the same rows' scores correlate most, in either sense, so that the sum
    over all is largest. A layer whose rows are all equal keeps its own order, and the next one follows the last before
    it that is not.

    Args:
        scores: of the same rows at every layer.
        turned: whether a component may be turned round; one that is not negative may not.

    Returns:
        For each place the number of the component that is drawn there, and 1 or -1.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(9, 2))
        >>> order, signs = aligned(np.stack([rows, -rows[:, ::-1]]))
        >>> order.tolist(), signs.tolist()
        ([[0, 1], [1, 0]], [[1, 1], [-1, -1]])
    """
    order = np.tile(np.arange(scores.shape[2]), (len(scores), 1))
    signs = np.ones_like(order)
    before: Float[np.ndarray, "row component"] | None = None
    for i, here in enumerate(scores.astype(np.float64)):
        centred = here - here.mean(axis=0)
        lengths = np.linalg.norm(centred, axis=0)
        if not (lengths > 0).any():
            continue
        units = centred / np.where(lengths > 0, lengths, 1)
        if before is not None:
            overlap = before.T @ units
            _, order[i] = linear_sum_assignment(-np.abs(overlap) if turned else -overlap)
            kept = overlap[np.arange(len(overlap)), order[i]]
            signs[i] = np.where(turned & (kept < 0), -1, 1)
        before = units[:, order[i]] * signs[i]
    return order, signs
