"""When a round may close, and what it takes to commit."""

import math

from tacit.core.bounds import Positive, Probability
from tacit.core.part import Settings


class RoundPolicy(Settings, frozen=True):
    """When a round closes, and whether it counts.

    Attributes:
        quorum: Least share of the wanted updates with which a round commits; never less than one client. 0:
            a round always commits, even an empty one.
        deadline_s: Seconds after which the round closes, or None to wait for everybody.
        partial_work: Whether a straggler hands in what it has done when the deadline comes.

    >>> RoundPolicy(quorum=0.5).least(wanted=5)
    3
    """

    quorum: Probability = 0.5
    deadline_s: Positive | None = None
    partial_work: bool = True

    def least(self, wanted: int) -> int:
        """Return the least number of updates that commit a round which wants ``wanted``."""
        if not self.quorum:
            return 0
        return max(1, math.ceil(round(self.quorum * wanted, 9)))
