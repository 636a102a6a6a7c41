"""A secure round as it is deployed: a machine per device, and nothing but bytes between it and the server."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import RemoteProtocolError
from tacit.core.examples import Examples
from tacit.job import Plan, model_seed
from tacit.round import RoundDevice, RoundServer
from tacit.round.messages import (
    AssignmentReceived,
    ClientFailed,
    DeadlinePassed,
    Opened,
    RoundClosed,
    SendAssignment,
    SendUpdates,
    ServerEvent,
    Train,
    TrainingDone,
    WakeAt,
)
from tacit.round.secure import VANISHED, GroupEffect, GroupEvent, SecureSums
from tacit.round.secure_device import SecureDevice
from tacit.secagg import events
from tacit.secagg.client import SecureClient
from tacit.secagg.events import Closed, OpenSum, Received, Send, SendTo, Step, Unmasked
from tacit.secagg.groups import divide
from tacit.secagg.identity import Authority, Identity, RememberingVerifier
from tacit.secagg.messages import Message, VectorChunk, decode, encode, kind_of, limit_of
from tacit.secagg.server import SecureServer
from tacit.secagg.terms import Terms
from tacit.secagg.unmask import chunks
from tacit.training import ClientWork
from tacit.training.flat import build
from tacit.training.torch_executor import TorchExecutor
from tests.unit.secagg.playing import STEP_OF

DAY = 20_000
CHUNK = 64
"""Bytes of a chunk, so that even these small vectors travel in several."""
STEPS = events.STEPS


@dataclass(frozen=True)
class Invitation:
    """What goes to a device before anything else, as bytes."""

    terms: bytes
    model: bytes


@dataclass
class Deployment:
    """One round: the server, its clients' devices, and the connections between them.

    Attributes:
        plan: The job and what follows from it.
        data: What each client has; one whose data are broken fails to train.
        leaves: The step before whose message a client's connection breaks.
        late: Clients whose training ends only after the round's deadline.
        random: Draws the order in which messages and training get there.
        alter: What becomes of a client's invitation on its way.
        closed: How the round ended.
        refused: Codes of what devices did not accept, by client.
        rejected: Codes of what the round's machine did not accept.
    """

    plan: Plan
    data: Mapping[str, Examples]
    leaves: Mapping[str, Step] = field(default_factory=dict)
    late: frozenset[str] = frozenset()
    random: Random = field(default_factory=lambda: Random(0))
    alter: Callable[[str, Invitation], Invitation] = lambda client, invitation: invitation
    closed: list[RoundClosed] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.plan.secure is not None
        job, self.secure = self.plan.job, self.plan.secure
        built = build(job.task, model_seed(job))
        self.vector = built.vector()
        self.executor = TorchExecutor(job.task, built, job.algorithm.local, job.algorithm.terms(), job.seed)
        self.authority, self.verifier = Authority.generate(), RememberingVerifier()
        self.sums = SecureSums(self._divide, self._machine)
        self.server = RoundServer(
            job.name, 1, job.seed, job.cohort, job.policy, self.plan.rule, secure=self.sums
        )
        self.terms: dict[int, Terms] = {}
        self.machines: dict[int, SecureServer] = {}
        self.devices: dict[str, SecureDevice] = {}
        self._up: dict[str, deque[bytes]] = {client: deque() for client in self.data}
        self._down: dict[str, deque[bytes]] = {client: deque() for client in self.data}
        self._training: set[str] = set()
        self._admitted: set[str] = set()
        self._steps: dict[int, Step] = {}
        self._is_past_deadline = False

    # --- the setting -----------------------------------------------------------------------------

    @property
    def is_malicious(self) -> bool:
        """Whether members are enrolled and sign."""
        return self.secure.threat.mode == "malicious"

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """How the cohort is divided, which follows from the ids."""
        return self._divide(self.data)

    def group_of(self, client: str) -> int:
        """Return the group that a client is in."""
        return next(number for number, group in enumerate(self.groups) if client in group)

    def invitation(self, client: str) -> Invitation:
        """Return what the server sends a client along with the assignment."""
        terms = self.terms[self.group_of(client)]
        return Invitation(terms.to_bytes(), self.vector.tobytes())

    def expected(self, clients: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the sum of these clients' updates as it is without masks: each alone, encoded, added up."""
        total = np.zeros(self.plan.grid.size, np.int64)
        for client in clients:
            device = RoundDevice(self.plan.codec, self.plan.job.seed)
            device.receive(AssignmentReceived(self.sent.assignment, (client,)))
            (sent,) = device.receive(TrainingDone(self.executor.train(self.vector, [self._work(client)])))
            assert isinstance(sent, SendUpdates)
            total += self.secure.integers(sent.rows[0])
        return total

    def _divide(self, clients: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        return divide(tuple(clients), self.secure.settings.group, b"any")

    def _machine(self, number: int, groups: int) -> SecureServer:
        key = X25519PrivateKey.generate()
        enrolment = self.authority.enrolment(DAY) if self.is_malicious else None
        terms = self.terms[number] = self.secure.terms(
            1,
            hashlib.sha256(self.vector.tobytes()).digest(),
            number,
            groups,
            key.public_key().public_bytes_raw(),
            enrolment_root=enrolment.root if enrolment else b"",
        )
        machine = self.machines[number] = SecureServer(
            terms,
            self.secure.ring,
            server_private_key=key,
            enrolment=enrolment,
            verifier=self.verifier,
            chunk=CHUNK,
        )
        return machine

    def _device(self, client: str, invitation: Invitation) -> SecureDevice:
        terms, plan = Terms.from_bytes(invitation.terms), self.plan
        identity = Identity.generate() if self.is_malicious else None
        certificate = self.authority.enrol(client, identity.public, DAY + 9) if identity else None
        machine = SecureClient(
            client,
            terms,
            self.secure.ring,
            identity=identity,
            certificate=certificate,
            enrolment=self.authority.enrolment(DAY) if identity else None,
            verifier=self.verifier,
            chunk=CHUNK,
        )
        return SecureDevice(
            RoundDevice(plan.codec, plan.job.seed),
            machine,
            terms,
            model_sha256=hashlib.sha256(invitation.model).digest(),
            settings_sha256=self.secure.settings_sha256,
            rule=plan.rule,
            grid=plan.grid,
            ring=self.secure.ring,
        )

    def _work(self, client: str) -> ClientWork:
        return ClientWork(client, self.data[client], 1)

    # --- the play --------------------------------------------------------------------------------

    def play(self) -> RoundClosed:
        """Play until the round is closed, and deliver what is then still under way."""
        self.open()
        while self.step():
            pass
        (closed,) = self.closed
        return closed

    def open(self) -> None:
        """Invite everybody."""
        self.tell(Opened(tuple(self.data)))
        for client in self.sent.clients:
            invitation = self.alter(client, self.invitation(client))
            self.devices[client] = self._device(client, invitation)
            self._give(client, AssignmentReceived(self.sent.assignment, (client,)))

    def step(self) -> bool:
        """Let one thing happen; tell whether anything was left to."""
        ready = [("up", c) for c, queue in self._up.items() if queue and not self._is_held(queue[0], c)]
        ready += [("down", c) for c, queue in self._down.items() if queue]
        ready += [
            ("train", c) for c in sorted(self._training) if self._is_past_deadline or c not in self.late
        ]
        if not ready:
            return self._let_time_pass()
        what, client = self.random.choice(ready)
        match what:
            case "up":
                self.tell(GroupEvent(self.group_of(client), Received(client, self._read(self._up[client]))))  # type: ignore[arg-type]
            case "down":
                self._give(client, self._read(self._down[client]))
            case "train":
                self._training.discard(client)
                self._give(client, TrainingDone(self.executor.train(self.vector, [self._work(client)])))
        return True

    def tell(self, event: ServerEvent) -> None:
        """Tell the round's machine, and do what it wants."""
        try:
            effects = deque(self.server.receive(event, 0.0))
        except RemoteProtocolError as error:
            self.rejected.append(error.code)
            return
        for effect in effects:
            match effect:
                case SendAssignment():
                    self.sent = effect
                case RoundClosed():
                    self.closed.append(effect)
                case GroupEffect(group, nested):
                    self._perform(group, nested)
                case WakeAt():
                    pass  # `_let_time_pass` knows when

    def _perform(self, group: int, effect: events.ServerEffect) -> None:
        match effect:
            case SendTo(client, message):
                if client in self.devices:
                    self._down[client].append(encode(message))
            case events.WakeAt(step):
                self._steps[group] = step
            case events.Admit(client):
                self._admitted.add(client)
            case OpenSum(work, total):
                for part in chunks(len(total), 16):
                    work.apply(total, part)
                self.tell(GroupEvent(group, Unmasked()))

    def _let_time_pass(self) -> bool:
        """Nothing is under way: the round's deadline passes, then those of the groups' steps."""
        if self.closed:
            return False
        if not self._is_past_deadline and all(step == "vector" for step in self._under_way().values()):
            self._is_past_deadline = True
            self.tell(DeadlinePassed())
        else:
            group, step = min(self._under_way().items(), key=lambda item: STEPS.index(item[1]))
            self.tell(GroupEvent(group, events.DeadlinePassed(step)))
        return True

    def _under_way(self) -> dict[int, Step]:
        return {group: step for group, step in self._steps.items() if self.sums.is_under_way(group)}

    def _is_held(self, data: bytes, client: str) -> bool:
        return kind_of(data) is VectorChunk and client not in self._admitted and not self.closed

    def _read(self, queue: deque[bytes]) -> Message:
        data = queue.popleft()
        kind, most = kind_of(data), self.secure.group
        return decode(data, kind, limit_of(kind, most, most - 1, CHUNK))

    def _give(self, client: str, event: object) -> None:
        """Give a device an event, and carry what it wants to the server."""
        if client not in self.devices:
            return
        try:
            effects = self.devices[client].receive(event)  # type: ignore[arg-type]
        except RemoteProtocolError as error:
            self.refused[client] = error.code
            del self.devices[client]
            self.tell(ClientFailed(client, f"refused: {error.code}"))
            return
        for effect in effects:
            match effect:
                case Send(message):
                    if self._breaks_off(client, message):
                        return
                    self._up[client].append(encode(message))
                case Train():
                    self._training.add(client)
                case SendUpdates(clients, _, failures):
                    assert not clients, "an update leaves under its masks alone"
                    self.tell(ClientFailed(client, failures[client].reason))
                case Closed():
                    pass

    def _breaks_off(self, client: str, message: Message) -> bool:
        leaves, step = self.leaves.get(client), STEP_OF[type(message)]
        if leaves is None or STEPS.index(step) < STEPS.index(leaves):
            return False
        del self.devices[client]
        self._training.discard(client)
        while self._up[client] and not self._is_held(self._up[client][0], client):
            self.tell(GroupEvent(self.group_of(client), Received(client, self._read(self._up[client]))))  # type: ignore[arg-type]
        self.tell(GroupEvent(self.group_of(client), events.Gone(client, VANISHED)))
        return True
