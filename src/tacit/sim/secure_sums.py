"""How a simulated round takes the sums of its groups: ideally, or with every message and mask."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.layout import Vector
from tacit.core.randomness import generator
from tacit.core.rule import Partial
from tacit.job import Plan
from tacit.job.secure import SecurePlan
from tacit.round.messages import (
    ClientFailed,
    ClientsDropped,
    RoundClosed,
    SendAssignment,
    ServerEffect,
    ServerEvent,
    UpdatesReceived,
)
from tacit.round.secure import LATE, VANISHED, GroupEffect, GroupEvent, SecureSums, VectorsReceived
from tacit.round.server import RoundServer
from tacit.secagg.agreement import RememberingAgreement
from tacit.secagg.client import SecureClient
from tacit.secagg.entropy import GivenNonce
from tacit.secagg.events import (
    REASONS,
    STEPS,
    ClientEffect,
    Gone,
    Invited,
    Leave,
    Masks,
    OpenSum,
    Received,
    RowReady,
    Send,
    SendTo,
    Step,
    Unmasked,
)
from tacit.secagg.groups import divide
from tacit.secagg.ideal import Fate, fate
from tacit.secagg.identity import Authority, Certificate, Enrolment, Identity, RememberingVerifier
from tacit.secagg.masks import WORDS_PER_STEP, Mask
from tacit.secagg.messages import Advert, Shares, SurvivorSignature, Unmask
from tacit.secagg.server import SHORT, SecureServer
from tacit.secagg.terms import Terms
from tacit.secagg.unmask import chunks

Leaves = Mapping[str, Step]
"""The clients that vanish in a round, each before it sends the message of that step."""

_BEFOREHAND: tuple[Step, ...] = ("advert", "shares")
AFTERWARDS: tuple[Step, ...] = ("signature", "unmask")
"""Who vanishes before one of these has handed in its update: it is in the sum."""

_LEAST_WORDS = 1 << 15  # of a part: starting all streams has to pay
_STEP_OF: Mapping[type, Step] = {
    Advert: "advert",
    Shares: "shares",
    SurvivorSignature: "signature",
    Unmask: "unmask",
}
_NOBODY_EXPIRES = 2**31


@dataclass
class GroupTrained:
    """What was trained of one group.

    Attributes:
        clients: Clients whose updates are in the sum.
        partial_work: Those of them that did only part of their steps.
        partial: Their sum, masked or not.
    """

    clients: list[str] = field(default_factory=list)
    partial_work: list[str] = field(default_factory=list)
    partial: Partial | None = None


class GroupSums(Protocol):
    """Takes the sums of one round's groups, and tells the round's machine."""

    def open(self, sent: SendAssignment, leaves: Leaves) -> None:
        """Begin with an invited cohort: all that happens before anybody hands in an update."""
        ...

    def members(self) -> Iterator[tuple[str, ...]]:
        """Return the groups."""
        ...

    def is_ready(self, client: str) -> bool:
        """Tell whether a client may hand in an update: it is there, and enough of its neighbours are."""
        ...

    def masks(self, client: str) -> tuple[Mask, ...]:
        """Return what hides a client's update; nothing where the sum is taken ideally."""
        ...

    def close(
        self, trained: Sequence[GroupTrained], failed: Mapping[str, str], late: Collection[str]
    ) -> None:
        """End the round with what was trained of each group."""
        ...


Tell = Callable[[ServerEvent], tuple[ServerEffect, ...]]
"""Tells the round's machine of an event, at the time it is."""


def nonce_of(seed: int, number: int, client: str) -> bytes:
    """Return a simulated client's nonce in a round: public, and the same with masks and without."""
    return generator(seed, number, "secure sum", client).bytes(16)


def groups_for(
    plan: SecurePlan, clients: Sequence[str], seed: int, number: int
) -> tuple[tuple[str, ...], ...]:
    """Return the groups of a cohort: they follow from the job's seed and the round."""
    return divide(clients, plan.settings.group, f"{seed}:{number}".encode())


