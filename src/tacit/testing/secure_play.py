"""Play a group's secure sum in memory, with hostile parties in any of its places."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tacit.core.errors import RemoteProtocolError, TacitError
from tacit.secagg.events import (
    Admit,
    ClientEffect,
    ClientEvent,
    DeadlinePassed,
    Gone,
    GroupFailed,
    Invited,
    Leave,
    Masks,
    Opened,
    OpenSum,
    Received,
    RowReady,
    Send,
    SendTo,
    ServerEffect,
    ServerEvent,
    ServerMessage,
    Step,
    Summed,
    Unmasked,
    WakeAt,
)
from tacit.secagg.masks import add_masks
from tacit.secagg.messages import Complaint, Message, VectorChunk, decode, encode, limit_of
from tacit.secagg.terms import Terms
from tacit.testing.secure_group import SecureGroup


class ServerParty(Protocol):
    """A `tacit.secagg` server, or what takes its place."""

    def receive(self, event: ServerEvent, /) -> tuple[ServerEffect, ...]:
        """Take one event and return what is to be done."""


class ClientParty(Protocol):
    """A `tacit.secagg` client, or what takes its place."""

    @property
    def complaint(self) -> Complaint | None:
        """Why the client left, for the server."""

    @property
    def holds_secrets(self) -> bool:
        """Whether a secret is still in its memory."""

    def receive(self, event: ClientEvent, /) -> tuple[ClientEffect, ...]:
        """Take one event and return what is to be done."""


class Wire(Protocol):
    """What the bytes of a message go through on their way from or to a client."""

    def __call__(self, client: str, kind: type[Message], data: bytes, /) -> bytes: ...


@dataclass
class Played:
    """How a play ended.

    Attributes:
        result: The server's sum or failure; None where a hostile server had neither.
        parties: The clients' machines.
        aborts: What each client that broke off raised.
        refused: What came over the wire and was no message, by client.
    """

    parties: Mapping[str, ClientParty]
    result: Summed | GroupFailed | None = None
    aborts: dict[str, TacitError] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def codes(self) -> dict[str, str]:
        """The named reason of each client that broke off."""
        return {client: error.code for client, error in self.aborts.items()}

    @property
    def holders(self) -> frozenset[str]:
        """The clients whose machines still hold secrets."""
        return frozenset(client for client, party in self.parties.items() if party.holds_secrets)


Vanishes = Callable[[str, Message], bool]
"""Tells whether a client vanishes instead of sending this message."""


def play(
    group: SecureGroup,
    server: ServerParty | None = None,
    *,
    parties: Mapping[str, ClientParty] | None = None,
    terms: Mapping[str, Terms] | None = None,
    vanishes: Vanishes | None = None,
    wire: Wire | None = None,
) -> Played:
    """Play a round to its end: honest machines but for those that are given.

    A step's deadline passes when nothing is under way any more.

    Args:
        server: In the honest server's place.
        parties: In some clients' places.
        terms: What some clients are invited on, where that is not the same for all.
        vanishes: Who vanishes, and when.
        wire: What every message's bytes go through; without it messages are not encoded.
    """
    given, told = parties or {}, terms or {}
    machines = {
        client: given.get(client) or group.client(client, told.get(client)) for client in group.clients
    }
    return _Play(group, server or group.server(), machines, vanishes, wire).run()


class _Play:
    def __init__(
        self,
        group: SecureGroup,
        server: ServerParty,
        machines: Mapping[str, ClientParty],
        vanishes: Vanishes | None,
        wire: Wire | None,
    ) -> None:
        self._group, self._server, self._vanishes, self._wire = group, server, vanishes, wire
        self._queue: deque[tuple[str, ClientEvent] | ServerEvent] = deque()
        self._step: Step | None = None
        self._admitted: set[str] = set()
        self._waiting: dict[str, list[VectorChunk]] = {}
        self._gone: set[str] = set()
        self._played = Played(machines)

    def run(self) -> Played:
        self._tell(self._server.receive(Opened(self._group.clients)))
        self._queue.extend((client, Invited()) for client in self._group.clients)
        while self._queue or self._step:
            if self._queue:
                self._take(self._queue.popleft())
            elif self._step:
                step, self._step = self._step, None
                self._tell(self._server.receive(DeadlinePassed(step)))
        return self._played

    def _take(self, event: tuple[str, ClientEvent] | ServerEvent) -> None:
        if isinstance(event, tuple):
            self._ask(*event)
        elif self._played.result is None:
            self._tell(self._server.receive(event))

    def _tell(self, effects: tuple[ServerEffect, ...]) -> None:
        for effect in effects:
            match effect:
                case SendTo():
                    self._to_client(effect.client, effect.message)
                case WakeAt():
                    self._step = effect.step
                case Admit():
                    self._admitted.add(effect.client)
                    for chunk in self._waiting.pop(effect.client, []):
                        self._to_server(effect.client, chunk)
                case OpenSum():
                    effect.work.apply(effect.total, slice(None))
                    self._queue.append(Unmasked())
                case Summed() | GroupFailed():
                    self._played.result, self._step = effect, None

    def _ask(self, client: str, event: ClientEvent) -> None:
        party = self._played.parties[client]
        try:
            effects = party.receive(event)
        except TacitError as error:
            self._played.aborts.setdefault(client, error)
            if party.complaint is not None:
                self._to_server(client, party.complaint)
            return
        for effect in effects:
            if isinstance(effect, Masks):
                words = self._group.ring.pack(self._group.rows[client])
                add_masks(words, effect.masks)
                self._queue.append((client, RowReady(words)))
            elif isinstance(effect, Send):
                self._send(client, effect.message)

    def _send(self, client: str, message: Message) -> None:
        if client not in self._gone and self._vanishes and self._vanishes(client, message):
            self._gone.add(client)
            self._queue.append(Gone(client))
        if client in self._gone:
            return
        if isinstance(message, VectorChunk) and client not in self._admitted:
            self._waiting.setdefault(client, []).append(message)
        else:
            self._to_server(client, message)

    def _to_server(self, client: str, message: Message) -> None:
        try:
            self._queue.append(Received(client, self._carried(client, message)))  # type: ignore[arg-type]
        except RemoteProtocolError as error:
            self._played.refused[client] = error.code
            self._queue.append(Gone(client, f"{error.code}: {error.what}"))

    def _to_client(self, client: str, message: ServerMessage) -> None:
        if client not in self._played.parties:
            return  # somebody whom the server has invented
        try:
            self._queue.append((client, self._carried(client, message)))  # type: ignore[arg-type]
        except RemoteProtocolError as error:
            self._played.refused[client] = error.code
            self._queue.append((client, Leave(f"{error.code}: {error.what}")))

    def _carried(self, client: str, message: Message) -> Message:
        if self._wire is None:
            return message
        kind, count = type(message), len(self._group.clients)
        data = self._wire(client, kind, encode(message))
        return decode(data, kind, limit_of(kind, count, count - 1, self._group.chunk))


def words_of(bodies: list[bytes | bytearray | memoryview]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return the words that the pieces of a masked vector make."""
    return np.frombuffer(b"".join(bytes(body) for body in bodies), np.dtype("<u8")).astype(np.uint64)
