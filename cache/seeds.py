"""The seeds that every draw takes: whole numbers that numpy, scikit-learn and UMAP all accept."""

import operator
from typing import Any

from cache.errors import InputError

LARGEST_SEED = 2**32 - 1


def check_seed(seed: Any) -> int:
    """The seed as a plain integer; whole numbers of numpy's are taken too.

    Raises:
        InputError: it is no whole number from 0 to 4294967295; True and False are none.
    """
    try:
        whole = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        whole = -1
    if not 0 <= whole <= LARGEST_SEED:
        raise InputError(f"seed must be a whole number from 0 to {LARGEST_SEED}; got {seed!r}")
    return whole
