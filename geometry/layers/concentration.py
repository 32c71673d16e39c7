"""How many dimensions, and how few tokens, carry the variance."""

import numpy as np
from jaxtyping import Float


def participation_ratio(variances: Float[np.ndarray, " component"]) -> float:
    """The number of equal components that would be as concentrated as these: `(sum v)^2 / sum v^2`.

    Returns:
        Between 1 and the number of components; nan where there is no variance.

    References: Gao et al. 2017, eq. 4 (bioRxiv 214262).
    """
    total = float(np.square(variances).sum())
    return float(variances.sum()) ** 2 / total if total > 0 else float("nan")


def largest_share(parts: Float[np.ndarray, " part"]) -> float:
    """The largest part's share of the sum: of the rows' squared norms, or of the dimensions' variances.

    Near 1 where one massive token or dimension makes the whole result.
    """
    total = float(parts.sum())
    return float(parts.max()) / total if total > 0 else float("nan")
