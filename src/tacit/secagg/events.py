"""Events that the machines of a secure sum take, and effects that they return; all of them values.

Both sides have one step in common for each message that a client sends::

    step        client sends            server answers, once nobody is awaited any more
    advert      Advert                  Roster
    shares      Shares                  Delivery
    vector      VectorHead, -Chunk      Survivors
    signature   SurvivorSignature       Confirmation                    (malicious mode only)
    unmask      Unmask                  nothing: the sum is opened
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.certificate import RoundCertificate
from tacit.secagg.masks import Mask
from tacit.secagg.messages import (
    Advert,
    Complaint,
    Confirmation,
    Delivery,
    Roster,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
)
from tacit.secagg.unmask import Unmasking

Words = npt.NDArray[np.uint64]
Total = npt.NDArray[np.int64]

Step = Literal["advert", "shares", "vector", "signature", "unmask"]
"""The message of a client that the server is collecting."""
STEPS: tuple[Step, ...] = ("advert", "shares", "vector", "signature", "unmask")

ClientMessage = (
    Advert | Shares | VectorHead | VectorChunk | SurvivorSignature | Unmask | Complaint
)  # what a client sends
ServerMessage = Roster | Delivery | Survivors | Confirmation  # what the server sends

STEP_OF: Mapping[type[ClientMessage], Step] = {
    Advert: "advert",
    Shares: "shares",
    VectorHead: "vector",
    VectorChunk: "vector",
    SurvivorSignature: "signature",
    Unmask: "unmask",
}
"""The step in which a message is due; a complaint may come at any time."""

REASONS: Mapping[Step, str] = {
    "advert": "too few clients came",
    "shares": "too few clients dealt shares to enough neighbours",
    "vector": "too few clients, or too few neighbours of one, sent a vector",
    "signature": "too few clients signed the survivor set",
    "unmask": "too few shares came back to open the sum",
}
"""Why a group fails, by the step at whose end it is found to."""


# --- events for a client, besides the server's messages ----------------------------------------------


@dataclass(frozen=True)
class Invited:
    """The server asks the client to take part, on the terms that the machine was built with."""


@dataclass(frozen=True, eq=False)
class RowReady:
    """The packed row has been masked with all that `Masks` said.

    ``words`` must not change until they are sent. They are None where whoever masked them hands them to
    the server itself, as a process does that plays many clients and sums their vectors first.
    """

    words: Words | None = None


@dataclass(frozen=True)
class Leave:
    """The client's own side gives the round up: it failed, or was told to stop."""

    reason: str


ClientEvent = Invited | RowReady | Leave | ServerMessage


# --- what a client wants done -------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send a message to the server."""

    message: ClientMessage


@dataclass(frozen=True)
class Masks:
    """Mask the packed row with all of these, once, then say `RowReady`."""

    masks: tuple[Mask, ...] = field(repr=False)


@dataclass(frozen=True)
class Closed:
    """The client is done: ``reason`` is empty where it gave all its answers."""

    reason: str = ""


ClientEffect = Send | Masks | Closed


# --- events for the server ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """The group may begin with these clients, all of which have the terms."""

    clients: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Received:
    """A message came from this client; the connection it came over says whose it is."""

    client: str
    message: ClientMessage


@dataclass(frozen=True)
class Gone:
    """A client vanished or gave up; nothing more will come from it."""

    client: str
    reason: str = "vanished"


@dataclass(frozen=True)
class DeadlinePassed:
    """The time for this step is over."""

    step: Step


@dataclass(frozen=True)
class Unmasked:
    """The work of `OpenSum` has been applied to every word of the total."""


ServerEvent = Opened | Received | Gone | DeadlinePassed | Unmasked


# --- what the server wants done -----------------------------------------------------------------------


@dataclass(frozen=True)
class SendTo:
    """Send a message to this client."""

    client: str
    message: ServerMessage


@dataclass(frozen=True)
class WakeAt:
    """Say `DeadlinePassed` when the time for this step is over, as the terms or the driver have it."""

    step: Step


@dataclass(frozen=True)
class Admit:
    """There is room for this client's vector: read its chunks from now on, and not before.

    Only so many vectors are under way at a time, so that the server's memory does not grow with the group.
    """

    client: str


@dataclass(frozen=True, eq=False)
class OpenSum:
    """Apply the work to the total, in parts as it pleases, then say `Unmasked`.

    Attributes:
        work: The masks that are left in the total, with their signs turned.
        total: The sum of the masked vectors, changed in place.
    """

    work: Unmasking = field(repr=False)
    total: Words = field(repr=False)


@dataclass(frozen=True, eq=False)
class Summed:
    """The group's sum is open.

    Attributes:
        survivors: Whose rows are in it, by id.
        total: Their exact sum.
        certificate: What anybody can check about it.
        blamed: Clients that sent what does not fit, and what; the text says where it may have been another.
        left: All who did not stay to the end, and why.
    """

    survivors: tuple[str, ...]
    total: Total = field(repr=False)
    certificate: RoundCertificate = field(repr=False)
    blamed: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupFailed:
    """The group has no sum: what came is discarded unopened. Other groups of the round go on.

    Attributes:
        reason: One of `REASONS`.
        blamed: As in `Summed`.
        left: As in `Summed`.
        detail: What was missing, in words.
    """

    reason: str
    blamed: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""

    @property
    def error(self) -> RemoteProtocolError:
        """Return it as an error, for a driver that cannot go on without the group."""
        return RemoteProtocolError("T566", f"the group has no sum: {self.reason}", where=self.detail)


ServerEffect = SendTo | WakeAt | Admit | OpenSum | Summed | GroupFailed
