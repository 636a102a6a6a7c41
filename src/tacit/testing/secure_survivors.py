"""Hostile servers that lie about who survived, ask twice, or play old messages."""

from collections.abc import Iterable, Mapping
from typing import Literal

from tacit.secagg.events import Admit, Gone, Received, ServerEffect, ServerEvent, ServerMessage
from tacit.secagg.identity import Identity
from tacit.secagg.messages import (
    SURVIVORS,
    Confirmation,
    Message,
    Survivors,
    VectorChunk,
    VectorHead,
    bitmap_of,
    positions_in,
)
from tacit.testing.secure_group import SecureGroup
from tacit.testing.secure_learnt import Record, View
from tacit.testing.secure_server import CuriousServer, LyingServer


class SplitSurvivors(LyingServer):
    """Tells different clients of different survivors, to get both secrets of whoever they differ in.

    It shows each client every signature there is of what it was told: those of others told the same, whatever
    the corrupt members sign, and some of its own making for the rest.

    Args:
        alive: Whom each client is told of; one that is not named is told of all.
    """

    def __init__(self, group: SecureGroup, alive: Mapping[str, Iterable[str]]) -> None:
        super().__init__(group)
        self._alive = {client: frozenset(others) for client, others in alive.items()}
        self._own = Identity.generate()

    def alive_for(self, client: str) -> Iterable[str]:
        """Return the survivors that this client is told of."""
        return self._alive.get(client) or super().alive_for(client)

    def confirmation_for(self, view: View) -> Confirmation | None:
        """Return the signatures, and forged ones of the survivors that gave none."""
        honest, told = super().confirmation_for(view), self.record.survivors[view.client]
        signatures = dict(honest.signatures) if honest else {}
        alive = positions_in(told.bitmap, len(view.members))
        for advert in view.roster.adverts:
            at = view.members.index(advert.client)
            if at in alive:
                signatures.setdefault(at, self._own.sign(SURVIVORS, told.session, told.bitmap))
        return Confirmation(told.session, tuple(sorted(signatures.items())))


class SmallSum(LyingServer):
    """Names few survivors, the same to everybody.

    Args:
        alive: Who is to be in the sum.
    """

    def __init__(self, group: SecureGroup, alive: Iterable[str]) -> None:
        super().__init__(group)
        self._few = frozenset(alive)

    def alive_for(self, client: str) -> Iterable[str]:
        """Return the few."""
        return self._few


class BothSecrets(CuriousServer):
    """Follows the protocol, then names a second survivor set: two sums that differ in one row.

    Args:
        victim: Who is in the first set and not in the second.
        again: Whether it asks once clients have signed the first set, or once they have answered for it.
    """

    def __init__(
        self, group: SecureGroup, victim: str, again: Literal["signed", "revealed"] = "revealed"
    ) -> None:
        super().__init__(group)
        self._victim, self._again = victim, again

    def tell(self, client: str, message: ServerMessage) -> Iterable[ServerMessage]:
        """Return the message, and a second survivor set where its time has come."""
        last = isinstance(message, Confirmation if self.group.terms.is_malicious else Survivors)
        if not last:
            return (message,)
        second = self._without(client)
        return (message, second) if self._again == "revealed" else (second, message)

    def _without(self, client: str) -> Survivors:
        view, first = self.record.view(client), self.record.survivors.get(client)
        assert view is not None
        alive = set(positions_in(first.bitmap, len(view.members))) if first else set(range(len(view.members)))
        alive.discard(view.members.index(self._victim))
        return Survivors(view.roster.session, bitmap_of(alive, len(view.members)))


class LateVector(CuriousServer):
    """Keeps one client's vector to itself, calls the client dead, and has the masks of its pairs opened.

    Args:
        victim: The client.
    """

    def __init__(self, group: SecureGroup, victim: str) -> None:
        super().__init__(group)
        self._victim = victim

    def answer(self, event: ServerEvent) -> Iterable[ServerEffect]:
        """Return what the honest server does that never sees the vector."""
        match event:
            case Received(client, VectorHead()) if client == self._victim:
                yield Admit(client)
                yield from super().answer(Gone(client))
            case Received(client, VectorChunk()) if client == self._victim:
                return
            case _:
                yield from super().answer(event)


class Replay(CuriousServer):
    """Follows the protocol, and slips one client a message that it has recorded.

    Args:
        victim: The client.
        kind: The kind of the message.
        at: Before which of its messages, counted from 0, the client gets it; 4: after the last.
        source: What was recorded in another round; None: in this one, so that nothing is slipped in before
            the message itself was sent.
    """

    def __init__(
        self, group: SecureGroup, victim: str, kind: type[Message], at: int, source: Record | None = None
    ) -> None:
        super().__init__(group)
        self._victim, self._kind, self._at, self._source = victim, kind, at, source
        self._told = 0

    def tell(self, client: str, message: ServerMessage) -> Iterable[ServerMessage]:
        """Return the message, and the old one in its place among them."""
        if client != self._victim:
            yield message
            return
        if self._told == self._at:
            yield from self._old()
        self._told += 1
        yield message
        last = Confirmation if self.group.terms.is_malicious else Survivors
        if isinstance(message, last) and self._told == self._at:
            self.record.note_sent(client, message)
            yield from self._old()

    def _old(self) -> Iterable[ServerMessage]:
        sent = (self._source or self.record).sent
        of_kind = [
            message for client, message in sent if client == self._victim and isinstance(message, self._kind)
        ]
        return of_kind[:1]
