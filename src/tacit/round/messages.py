"""Events that the round's machines take, and effects that they return; all of them values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tacit.core.layout import Rows
from tacit.core.rule import Partial
from tacit.privacy.floor import Offer
from tacit.privacy.ledger import Mark
from tacit.round.group_events import GroupEffect, GroupEvent, VectorsReceived
from tacit.round.record import RoundRecord
from tacit.training.executor import Failure, Trained

if TYPE_CHECKING:
    from tacit.secagg.certificate import RoundCertificate

Seconds = float


@dataclass(frozen=True)
class Assignment:
    """What a client receives for a round, next to the global vector.

    Attributes:
        job: The job's name.
        round: The round's number.
        deadline_s: When the round closes, or None.
        partial_work: Whether part of the work is welcome when the deadline comes.
        clipping_bound: The bound of this round, where it moves from round to round.
        step: Which step of a private run the round is to release, from 0; None where nothing is promised.
        min_separation: Least distance of two steps at which one client takes part; 1 promises nothing.
        ledger: The last entry of the ledger in which the round is charged, so that devices notice one that
            was taken back; None where nothing is charged.
        offer: What the server promises about the round's privacy; None: nothing.
    """

    job: str
    round: int
    deadline_s: Seconds | None
    partial_work: bool
    clipping_bound: float | None = None
    step: int | None = None
    min_separation: int = 1
    ledger: Mark | None = None
    offer: Offer | None = None


# --- events for the server ---------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """The round may begin; these clients are available, by id and in a fixed order."""

    available: Sequence[str]


@dataclass(frozen=True)
class UpdatesReceived:
    """Updates of these clients arrived, folded into one partial sum.

    ``partial_work`` names those that did only part of their steps.
    """

    clients: tuple[str, ...]
    partial: Partial
    partial_work: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClientFailed:
    """A client said that it cannot answer, or what it sent was refused."""

    client: str
    reason: str


@dataclass(frozen=True)
class ClientsDropped:
    """Clients vanished: they will not answer."""

    clients: tuple[str, ...]


@dataclass(frozen=True)
class DeadlinePassed:
    """The deadline is over."""


ServerEvent = (
    Opened | UpdatesReceived | ClientFailed | ClientsDropped | DeadlinePassed | GroupEvent | VectorsReceived
)

# --- effects of the server ---------------------------------------------------------------------


@dataclass(frozen=True)
class SendAssignment:
    """Send the assignment and the global vector to these clients (positions in ``Opened.available``)."""

    positions: tuple[int, ...]
    clients: tuple[str, ...]
    assignment: Assignment


@dataclass(frozen=True)
class WakeAt:
    """Call back with ``DeadlinePassed`` at this time."""

    at: Seconds


@dataclass(frozen=True)
class RoundClosed:
    """The round is over.

    Attributes:
        record: What is written down about it.
        partial: The cohort's sum if it commits, None if it is abandoned.
        certificates: What anybody can check about the secure sums of its groups.
    """

    record: RoundRecord
    partial: Partial | None
    certificates: "tuple[RoundCertificate, ...]" = ()


ServerEffect = SendAssignment | WakeAt | RoundClosed | GroupEffect

# --- the device's side -------------------------------------------------------------------------


@dataclass(frozen=True)
class AssignmentReceived:
    """The server assigned a round to this device (or to this group of simulated ones).

    ``day`` is the device's own date, in days from any fixed one.
    """

    assignment: Assignment
    clients: tuple[str, ...]
    day: int = 0


@dataclass(frozen=True)
class TrainingDone:
    """Local training has ended."""

    trained: Trained


DeviceEvent = AssignmentReceived | TrainingDone


@dataclass(frozen=True)
class Train:
    """Train these clients."""

    clients: tuple[str, ...]


@dataclass(frozen=True)
class SendUpdates:
    """Send these encoded rows, one per client; ``failures`` are reported by reason alone."""

    clients: tuple[str, ...]
    rows: Rows
    failures: Mapping[str, Failure]


DeviceEffect = Train | SendUpdates
