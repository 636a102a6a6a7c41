"""A client of buffered-asynchronous aggregation: it lets each of its updates into one sum at most."""

from collections.abc import Callable
from typing import Literal

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.secagg.client import SecureClient
from tacit.secagg.epoch_events import Offer, models_digest
from tacit.secagg.events import ClientEffect, ClientEvent, Invited, RowReady
from tacit.secagg.messages import Complaint
from tacit.secagg.terms import DIGEST_BYTES, Terms

EpochClientState = Literal["idle", "waiting", "joined"]
_OVER = ("revealed", "left", "aborted")


class EpochClient:
    """Takes an update to an epoch, and to another one only while nothing of it has left the device.

    ::

        idle --trained--> waiting --join--> joined --RowReady: the update is spent--> joined --> idle
                             ^                 |
                             `--the group ended before that

    An update is spent before its masked vector is sent, whatever becomes of the group: a server that says
    the group has failed may have its sum, and a second sum with the same update in it would show, by the
    difference, what else is in either. From then on the client has to train from a newer version.

    Args:
        machine: Builds this client's machine for the group that has these terms; called once per epoch.
        max_staleness: The oldest update, in versions, that the device sends, whatever the server takes.
        spent: The version that its last spent update was trained from. The device keeps it (``spent``),
            and has written it down before a vector leaves.
    """

    def __init__(
        self, machine: Callable[[Terms], SecureClient], *, max_staleness: int, spent: int = -1
    ) -> None:
        self._build, self._most, self._spent = machine, max_staleness, spent
        self._update: tuple[int, bytes] | None = None
        self._machine: SecureClient | None = None

    @property
    def state(self) -> EpochClientState:
        """Where the client stands."""
        if self._machine is not None and self._machine.state not in _OVER:
            return "joined"
        return "idle" if self._update is None else "waiting"

    @property
    def spent(self) -> int:
        """The version that the last spent update was trained from; -1 before there is one."""
        return self._spent

    @property
    def complaint(self) -> Complaint | None:
        """Why the client left its last epoch, for the server."""
        return self._machine.complaint if self._machine is not None else None

    def trained(self, base: int, model_sha256: bytes) -> None:
        """Note that there is an update from this version of the model, in place of one that still waits.

        Raises:
            LocalProtocolError: T577, an update from this version or a newer one is spent; T512, the client is
                in an epoch.
        """
        if self.state == "joined":
            raise LocalProtocolError("T512", "a client in an epoch cannot take up another update")
        if base <= self._spent or len(model_sha256) != DIGEST_BYTES:
            what = f"an update from version {base} cannot follow one from version {self._spent}"
            raise LocalProtocolError("T577", what, fix="Train from a newer model.")
        self._update = base, model_sha256

    def join(self, offer: Offer) -> tuple[int, tuple[ClientEffect, ...]]:
        """Join an epoch with the update that waits, if the offer is one that the client accepts.

        Returns:
            The update's staleness, for the chain that encodes it (``StageContext.staleness``), and what is
            to be done.

        Raises:
            RemoteProtocolError: T556, the offer is not accepted, for instance because the model that the
                client trained from is another one than the other members are told.
            LocalProtocolError: T512, no update waits.
        """
        if self._update is None or self.state != "waiting":
            raise LocalProtocolError("T512", f"no epoch is joined while the client is {self.state}")
        staleness = _accepted(offer, *self._update, self._most)
        machine = self._build(offer.terms)
        self._machine = machine
        return staleness, machine.receive(Invited())

    def receive(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        """Take one event of the epoch's secure sum, as `SecureClient.receive` does.

        Raises:
            RemoteProtocolError: As there.
            LocalProtocolError: As there; T512, the client is in no epoch.
        """
        if self._machine is None or self.state != "joined":
            raise LocalProtocolError("T512", f"{type(event).__name__} is not legal in no epoch")
        if isinstance(event, RowReady) and self._update is not None:
            self._spent, self._update = self._update[0], None
        return self._machine.receive(event)


def _accepted(offer: Offer, base: int, model_sha256: bytes, most: int) -> int:
    """Return the staleness of an update in an epoch, once the offer is found right."""
    terms, versions = offer.terms, [version for version, _ in offer.models]
    if versions != list(range(terms.base_round, terms.round + 1)):
        _not_accepted("it does not name every version from the oldest to the newest")
    if terms.model_sha256 != models_digest(offer.number, offer.models):
        _not_accepted("its terms are those of another epoch, or of other models")
    if (base, model_sha256) not in offer.models:
        _not_accepted("it does not hold the model that the update was trained from")
    if terms.round - base > most:
        _not_accepted(
            f"the update is {terms.round - base} versions old, and the device sends none beyond {most}"
        )
    return terms.round - base


def _not_accepted(what: str) -> None:
    raise RemoteProtocolError("T556", f"the epoch's offer is not accepted: {what}")
