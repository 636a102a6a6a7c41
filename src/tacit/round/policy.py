"""When a round may close, and what it takes to commit."""

import math

from tacit.core.bounds import Positive, Share
from tacit.core.part import Settings


class RoundPolicy(Settings, frozen=True):
    """When a round closes, and whether it counts.

    Attributes:
        quorum: Least share of the wanted updates with which a round commits; never less than one client.
        deadline_s: Seconds after which the round closes, or None to wait for everybody.
        partial_work: Whether a straggler hands in what it has done when the deadline comes.

    >>> RoundPolicy(quorum=0.5).least(wanted=5)
    3
    """

    quorum: Share = 0.5
    deadline_s: Positive | None = None
    partial_work: bool = True

    def least(self, wanted: int) -> int:
        """Return the least number of updates that commit a round which wants ``wanted``."""
        return max(1, math.ceil(round(self.quorum * wanted, 9)))
