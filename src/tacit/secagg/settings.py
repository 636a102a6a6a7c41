"""The settings of secure aggregation: who must not see single updates, and what may go wrong meanwhile."""

from typing import Annotated

from msgspec import Meta

from tacit.core.bounds import Count
from tacit.core.errors import PlanError
from tacit.core.part import Settings
from tacit.secagg.parameters import SMALLEST_GROUP, Mode, Threat

LARGEST_GROUP = 200
"""Largest group where none is named: no draw of its graph helps a server that lies (``is_certain``)."""


class SecureAggregation(Settings, frozen=True):
    """Let the server open only sums of many updates: clients mask theirs so that the masks cancel.

    A cohort larger than ``group`` is divided. Each group has its own sum, which the server sees, and may
    fail without the others.

    Attributes:
        min_cohort: No sum of fewer clients is ever opened. The clients enforce it, and for every group.
            At least 3: of two, each would learn the other's update from the sum.
        mode: What is expected of the server: ``"semi_honest"`` follows the protocol and is curious, a
            ``"malicious"`` one lies, which costs one more exchange and needs an authority apart from the
            server that enrols clients.
        corrupt: Largest share of any group that hands all it knows to the server. It is never taken for
            less than one client. The groups of a divided cohort differ by chance: name what the worst may
            hold, which is more than the share of the cohort.
        dropout: Largest share of a group that vanishes during a round without its sum being lost. Groups
            below 50 survive more: nearly half of them, while ``min_cohort`` are left.
        group: Clients in the largest group. A smaller one costs its members less.
        lane_bits: Bits of the sum of one parameter. Fewer send less and round more.
        post_quantum: Derive the masks from ML-KEM-768 as well as from X25519, so that a transcript kept
            for a quantum computer shows nothing; about 1.1 kB more per neighbour and direction.

    Raises:
        ConfigError: A value has the wrong type or breaks its bound.
        PlanError: A group can never be as large as the smallest cohort (T187).

    >>> SecureAggregation(min_cohort=20).threat
    Threat(corrupt=0.1, dropout=0.1, mode='malicious')
    """

    min_cohort: Annotated[int, Meta(ge=3, le=2**53)] = 10
    mode: Mode = "malicious"
    corrupt: Annotated[float, Meta(ge=0, lt=0.5)] = 0.1
    dropout: Annotated[float, Meta(ge=0, lt=0.9)] = 0.1
    group: Count = LARGEST_GROUP
    lane_bits: Annotated[int, Meta(ge=8, le=63)] = 32
    post_quantum: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        least = max(self.min_cohort, SMALLEST_GROUP)
        if self.group < least:
            raise PlanError(
                "T187",
                f"a group of at most {self.group} never has the {least} clients that a sum takes",
                where="SecureAggregation.group",
                fix=f"Allow groups of at least {2 * least}, or lower min_cohort.",
            )

    @property
    def threat(self) -> Threat:
        """Who is feared, as parameters are found for it."""
        return Threat(self.corrupt, self.dropout, self.mode)