class IdealSums:
    """Takes sums as somebody would whom all trust: the same integers, no masks.

    Who survives, and which group fails, is what the messages would have led to.

    Args:
        plan: The job and what follows from it.
        tell: Tells the round's machine of an event.
    """

    def __init__(self, plan: Plan, tell: Tell) -> None:
        assert plan.secure is not None
        self._plan, self._secure, self._tell = plan, plan.secure, tell

    def open(self, sent: SendAssignment, leaves: Leaves) -> None:
        self._number, self._leaves = sent.assignment.round, dict(leaves)
        self._groups = groups_for(self._secure, sent.clients, self._plan.job.seed, self._number)
        early = {client: step for client, step in leaves.items() if step in _BEFOREHAND}
        fates = [self._fate(number, early) for number in range(len(self._groups))]
        self._ready = {client for came in fates for client in came.survivors}
        self._began = [not came.reason for came in fates]

    def members(self) -> Iterator[tuple[str, ...]]:
        return iter(self._groups)

    def is_ready(self, client: str) -> bool:
        return client in self._ready

    def masks(self, client: str) -> tuple[Mask, ...]:
        return ()

    def close(
        self, trained: Sequence[GroupTrained], failed: Mapping[str, str], late: Collection[str]
    ) -> None:
        self._leaves |= dict.fromkeys([*failed, *late], "vector")
        told, gone = {**failed}, list[str]()
        sums: list[GroupTrained] = []
        for number, group in enumerate(trained):
            came = self._fate(number, self._leaves)
            for client in self._groups[number]:
                reason = self._why_not(client, came, has_begun=self._began[number])
                if reason == VANISHED and client not in failed and client not in late:
                    gone.append(client)
                elif reason and client not in failed and client not in late:
                    told[client] = reason
            if not came.reason:
                sums.append(group)
        if gone:
            self._tell(ClientsDropped(tuple(gone)))
        for client, reason in told.items():
            self._tell(ClientFailed(client, reason))
        for group in sums:
            assert group.partial is not None, "a group without updates has no sum"
            self._tell(UpdatesReceived(tuple(group.clients), group.partial, tuple(group.partial_work)))

    def _why_not(self, client: str, came: Fate, *, has_begun: bool) -> str:
        """Return why a client's update is not in the sum; empty if it is."""
        step = self._leaves.get(client)
        if client in came.survivors:
            return ""
        ended = next((at for at, reason in REASONS.items() if reason == came.reason), STEPS[-1])
        if step is not None and STEPS.index(step) <= STEPS.index(ended):
            return VANISHED
        if has_begun and client not in self._ready:
            return SHORT
        return f"its group has no sum: {came.reason}"

    def _fate(self, number: int, leaves: Leaves) -> Fate:
        members = self._groups[number]
        return fate(
            members,
            self._nonces(members),
            self._terms(number),
            {client: leaves[client] for client in members if client in leaves},
            self._secure.threat,
            self._secure.min_cohort,
        )

    def _nonces(self, members: Sequence[str]) -> dict[str, bytes]:
        return {client: nonce_of(self._plan.job.seed, self._number, client) for client in members}

    def _terms(self, number: int) -> Terms:
        return self._secure.terms(self._number, bytes(32), number, len(self._groups), bytes(32))


class Enrolled:
    """The identities of simulated clients: this process plays the authority that enrols them, too."""

    def __init__(self) -> None:
        self._authority = Authority.generate()
        self.enrolment = Enrolment(authority=self._authority.public, revoked=frozenset(), day=0)
        self._known: dict[str, tuple[Identity, Certificate]] = {}

    def of(self, client: str) -> tuple[Identity, Certificate]:
        """Return a client's identity and certificate; it keeps them for the whole run."""
        if client not in self._known:
            identity = Identity.generate()
            certificate = self._authority.enrol(client, identity.public, _NOBODY_EXPIRES)
            self._known[client] = identity, certificate
        return self._known[client]


