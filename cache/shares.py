"""Intervals of shares that are exact at their ends: all of a few members right is no proof of always."""

import math

from scipy.stats import beta

_LEAST_MEMBERS = 5


def exact_interval(share: float, n_members: int) -> tuple[float, float]:
    """The 95 % Clopper-Pearson interval of a share over independent members, in [0, 1]: 7 of 7 has .59 to 1.

    Members need not be all right or all wrong: k = share * n_members may lie between counts. Whatever the members' own
    rates, their mean varies no more than a coin's, for which the interval is exact.

    Args:
        share: the mean over members.
        n_members: how many members, not prompts.

    Returns:
        Both ends; nan below 5 members, or where the share is nan.

    References: Clopper and Pearson 1934, Biometrika 26:404, through the quantiles of beta distributions.
    """
    if n_members < _LEAST_MEMBERS or math.isnan(share):
        return math.nan, math.nan
    k = min(max(share, 0.0), 1.0) * n_members
    low = float(beta.ppf(0.025, k, n_members - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(0.975, k + 1, n_members - k)) if k < n_members else 1.0
    return low, high
