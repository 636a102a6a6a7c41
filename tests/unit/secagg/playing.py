"""Play a whole group in memory: its clients, its server, any order of messages, clients that vanish."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import RemoteProtocolError
from tacit.secagg import messages
from tacit.secagg.client import SecureClient
from tacit.secagg.client_checks import Find
from tacit.secagg.entropy import GivenNonce
from tacit.secagg.events import (
    STEP_OF,
    STEPS,
    Admit,
    ClientEvent,
    Closed,
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
    Step,
    Summed,
    Unmasked,
    WakeAt,
)
from tacit.secagg.identity import Authority, Certificate, Enrolment, Identity, RememberingVerifier
from tacit.secagg.masks import add_masks
from tacit.secagg.parameters import Mode, find_parameters
from tacit.secagg.ring import LaneGroup, Ring
from tacit.secagg.server import SecureServer
from tacit.secagg.terms import Terms
from tacit.secagg.unmask import chunks

Row = npt.NDArray[np.int64]
DAY = 20_000


@dataclass(frozen=True)
class World:
    """What a group is set up with: who the clients are, and what everybody agrees on."""

    clients: tuple[str, ...]
    terms: Terms
    ring: Ring
    server_private_key: X25519PrivateKey
    authority: Authority | None = None
    identities: Mapping[str, Identity] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    nonces: Mapping[str, bytes] = field(default_factory=dict)
    find: Find = find_parameters
    chunk: int = 64

    @property
    def enrolment(self) -> Enrolment | None:
        """What every client has pinned."""
        return self.authority.enrolment(DAY) if self.authority else None

    def client(self, name: str, **changed: object) -> SecureClient:
        """Make the machine of one client."""
        setting: dict[str, object] = {
            "terms": self.terms,
            "ring": self.ring,
            "identity": self.identities.get(name),
            "certificate": self.certificates.get(name),
            "enrolment": self.enrolment,
            "entropy": GivenNonce(self.nonces[name]),
            "verifier": VERIFIER,
            "find": self.find,
            "chunk": self.chunk,
        }
        return SecureClient(name, **(setting | changed))  # type: ignore[arg-type]

    def server(self, **changed: object) -> SecureServer:
        """Make the server's machine."""
        setting: dict[str, object] = {
            "server_private_key": self.server_private_key,
            "enrolment": self.enrolment,
            "find": self.find,
            "verifier": VERIFIER,
            "chunk": self.chunk,
        }
        return SecureServer(self.terms, self.ring, **(setting | changed))  # type: ignore[arg-type]

    def rows(self, rng: np.random.Generator, largest: int = 1000) -> dict[str, Row]:
        """Draw a row for every client."""
        return {name: rng.integers(-largest, largest + 1, self.ring.size) for name in self.clients}


VERIFIER = RememberingVerifier()


def make_world(
    clients: int,
    *,
    mode: Mode = "malicious",
    min_cohort: int = 3,
    corrupt: float = 0.1,
    dropout: float = 0.1,
    ring: Ring | None = None,
    post_quantum: bool = False,
    find: Find = find_parameters,
    chunk: int = 64,
    seed: int = 0,
    **terms: object,
) -> World:
    """Set up a group of so many enrolled clients."""
    ring = ring or Ring((LaneGroup(size=37, bits=32), LaneGroup(size=2, bits=52)))
    names = tuple(f"client-{i:04d}" for i in range(clients))
    authority = Authority.generate() if mode == "malicious" else None
    identities = {name: Identity.generate() for name in names} if authority else {}
    private = X25519PrivateKey.generate()
    random = Random(seed)
    values: dict[str, object] = {
        "job": "test",
        "round": 3,
        "model_sha256": bytes(32),
        "settings_sha256": bytes(32),
        "group": 0,
        "groups": 1,
        "min_cohort": min_cohort,
        "mode": mode,
        "corrupt": corrupt,
        "dropout": dropout,
        "lanes": tuple((group.size, group.bits) for group in ring.lanes),
        "enrolment_root": authority.enrolment(DAY).root if authority else b"",
        "server_key": private.public_key().public_bytes_raw(),
        "post_quantum": post_quantum,
        "base_round": 3,
    }
    return World(
        clients=names,
        terms=Terms(**(values | terms)),  # type: ignore[arg-type]
        ring=ring,
        server_private_key=private,
        authority=authority,
        identities=identities,
        certificates={n: authority.enrol(n, i.public, DAY + 9) for n, i in identities.items()}
        if authority
        else {},
        nonces={name: random.randbytes(16) for name in names},
        find=find,
        chunk=chunk,
    )