class MaskedSums:
    """Plays every message of every client and the server, in memory, with real keys and masks.

    Both ends of every pair are in this process: what two keys agree on, and whether a signature is right, is
    computed once.

    Args:
        plan: The job and what follows from it.
        enrolled: The clients' identities.
        server: The round's machine.
        vector: The model that is sent out.
        tell: Tells the round's machine of an event.
    """

    def __init__(
        self, plan: Plan, enrolled: Enrolled, server: RoundServer, vector: Vector, tell: Tell
    ) -> None:
        assert plan.secure is not None
        self._plan, self._secure, self._enrolled, self._tell = plan, plan.secure, enrolled, tell
        self._model_sha256 = hashlib.sha256(vector.tobytes()).digest()
        self._number = server.number
        self._agree, self._verify = RememberingAgreement(), RememberingVerifier()
        self._sums = server.secure = SecureSums(self._divide, self._machine)
        self._terms: dict[int, Terms] = {}
        self._clients: dict[str, SecureClient] = {}
        self._masks: dict[str, tuple[Mask, ...]] = {}
        self._has_identities = plan.secure.threat.mode == "malicious"

    def open(self, sent: SendAssignment, leaves: Leaves) -> None:
        self._leaves = leaves
        for number, members in enumerate(self._sums.groups):
            for client in members:
                self._clients[client] = self._client(client, number)
            for client in members:
                self._play(number, client, self._clients[client].receive(Invited()))

    def members(self) -> Iterator[tuple[str, ...]]:
        return iter(self._sums.groups)

    def is_ready(self, client: str) -> bool:
        return client in self._masks

    def masks(self, client: str) -> tuple[Mask, ...]:
        return self._masks[client]

    def close(
        self, trained: Sequence[GroupTrained], failed: Mapping[str, str], late: Collection[str]
    ) -> None:
        for client, reason in failed.items():
            self._clients.pop(client).receive(Leave(reason))
            self._perform(self._tell(ClientFailed(client, reason)))
        for number, (members, group) in enumerate(zip(self._sums.groups, trained, strict=True)):
            for client in members:
                if client not in group.clients and client not in failed:
                    self._leave(number, client, LATE if client in late else VANISHED)
            for client in group.clients:
                self._clients[client].receive(RowReady())
            if group.partial is not None and group.clients:
                words = group.partial.total[: self._secure.ring.words].view(np.uint64)
                arrived = VectorsReceived(number, tuple(group.clients), words, tuple(group.partial_work))
                self._perform(self._tell(arrived))
        for left in self._clients.values():  # whose group has failed, or waits for nothing more
            left.receive(Leave("the round is over"))
        self._clients.clear()
        self._masks.clear()
        self._agree.wipe()

    def _leave(self, number: int, client: str, reason: str) -> None:
        if self._clients.pop(client, None) is not None and self._sums.is_under_way(number):
            self._perform(self._tell(GroupEvent(number, Gone(client, reason))))

    def _divide(self, clients: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        return groups_for(self._secure, clients, self._plan.job.seed, self._number)

    def _machine(self, number: int, groups: int) -> SecureServer:
        key = X25519PrivateKey.generate()
        enrolment = self._enrolled.enrolment if self._has_identities else None
        terms = self._terms[number] = self._secure.terms(
            self._number,
            self._model_sha256,
            number,
            groups,
            key.public_key().public_bytes_raw(),
            enrolment_root=enrolment.root if enrolment else b"",
        )
        return SecureServer(
            terms,
            self._secure.ring,
            server_private_key=key,
            enrolment=enrolment,
            verifier=self._verify,
            agree=self._agree,
        )

    def _client(self, client: str, number: int) -> SecureClient:
        identity, certificate = self._enrolled.of(client) if self._has_identities else (None, None)
        return SecureClient(
            client,
            self._terms[number],
            self._secure.ring,
            identity=identity,
            certificate=certificate,
            enrolment=self._enrolled.enrolment if self._has_identities else None,
            least_cohort=self._secure.min_cohort,
            entropy=GivenNonce(nonce_of(self._plan.job.seed, self._number, client)),
            verifier=self._verify,
            agree=self._agree,
        )

    def _play(self, number: int, client: str, effects: Iterable[ClientEffect]) -> None:
        self._perform(self._answers(number, client, effects))

    def _answers(self, number: int, client: str, effects: Iterable[ClientEffect]) -> list[ServerEffect]:
        """Carry what a client wants to the server, unless it vanishes first; return what the server wants."""
        wanted: list[ServerEffect] = []
        for effect in effects:
            match effect:
                case Send(message) if self._leaves.get(client) == _STEP_OF.get(type(message), ""):
                    self._clients.pop(client)
                    return [*wanted, *self._tell(GroupEvent(number, Gone(client, VANISHED)))]
                case Send(message):
                    wanted += self._tell(GroupEvent(number, Received(client, message)))
                case Masks(masks):
                    self._masks[client] = masks
        return wanted

    def _perform(self, effects: Iterable[ServerEffect]) -> None:
        """Do what the server wants until it wants nothing more."""
        wanted = deque(effects)
        while wanted:
            effect = wanted.popleft()
            if not isinstance(effect, GroupEffect):
                assert isinstance(effect, RoundClosed)
                continue
            match effect.effect:
                case SendTo(client, message) if client in self._clients:
                    answers = self._clients[client].receive(message)
                    wanted.extend(self._answers(effect.group, client, answers))
                case OpenSum() as opening:
                    _apply(opening)
                    wanted.extend(self._tell(GroupEvent(effect.group, Unmasked())))


def _apply(opening: OpenSum) -> None:
    """Take the masks off a sum, on all cores: neither AES nor NumPy holds the interpreter's lock."""
    words, cores = len(opening.total), os.cpu_count() or 1
    parts = chunks(words, max(_LEAST_WORDS, -(-words // cores) + WORDS_PER_STEP))
    if len(parts) == 1:
        opening.work.apply(opening.total, parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as threads:
        for done in [threads.submit(opening.work.apply, opening.total, part) for part in parts]:
            done.result()
