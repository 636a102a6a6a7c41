"""A hostile server of epochs: it asks for the same updates twice."""

from tacit.secagg.epoch_client import EpochClient
from tacit.secagg.epoch_events import Offer, models_digest
from tacit.secagg.events import ClientEffect, ClientEvent, Invited
from tacit.secagg.messages import Complaint
from tacit.testing.secure_group import SecureGroup
from tacit.testing.secure_play import Played, play
from tacit.testing.secure_server import CuriousServer

_MODEL = bytes(31) + b"\x07"


class EpochParty:
    """A client of epochs in the place of a `SecureClient`: being invited, it joins the epoch that is open.

    Attributes:
        group: The group of the epoch; another one for each.
        number: The epoch's.
    """

    def __init__(self, group: SecureGroup, client: str) -> None:
        self.group, self.number = group, 1
        self._epochs = EpochClient(lambda terms: self.group.client(client, terms), max_staleness=3)
        self._epochs.trained(group.terms.round, _MODEL)

    @property
    def complaint(self) -> Complaint | None:
        """Why the client left the epoch."""
        return self._epochs.complaint

    @property
    def holds_secrets(self) -> bool:
        """Whether the client is in an epoch, so that its machine has secrets."""
        return self._epochs.state == "joined"

    def receive(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        """Take one event and return what is to be done."""
        if isinstance(event, Invited):
            models = ((self.group.terms.round, _MODEL),)
            return self._epochs.join(Offer(self.number, self.group.terms, models))[1]
        return self._epochs.receive(event)


class SecondEpoch:
    """Opens an epoch, and then another for the same updates without one client's: two sums to compare.

    Args:
        victim: The client that is left out of the second epoch.
        clients: Members of the first.

    Attributes:
        group: The members; their rows are the updates, the same in both epochs.
        servers: Of the two epochs, with what each has learnt.
    """

    def __init__(self, victim: str, clients: int = 7) -> None:
        self.group, self._victim = SecureGroup(clients), victim
        self._second = SecureGroup(clients, like=self.group)
        for number, group in enumerate((self.group, self._second), 1):
            digest = models_digest(number, ((group.terms.round, _MODEL),))
            group.terms = group.other_terms(model_sha256=digest)
        self.servers = CuriousServer(self.group), CuriousServer(self._second)

    def play(self) -> tuple[Played, Played]:
        """Play both epochs."""
        parties = {client: EpochParty(self.group, client) for client in self.group.clients}
        first = play(self.group, self.servers[0], parties=parties)
        for party in parties.values():
            party.group, party.number = self._second, 2
        second = play(
            self._second, self.servers[1], parties=parties, vanishes=lambda client, _: client == self._victim
        )
        return first, second
