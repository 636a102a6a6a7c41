"""The server of a secure sum: a machine without I/O that learns the sum over a group's survivors, or nothing.

::

    new --Opened--> advert --> shares --> vector --> signature --> unmask --OpenSum, Unmasked--> done
                       |          |          |           |            |
                       `----------`----------`-----------`------------`--too few are left--> failed

A step ends when nobody is awaited any more: all have sent their message, or are gone, or the deadline has
passed. Semi-honest mode has no signature step. A client whose message is wrong is dropped and blamed, and the
group goes on without it; what comes when it is not awaited is not looked at, above all a vector that comes
after the survivors were named. A group that cannot go on discards what it has, unopened.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import LocalProtocolError, PlanError, RemoteProtocolError
from tacit.secagg import collecting
from tacit.secagg.adverts import check_advert
from tacit.secagg.agreement import Agree, exchange
from tacit.secagg.attendance import Attendance
from tacit.secagg.certificate import RoundCertificate
from tacit.secagg.client_checks import Find, threat_of
from tacit.secagg.events import (
    REASONS,
    STEP_OF,
    STEPS,
    Admit,
    ClientMessage,
    DeadlinePassed,
    Gone,
    GroupFailed,
    Opened,
    OpenSum,
    Received,
    SendTo,
    ServerEffect,
    ServerEvent,
    ServerMessage,
    Step,
    Summed,
    Total,
    Unmasked,
    WakeAt,
    Words,
)
from tacit.secagg.identity import Enrolment, Verifier, is_signed
from tacit.secagg.intake import VectorIntake
from tacit.secagg.keys import ChunkTags, vector_key
from tacit.secagg.messages import (
    CHUNK_BYTES,
    Advert,
    Complaint,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
    bitmap_of,
)
from tacit.secagg.parameters import find_parameters
from tacit.secagg.ring import Ring
from tacit.secagg.terms import Terms
from tacit.secagg.unmask import Unmasking
from tacit.secagg.unmasking import Session, core, rebuild, short_of, to_open

ServerState = Step | Literal["new", "opening", "done", "failed"]
Effects = tuple[ServerEffect, ...]
SHORT = "too few of its neighbours dealt shares"
"""Why a client is left out whose secrets too few others could open."""


class SecureServer:
    """Collects one group's masked rows and opens their sum; each group has its own machine.

    It keeps the sum of the masked vectors, the few vectors that are on their way, and what is small. Nothing
    a client sends is raised: `receive` answers for the group, and says at the end who was to blame for what.

    Args:
        terms: What the clients have agreed to.
        ring: How rows lie in words; the terms' lanes.
        server_private_key: Of ``terms.server_key``.
        enrolment: Who vouches for the clients, in malicious mode.
        find: Finds the parameters of a group.
        verifier: Verifies signatures.
        agree: Agrees on X25519 secrets.
        chunk: Bytes of a chunk of a masked vector.
        at_once: How many vectors are on their way at the same time.
    """

    def __init__(
        self,
        terms: Terms,
        ring: Ring,
        *,
        server_private_key: X25519PrivateKey,
        enrolment: Enrolment | None = None,
        find: Find = find_parameters,
        verifier: Verifier = is_signed,
        agree: Agree = exchange,
        chunk: int = CHUNK_BYTES,
        at_once: int = 2,
    ) -> None:
        _check_setting(terms, ring, server_private_key, enrolment, chunk, at_once)
        self._terms, self._ring, self._private, self._enrolment = terms, ring, server_private_key, enrolment
        self._find, self._verifier, self._agree = find, verifier, agree
        self._chunk, self._at_once, self._assignment = chunk, at_once, terms.assignment_id
        self._state: ServerState = "new"
        self._there = Attendance()
        self._adverts: dict[str, Advert] = {}
        self._public_keys: set[bytes] = set()
        self._session: Session | None = None
        self._positions: dict[str, int] = {}
        self._dealt: dict[int, Shares] = {}
        self._intake: VectorIntake | None = None
        self._in_sum: set[int] = set()
        self._alive, self._bitmap = frozenset[int](), b""
        self._signatures: dict[int, bytes] = {}
        self._answers: dict[int, Unmask] = {}

    @property
    def state(self) -> ServerState:
        """The step that is being collected, or where else the machine stands."""
        return self._state

    @property
    def waiting(self) -> frozenset[str]:
        """Clients whose message of this step is awaited."""
        return frozenset(self._there.waiting)

    def receive(self, event: ServerEvent) -> Effects:
        """Take one event and return what is to be done.

        Raises:
            LocalProtocolError: T555, the driver said what is not legal in this state.
        """
        match event:
            case Opened() if self._state == "new":
                self._there.invite(event.clients)
                return self._begin("advert", event.clients)
            case Received() if self._state != "new":
                return self._receive(event.client, event.message)
            case Gone() if self._state != "new":
                return self._leave(event.client, event.reason)
            case DeadlinePassed():
                return self._close() if event.step == self._state else ()
            case Unmasked() if self._state == "opening":
                return self._finish()
        raise LocalProtocolError(
            "T555", f"{type(event).__name__} is not legal while the group is at {self._state}"
        )

    def vectors_received(self, clients: Iterable[str], total: Words) -> Effects:
        """Take the masked vectors of several clients, summed by a process of ours that played them.

        Raises:
            LocalProtocolError: T555, one of them is not awaited, or the sum has another length.
        """
        named = tuple(clients)
        asked = self._intake is not None and any(map(self._intake.asks, named))
        if (
            self._state != "vector"
            or asked
            or len(set(named)) != len(named)
            or not self._there.waiting >= set(named)
        ):
            raise LocalProtocolError("T555", "a summed vector is of clients that are not awaited")
        if total.dtype != np.uint64 or total.shape != (self._ring.words,):
            raise LocalProtocolError("T555", f"a summed vector has {self._ring.words} words of 64 bits")
        self._vectors().add(total)
        self._in_sum.update(map(self._positions.__getitem__, named))
        self._there.waiting.difference_update(named)
        return self._go_on()

    def _receive(self, client: str, message: ClientMessage) -> Effects:
        if isinstance(message, Complaint):
            return self._complain(client, message)
        if client not in self._there.waiting or self._is_past(message):
            return ()  # late, or sent again: what counts has been decided without it
        try:
            effects = self._take(client, message)
        except RemoteProtocolError as error:
            self._there.blame(client, f"{error.code}: {error.what}")
            return self._leave(client, "its message was wrong")
        return effects + self._go_on()

    def _is_past(self, message: ClientMessage) -> bool:
        due = STEP_OF.get(type(message))
        return due is not None and STEPS.index(due) < STEPS.index(self._step())

    def _take(self, client: str, message: ClientMessage) -> Effects:
        match message, self._state:
            case Advert(), "advert":
                self._take_advert(client, message)
            case Shares(), "shares":
                session, own = self._of(client)
                collecting.check_shares(message, session, own, self._terms, self._verifier)
                self._dealt[own] = message
            case VectorHead(), "vector":
                return self._announce(client, message)
            case VectorChunk(), "vector":
                return self._take_chunk(client, message)
            case SurvivorSignature(), "signature":
                session, own = self._of(client)
                collecting.check_survivor_signature(message, session, own, self._bitmap, self._verifier)
                self._signatures[own] = message.signature
            case Unmask(), "unmask":
                session, own = self._of(client)
                collecting.check_answer(message, session, own, self._dealt, self._alive)
                self._answers[own] = message
            case _:
                what = f"{type(message).__name__} is not legal while the group is at {self._state}"
                raise RemoteProtocolError("T555", what)
        self._there.waiting.discard(client)
        return ()

    def _take_advert(self, client: str, advert: Advert) -> None:
        check_advert(advert, client, self._assignment, self._terms, self._enrolment, self._verifier)
        keys = {advert.mask_key, advert.share_key}
        if len(keys) < 2 or not self._public_keys.isdisjoint(keys):
            raise RemoteProtocolError("T557", "a key is used twice")
        self._public_keys |= keys
        self._adverts[client] = advert

    def _announce(self, client: str, head: VectorHead) -> Effects:
        session, own = self._of(client)
        collecting.check_sender(head.session, head.sender, session, own)
        if head.words != self._ring.words or self._vectors().asks(client):
            what = f"a vector of {head.words} words, where one of {self._ring.words} is summed"
            raise RemoteProtocolError("T565", what)
        public = session.adverts[own].share_key
        key = vector_key(self._private, public, session.id, own, agree=self._agree)
        self._vectors().announce(client, ChunkTags(key))
        return self._admit()

    def _take_chunk(self, client: str, chunk: VectorChunk) -> Effects:
        session, own = self._of(client)
        collecting.check_sender(chunk.session, chunk.sender, session, own)
        if not self._vectors().take(client, chunk):
            return ()
        self._in_sum.add(own)
        self._there.waiting.discard(client)
        return self._admit()

    def _admit(self) -> Effects:
        return tuple(map(Admit, self._intake.admit())) if self._intake is not None else ()

    def _leave(self, client: str, reason: str) -> Effects:
        """Do without a client from here on; what it has sent and what has been accepted stays."""
        if self._state not in STEPS or not self._there.leave(client, reason):
            return ()
        if self._intake is not None:
            self._intake.drop(client)
        return self._admit() + self._go_on()

    def _complain(self, client: str, complaint: Complaint) -> Effects:
        """Let a client go that did not accept something."""
        session, about, reason = self._session, complaint.about, f"left: T{complaint.reason}"
        if session is not None and self._there.is_there(client) and 0 <= about < len(session.clients):
            accused = session.clients[about]
            reason += f", about {accused!r}"
            may_lie = threat_of(self._terms).corrupt_members(len(session.clients))
            self._there.accuse(accused, client, f"T{complaint.reason}", may_lie)
        return self._leave(client, reason)

    def _begin(self, step: Step, clients: Iterable[str]) -> Effects:
        """Await a step's message from these clients, as far as they are still there."""
        self._state = step
        self._there.await_all(clients)
        return (WakeAt(step), *self._go_on())

    def _go_on(self) -> Effects:
        return self._close() if not self._there.waiting else ()

    def _close(self) -> Effects:
        """End the step: whoever is awaited still has missed it."""
        self._there.miss(f"late with {self._state}")
        match self._state:
            case "advert":
                return self._send_rosters()
            case "shares":
                return self._deliver()
            case "vector":
                return self._name_survivors()
            case "signature":
                return self._confirm()
            case "unmask":
                return self._open()
        return ()

    def _send_rosters(self) -> Effects:
        if len(self._adverts) < self._terms.min_cohort:
            return self._fail("advert", _few(len(self._adverts), self._terms.min_cohort))
        try:
            session, blank = collecting.make_session(self._terms, self._adverts, self._find)
        except PlanError as error:
            return self._fail("advert", error.what)
        self._session = session
        self._positions = {client: at for at, client in enumerate(session.clients)}
        sent = self._send(collecting.rosters(session, blank))
        return sent + self._begin("shares", session.clients)

    def _deliver(self) -> Effects:
        session = self._known()
        members = core(session, self._dealt)
        for at in self._dealt.keys() - members:
            self._there.leave(session.clients[at], SHORT)
        self._dealt = {at: self._dealt[at] for at in sorted(members)}
        if len(members) < self._terms.min_cohort:
            return self._fail("shares", _few(len(members), self._terms.min_cohort))
        sent = self._send(collecting.deliveries(session, self._dealt, self._terms))
        return sent + self._begin("vector", map(session.clients.__getitem__, self._dealt))

    def _name_survivors(self) -> Effects:
        """Say once and for all whose vectors are in the sum."""
        session, alive = self._known(), frozenset(self._in_sum)
        if len(alive) < self._terms.min_cohort:
            return self._fail("vector", _few(len(alive), self._terms.min_cohort))
        short = short_of(session, to_open(session, self._dealt, alive), alive)
        if short:
            return self._fail("vector", short)
        self._alive, self._bitmap = alive, bitmap_of(alive, len(session.clients))
        survivors = [session.clients[at] for at in sorted(alive)]
        message = Survivors(session.id, self._bitmap)
        sent = self._send((client, message) for client in survivors)
        return sent + self._begin("signature" if self._terms.is_malicious else "unmask", survivors)

    def _confirm(self) -> Effects:
        session = self._known()
        confirmed = dict(collecting.confirmations(session, dict(sorted(self._signatures.items()))))
        short = short_of(session, to_open(session, self._dealt, self._alive), confirmed)
        if short:
            return self._fail("signature", short)
        named = {session.clients[at]: message for at, message in confirmed.items()}
        return self._send(named.items()) + self._begin("unmask", named)

    def _open(self) -> Effects:
        session, total = self._known(), self._vectors().total
        short = short_of(session, to_open(session, self._dealt, self._alive), self._answers)
        if short:
            return self._fail("unmask", short)
        rebuilt = rebuild(session, self._dealt, self._alive, self._answers, self._agree)
        for at, words in rebuilt.blamed.items():
            self._there.blame(session.clients[at], f"T553: {words}")
        if rebuilt.missing:
            return self._fail("unmask", rebuilt.missing)
        self._answers.clear()
        self._state = "opening"
        return (OpenSum(Unmasking(tuple(rebuilt.masks), self._ring.words), total),)

    def _finish(self) -> Effects:
        session = self._known()
        total = self._ring.unpack(self._vectors().total)
        summed = Summed(
            survivors=tuple(session.clients[at] for at in sorted(self._alive)),
            total=total,
            certificate=self._certificate(session, total),
            blamed=self._there.blamed,
            left=self._there.left,
        )
        self._state = "done"
        self._discard()
        return (summed,)

    def _certificate(self, session: Session, total: Total) -> RoundCertificate:
        return RoundCertificate(
            terms=self._terms,
            roster_root=session.root,
            clients=len(session.clients),
            neighbours=session.neighbours,
            threshold=session.threshold,
            bitmap=self._bitmap,
            signatures=tuple(sorted(self._signatures.items())),
            sum_sha256=hashlib.sha256(total.astype("<i8", copy=False).data).digest(),
        )

    def _fail(self, step: Step, detail: str) -> Effects:
        self._state = "failed"
        self._discard()
        return (GroupFailed(REASONS[step], self._there.blamed, self._there.left, detail),)

    def _discard(self) -> None:
        """Forget the vectors and the shares: a failed group is never opened, not even in part."""
        self._intake = None
        self._there.waiting.clear()
        self._dealt.clear()
        self._answers.clear()

    def _send(self, messages: Iterable[tuple[str, ServerMessage]]) -> Effects:
        return tuple(SendTo(client, message) for client, message in messages if self._there.is_there(client))

    def _of(self, client: str) -> tuple[Session, int]:
        return self._known(), self._positions[client]

    def _step(self) -> Step:
        assert self._state in STEPS, "somebody is awaited"
        return self._state

    def _known(self) -> Session:
        assert self._session is not None
        return self._session

    def _vectors(self) -> VectorIntake:
        if self._intake is None:
            self._intake = VectorIntake(self._ring.words, self._chunk, self._at_once)
        return self._intake


def _check_setting(
    terms: Terms,
    ring: Ring,
    private: X25519PrivateKey,
    enrolment: Enrolment | None,
    chunk: int,
    at_once: int,
) -> None:
    root = enrolment.root if enrolment is not None else b""
    demands = {
        "the ring has not the terms' lanes": terms.lanes == tuple((g.size, g.bits) for g in ring.lanes),
        "the private key is not that of the terms": terms.server_key
        == private.public_key().public_bytes_raw(),
        "the enrolment is not that of the terms": not terms.is_malicious
        or terms.enrolment_root == root != b"",
        "a chunk is no whole number of words": chunk > 0 and chunk % 8 == 0,
        "nobody may send a vector": at_once >= 1,
    }
    for problem, holds in demands.items():
        if not holds:
            raise LocalProtocolError("T556", f"a group cannot be opened: {problem}")


def _few(there: int, least: int) -> str:
    return f"{there} of at least {least} clients"
