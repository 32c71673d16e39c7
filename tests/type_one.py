"""Whether a share of false alarms is what a test at .05 may have."""

import scipy.stats


def in_range(count, n_tries, low=0.03, high=0.07):
    """A true rate within [low, high] would give as many p <= .05, or one less odd, in 99 of 100 tries."""
    return scipy.stats.binom.ppf(0.005, n_tries, low) <= count <= scipy.stats.binom.ppf(0.995, n_tries, high)
