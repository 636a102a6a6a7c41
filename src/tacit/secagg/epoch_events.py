"""What the machine of epochs takes and returns, all of it values; and the offer that opens an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tacit.core.errors import PlanError, RemoteProtocolError
from tacit.secagg.framing import digest, framed
from tacit.secagg.parameters import SMALLEST_GROUP
from tacit.secagg.terms import Terms

Refusal = Literal["unknown version", "too stale", "waits already", "in an open epoch", "spent"]
"""Why a check-in is refused."""

_FIX: Mapping[Refusal, str] = {
    "unknown version": "Start from a model that was sent out.",
    "too stale": "Train again from the newest model.",
    "waits already": "Wait for the epoch to open, or leave first.",
    "in an open epoch": "Wait for the epoch to end.",
    "spent": "Train from a newer model than that of the update which is in a sum.",
}


# --- values -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EpochRules:
    """When an epoch opens, and for whom.

    Attributes:
        size: Clients of an epoch: as soon as so many wait it opens.
        min_cohort: No epoch of fewer opens, however long they wait. As a sum of fewer survivors is not opened
            either, an epoch has to be larger for one that vanishes not to cost the sum.
        max_staleness: Versions that may have been committed since the one an update was trained from.

    Raises:
        PlanError: An epoch can never be large enough, or all updates are too stale (T187).
    """

    size: int
    min_cohort: int = 10
    max_staleness: int = 10

    def __post_init__(self) -> None:
        if self.size < self.least:
            raise PlanError(
                "T187",
                f"an epoch of {self.size} never has the {self.least} clients that a sum takes",
                fix="Let more clients be in an epoch, or lower min_cohort.",
            )
        if self.max_staleness < 0:
            raise PlanError("T187", "every update would be too stale", fix="Let max_staleness be at least 0.")

    @property
    def least(self) -> int:
        """Least clients of an epoch."""
        return max(self.min_cohort, SMALLEST_GROUP)


@dataclass(frozen=True)
class Offer:
    """What the server shows to every member of an epoch.

    Attributes:
        number: The epoch's.
        terms: Of its group. ``terms.round`` is the version of the model that staleness is counted from,
            ``terms.base_round`` the oldest one that an update may be relative to, and ``terms.model_sha256``
            the digest of all that follows.
        models: Versions from the oldest to the newest, and the digest of each: members that trained from
            different versions still agree on what every version is.
    """

    number: int
    terms: Terms
    models: tuple[tuple[int, bytes], ...]


def models_digest(number: int, models: tuple[tuple[int, bytes], ...]) -> bytes:
    """Return the digest, 32 bytes, by which an epoch's terms are bound to its number and to its models."""
    return digest("epoch", number, *(framed(version, sha256) for version, sha256 in models))


# --- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckedIn:
    """A client has an update ready that it trained from this version of the model."""

    client: str
    base: int


@dataclass(frozen=True)
class Left:
    """A client that checked in does not wait any more."""

    client: str


@dataclass(frozen=True)
class Committed:
    """A new version of the model is the newest."""

    version: int
    model_sha256: bytes


@dataclass(frozen=True)
class WaitOver:
    """The longest time that clients are to wait for this epoch has passed."""

    number: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch's group has its sum, of these clients, or has failed: then there are none."""

    number: int
    survivors: tuple[str, ...] = ()


EpochEvent = CheckedIn | Left | Committed | WaitOver | EpochEnded


# --- effects ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckInRefused:
    """Tell a client that its update will be in no epoch."""

    client: str
    reason: Refusal

    @property
    def error(self) -> RemoteProtocolError:
        """Return it as an error."""
        return RemoteProtocolError(
            "T567", f"the check-in is refused: {self.reason}", where=self.client, fix=_FIX[self.reason]
        )


@dataclass(frozen=True)
class WakeAfterWait:
    """Say `WaitOver` once clients have waited as long for this epoch as they should."""

    number: int


@dataclass(frozen=True)
class OpenEpoch:
    """Build the group's machine on the offered terms, and invite these clients to it with the offer."""

    offer: Offer
    clients: tuple[str, ...]


EpochEffect = CheckInRefused | WakeAfterWait | OpenEpoch
