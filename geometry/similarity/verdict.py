"""What may be said of two families' codes at one site, in a word, and over sites."""

import math
from dataclasses import dataclass

from geometry.similarity.sharing_null import LEAST_RELIABILITY
from geometry.stats.uncertainty import LEAST_CONTROLS, LEAST_MEMBERS

ALPHA = 0.05
PRIVATE = 0.25
"""A code is called private only where its similarity lies below this with confidence."""


@dataclass(frozen=True)
class Evidence:
    """All that a verdict on one value looks at.

    Attributes:
        value: the similarity; nan where it is undefined.
        ci_low: lower end of its interval; nan for measures without.
        ci_high: upper end.
        q: against unrelated codes, for all layers together and over all pairs compared.
        own_p: the larger of the two families' own index effects' p values.
        reliability: the smaller share of a family's code that recurs over contexts.
        control_limit: the value that no control family exceeded at any layer (`stats.limits.control_limits`).
        n_controls: how many controls there were.
        n_members: how many members the value rests on.
        peak_lag: the lag at which the members match best.
    """

    value: float
    ci_low: float
    ci_high: float
    q: float
    own_p: float
    reliability: float
    control_limit: float
    n_controls: int
    n_members: int
    peak_lag: int

    @property
    def has_index_effect(self) -> bool:
        """Whether both families' members differ alike in all contexts, reliably enough to be compared."""
        return self.own_p <= ALPHA and self.reliability >= LEAST_RELIABILITY and not math.isnan(self.value)


def verdict(found: Evidence) -> str:
    """The word for one value of a deciding measure.

    - `undecided (n members = k)`: below 5 members nothing is said.
    - `no index effect`: a family's members do not differ alike across contexts, so there is nothing to share.
    - `shared`: q at most .05, above every one of at least 19 controls at all layers, the match best at lag 0, and the
      interval, where there is one, above 0.
    - `private`: neither, and the interval below .25.
    - `undecided (...)`: anything else, with the reason.
    """
    if found.n_members < LEAST_MEMBERS:
        return f"undecided (n members = {found.n_members})"
    if not found.own_p <= ALPHA:
        return "no index effect"
    if not found.has_index_effect:
        return f"undecided (reliability = {found.reliability:.2f})"
    if found.n_controls < LEAST_CONTROLS:
        return f"undecided (n controls = {found.n_controls})"
    if not found.value > found.control_limit and not found.q <= ALPHA:
        return "private" if found.ci_high < PRIVATE else "undecided (within the controls)"
    if not found.value > found.control_limit:
        return "undecided (within the controls)"
    if not found.q <= ALPHA:
        return f"undecided (q = {found.q:.3g})"
    if found.peak_lag != 0:
        return f"undecided (best at lag {found.peak_lag:+d})"
    return "undecided (interval reaches 0)" if found.ci_low <= 0 else "shared"
