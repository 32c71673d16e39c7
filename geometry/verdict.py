"""What may be said of two families' index codes at one site, in a word."""

import math
from dataclasses import dataclass

from geometry.evidence import LEAST_CONTROLS, LEAST_MEMBERS

ALPHA = 0.05
PRIVATE = 0.25
"""A code is called private only where its similarity lies below this with confidence."""


@dataclass(frozen=True)
class Evidence:
    """All that a verdict on one value looks at.

    Attributes:
        value: the similarity; nan where it is undefined.
        ci_low: lower end of its interval; nan where there are too few members for one.
        ci_high: upper end.
        p: of the member permutation, for all layers together.
        own_p: the larger of the two families' own index effects' p values.
        control_limit: the value that no control family exceeded at any layer (`evidence.control_limits`).
        n_controls: how many controls there were.
        n_members: how many members the value rests on.
        peak_lag: the lag at which the members match best.
    """

    value: float
    ci_low: float
    ci_high: float
    p: float
    own_p: float
    control_limit: float
    n_controls: int
    n_members: int
    peak_lag: int


def verdict(found: Evidence) -> str:
    """The word for one value of a deciding measure.

    - `no index effect`: a family's members do not differ alike across contexts, so there is nothing to share.
    - `shared`: above every one of at least 19 controls and permutation p at most .05, both for all layers together, the
      match best at lag 0, and the interval, where there is one, above 0.
    - `private`: no higher than the controls, and the interval below .25.
    - `undecided (...)`: anything else, with the reason.
    """
    if math.isnan(found.value) or not found.own_p <= ALPHA:
        return "no index effect"
    if found.n_members < LEAST_MEMBERS:
        return f"undecided (n members = {found.n_members})"
    if found.n_controls < LEAST_CONTROLS:
        return f"undecided (n controls = {found.n_controls})"
    if not found.value > found.control_limit:
        return "private" if found.ci_high < PRIVATE else "undecided (within the controls)"
    if not found.p <= ALPHA:
        return f"undecided (p = {found.p:.2g})"
    if found.peak_lag != 0:
        return f"undecided (best at lag {found.peak_lag:+d})"
    return "undecided (interval reaches 0)" if found.ci_low <= 0 else "shared"