Wire = Callable[[str, bool, bytes], bytes]
"""What becomes of a message's bytes: whose connection, whether on its way to the server, the bytes."""
ToServer = Callable[[str, messages.Message], Iterable[messages.Message]]
"""What becomes of a client's message on its way: none, one or several messages."""
ToClient = Callable[[str, messages.Message], Iterable[messages.Message]]


def unchanged(client: str, message: messages.Message) -> Iterable[messages.Message]:
    """Pass a message on as it is."""
    return (message,)


@dataclass
class Playing:
    """One group, played to its end.

    Messages of one connection keep their order; which connection is next is drawn. When nothing is under way
    any more, the step's deadline passes.

    Attributes:
        world: The group's setting.
        rows: What each client contributes.
        leaves: The first step whose message a client does not send; of a vector it may send a part.
        silent: Of those who leave, who does so without the server's noticing.
        random: Draws the order, and where a vector breaks off.
        on_wire: Whether messages are encoded and decoded on their way.
        wire: What becomes of the bytes, if there are any.
        to_server: What becomes of messages to the server.
        to_client: What becomes of messages to a client.
        clients: The clients' machines.
        server: The server's.
        result: How the group ended.
        refusals: What clients did not accept.
        transcript: All messages in the order in which they were sent: client, whether it sent it, message.
    """

    world: World
    rows: Mapping[str, Row]
    leaves: Mapping[str, Step] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    random: Random = field(default_factory=lambda: Random(0))
    on_wire: bool = False
    wire: Wire | None = None
    to_server: ToServer = unchanged
    to_client: ToClient = unchanged
    clients: dict[str, SecureClient] = field(default_factory=dict)
    server: SecureServer = None  # type: ignore[assignment]
    result: Summed | GroupFailed | None = None
    refusals: dict[str, RemoteProtocolError] = field(default_factory=dict)
    transcript: list[tuple[str, bool, messages.Message]] = field(default_factory=list)
    _up: dict[str, deque[messages.Message]] = field(default_factory=dict)
    _down: dict[str, deque[messages.Message]] = field(default_factory=dict)
    _admitted: set[str] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)
    _step: Step | None = None

    def __post_init__(self) -> None:
        self.clients = self.clients or {name: self.world.client(name) for name in self.world.clients}
        self.server = self.server or self.world.server()
        self._up = {name: deque() for name in self.clients}
        self._down = {name: deque() for name in self.clients}

    def play(self) -> Summed | GroupFailed:
        """Play until the group has a sum, or has failed."""
        self._serve(Opened(tuple(self.clients)))
        for name in self._shuffled(self.clients):
            self._tell(name, Invited())
        while self.result is None:
            ready = [(name, True) for name, queue in self._up.items() if queue and not self._is_held(name)]
            ready += [(name, False) for name, queue in self._down.items() if queue]
            if ready:
                self._pass_on(*self.random.choice(ready))
            else:
                self._let_time_pass()
        return self.result

    def expected(self, survivors: Iterable[str]) -> Row:
        """Return the sum of these clients' rows."""
        return sum((self.rows[name] for name in survivors), np.zeros(self.world.ring.size, np.int64))

    def _is_held(self, name: str) -> bool:
        return isinstance(self._up[name][0], messages.VectorChunk) and name not in self._admitted

    def _let_time_pass(self) -> None:
        """Find out who is silent: first those whom others wait for, then all."""
        stalled = [
            name for name in sorted(self._admitted) if not self._up[name] and name in self.server.waiting
        ]
        if stalled and any(self._up.values()):
            self._serve(Gone(stalled[0], "silent for too long"))
            return
        assert self._step is not None, "the group waits for something"
        self._serve(DeadlinePassed(self._step))

    def _pass_on(self, name: str, is_up: bool) -> None:
        message = (self._up if is_up else self._down)[name].popleft()
        if self.on_wire:
            try:
                message = self._over_the_wire(name, is_up, message)
            except RemoteProtocolError as error:
                self.refusals[name] = error
                self._cut(name, error)
                return
        if is_up:
            self._serve(Received(name, message))  # type: ignore[arg-type]
        else:
            self._tell(name, message)  # type: ignore[arg-type]

    def _over_the_wire(self, name: str, is_up: bool, message: messages.Message) -> messages.Message:
        count, data = len(self.clients), messages.encode(message)
        if self.wire is not None:
            data = self.wire(name, is_up, data)
        limit = messages.limit_of(type(message), count, count - 1, self.world.chunk)
        return messages.decode(data, type(message), limit)

    def _cut(self, name: str, error: RemoteProtocolError) -> None:
        """Cut the connection over which nonsense came; both ends notice."""
        self._gone.add(name)
        self._up[name].clear()
        self._down[name].clear()
        self.clients[name].receive(Leave(error.what))
        self._serve(Gone(name, error.what))

    def _tell(self, name: str, event: ClientEvent) -> None:
        client = self.clients[name]
        if name in self._gone:
            return
        try:
            effects = client.receive(event)
        except RemoteProtocolError as error:
            self.refusals[name] = error
            if client.complaint is not None:
                self._up[name].append(client.complaint)
            return
        sent = []
        for effect in effects:
            match effect:
                case Send(message):
                    sent.append(message)
                case Masks(masks):
                    words = self.world.ring.pack(self.rows[name])
                    add_masks(words, masks)
                    self._tell(name, RowReady(words))
                case Closed():
                    pass
        self._send(name, sent)

    def _send(self, name: str, sent: Sequence[messages.Message]) -> None:
        leaves = self.leaves.get(name)
        for message in sent:
            if leaves is not None and _rank(message) >= STEPS.index(leaves):
                part = sent[: self.random.randrange(len(sent))] if leaves == "vector" else ()
                self._note_up(name, part)
                self._vanish(name)
                return
        self._note_up(name, sent)

    def _note_up(self, name: str, sent: Iterable[messages.Message]) -> None:
        for message in sent:
            self.transcript.append((name, True, message))
            self._up[name].extend(self.to_server(name, message))

    def _vanish(self, name: str) -> None:
        self._gone.add(name)
        self.clients[name].receive(Leave("vanishes"))
        if name not in self.silent and self.random.random() < 0.5:
            self._up[name].clear()  # what was under way is lost with the connection
        if name not in self.silent:
            self._serve_after(name)

    def _serve_after(self, name: str) -> None:
        """Let the server notice, once it has what had arrived."""
        while self._up[name] and not self._is_held(name):
            self._pass_on(name, is_up=True)
        self._up[name].clear()
        self._serve(Gone(name))

    def _serve(self, event: ServerEvent) -> None:
        self._perform(self.server.receive(event))

    def _perform(self, effects: Iterable[ServerEffect]) -> None:
        for effect in effects:
            match effect:
                case SendTo(name, message):
                    self.transcript.append((name, False, message))
                    if name not in self._gone:
                        self._down[name].extend(self.to_client(name, message))
                case WakeAt(step):
                    self._step = step
                case Admit(name):
                    self._admitted.add(name)
                case OpenSum(work, total):
                    for part in chunks(len(total), 8):
                        work.apply(total, part)
                    self._serve(Unmasked())
                case Summed() | GroupFailed():
                    self.result = effect

    def _shuffled(self, names: Iterable[str]) -> list[str]:
        shuffled = list(names)
        self.random.shuffle(shuffled)
        return shuffled


def _rank(message: messages.Message) -> int:
    """Return the place of the step that a client's message is due in."""
    return STEPS.index(STEP_OF[type(message)])  # type: ignore[index]
