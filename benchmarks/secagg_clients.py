"""The clients of a measured secure sum, in a process of their own; each works by itself and is timed.

A client makes no use of what another one computed: it verifies, agrees and orders the graph itself, as it
would on a device. Only the parameters that a group of this size needs are known to it from rounds before.
"""

import hashlib
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np

from benchmarks.peak import Peak
from benchmarks.secagg_cases import Case
from benchmarks.secagg_mailbox import post
from tacit.secagg import graph
from tacit.secagg.client import SecureClient
from tacit.secagg.client_checks import Find
from tacit.secagg.events import ClientEvent, Invited, Masks, RowReady, Send
from tacit.secagg.identity import Authority, Certificate, Enrolment, Identity
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.messages import decode, encode, kind_of, limit_of
from tacit.secagg.parameters import GroupParameters, Threat, find_parameters, privacy
from tacit.secagg.ring import Integers, LaneGroup, Ring, lane_share
from tacit.secagg.terms import Terms

Ask = tuple[Literal["invite", "message", "vector"], int, bytes]
"""What a client is asked: its advert; an answer to a message; to post its vector to the mailbox of a name."""

CORRUPT = DROPOUT = 0.1
"""What the parameters withstand."""
_DAY = 20_000
_WATCHED = 3  # clients whose memory is looked at: each look holds the process up


def ring_of(case: Case) -> Ring:
    """Return how rows lie in words."""
    return Ring((LaneGroup(case.dimension, case.lane_bits),))


def read(data: bytes | memoryview, clients: int) -> Any:
    """Read a message of any kind, however long it may be in a group in which all are neighbours."""
    kind = kind_of(data)
    return decode(data, kind, limit_of(kind, clients, clients - 1))


def find_for(case: Case) -> Find:
    """Return what finds the parameters: the real search, or one that takes the given neighbours."""
    if case.neighbours is None:
        return find_parameters
    neighbours = case.neighbours

    def find(clients: int, threat: Threat) -> GroupParameters:
        corrupt = privacy(clients, neighbours, threat.corrupt_members(clients))
        least = (neighbours + corrupt) // 2 + 1 if threat.mode == "malicious" else corrupt + 1
        return GroupParameters(clients, neighbours, min(least, neighbours))

    return find


class Player:
    """One client: its machine, and what its work has cost so far."""

    def __init__(self, machine: SecureClient, clients: int) -> None:
        self.machine, self._clients = machine, clients
        self.masks: tuple[Mask, ...] = ()
        self.seconds = self.wall = self.codec = 0.0
        self.sent = self.received = 0

    def answer(self, data: bytes) -> list[bytes]:
        """Read a message of the server and return what the machine says to it."""
        begin = time.process_time()
        message = read(data, self._clients)
        self.codec += time.process_time() - begin
        self.received += len(data)
        graph._circle.cache_clear()  # noqa: SLF001 - a device has no other client's graph to look at
        return self.take(message)

    def take(self, event: ClientEvent) -> list[bytes]:
        """Give the machine an event and return what it wants sent."""
        wall, begin = time.perf_counter(), time.process_time()
        effects = self.machine.receive(event)
        self._worked(wall, begin)
        sent = []
        for effect in effects:
            if isinstance(effect, Masks):
                self.masks = effect.masks
            elif isinstance(effect, Send):
                sent.append(effect.message)
        begin = time.process_time()
        encoded = [encode(message) for message in sent]
        self.codec += time.process_time() - begin
        self.sent += sum(map(len, encoded))
        return encoded

    def vector(self, ring: Ring, row: Integers) -> list[bytes]:
        """Pack and mask a row, and return it in tagged pieces."""
        wall, begin = time.perf_counter(), time.process_time()
        words = ring.pack(row)
        add_masks(words, self.masks)
        self.masks = ()
        self._worked(wall, begin)
        return self.take(RowReady(words))

    def _worked(self, wall: float, begin: float) -> None:
        self.seconds += time.process_time() - begin
        self.wall += time.perf_counter() - wall


class Players:
    """All clients of one group, and the sum that is expected of them."""

    def __init__(self, case: Case) -> None:
        self._case, self._ring = case, ring_of(case)
        self._names = [name_of(number) for number in range(case.clients)]
        self._enrolled: list[tuple[Identity, Certificate]] = []
        self._expected = np.zeros(case.dimension, np.int64)
        self._peaks: list[float] = []
        self.enrolment: Enrolment | None = None
        if case.mode == "malicious":
            self._enrol()

    def _enrol(self) -> None:
        authority = Authority.generate()
        for name in self._names:
            identity = Identity.generate()
            self._enrolled.append((identity, authority.enrol(name, identity.public, _DAY)))
        self.enrolment = authority.enrolment(_DAY)

    def accept(self, terms: Terms) -> None:
        """Make a machine for each, with these terms."""
        find = find_for(self._case)
        find(len(self._names), Threat(terms.corrupt, terms.dropout, terms.mode))
        self._players = []
        for number, name in enumerate(self._names):
            identity, certificate = self._enrolled[number] if self._enrolled else (None, None)
            machine = SecureClient(
                name,
                terms,
                self._ring,
                identity=identity,
                certificate=certificate,
                enrolment=self.enrolment,
                find=find,
            )
            self._players.append(Player(machine, len(self._names)))

    def answer(self, ask: Ask) -> list[bytes]:
        """Return what a client sends when it is asked."""
        what, number, data = ask
        player = self._players[number]
        if what == "invite":
            return player.take(Invited())
        if what == "message":
            return player.answer(data)
        post(data, self._vector(player, number))
        return []

    def _vector(self, player: Player, number: int) -> list[bytes]:
        """Draw a client's row, which is there for as long as it is needed, and let it send it."""
        most = lane_share(self._case.lane_bits, self._case.clients)
        if len(self._peaks) >= _WATCHED:
            row = np.random.default_rng(number).integers(-most, most + 1, self._case.dimension)
            self._expected += row
            return player.vector(self._ring, row)
        with Peak() as peak:
            row = np.random.default_rng(number).integers(-most, most + 1, self._case.dimension)
            self._expected += row
            sent = player.vector(self._ring, row)
        self._peaks.append(peak.mb)
        return sent

    def figures(self) -> dict[str, Any]:
        """Return what the clients that stayed to the end have cost, and the digest of the sum."""
        stayed = [player for player in self._players if player.machine.state == "revealed"]
        return {
            "clients": len(stayed),
            "client_ms": _ms([player.seconds for player in stayed]),
            "client_wall_ms": _ms([player.wall for player in stayed]),
            "client_codec_ms": _ms([player.codec for player in stayed]),
            "client_peak_mb": max(self._peaks),
            "upload_bytes": max(player.sent for player in stayed),
            "download_bytes": max(player.received for player in stayed),
            "expected_sha256": hashlib.sha256(self._expected.data).hexdigest(),
        }


def _ms(seconds: Sequence[float]) -> float:
    return 1000 * float(np.median(seconds))


def name_of(number: int) -> str:
    """Return a client's id; ids ascend with the numbers."""
    return f"client {number:06d}"


def number_of(client: str) -> int:
    """Return the number of an id."""
    return int(client.removeprefix("client "))


def serve(connection: Connection, case: Case) -> None:
    """Play the clients for the server at the other end, until it asks nothing and wants the figures."""
    players = Players(case)
    connection.send(players.enrolment)
    players.accept(Terms.from_bytes(connection.recv_bytes()))
    while asks := connection.recv():
        connection.send([players.answer(ask) for ask in asks])
    connection.send(players.figures())
