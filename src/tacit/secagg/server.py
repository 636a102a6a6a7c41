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

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.secagg.agreement import Agree, exchange
from tacit.secagg.attendance import Attendance
from tacit.secagg.client_checks import Find
from tacit.secagg.collected import Collected, ShortageError
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
    Unmasked,
    WakeAt,
    Words,
)
from tacit.secagg.identity import Enrolment, Verifier, is_signed
from tacit.secagg.intake import VectorIntake
from tacit.secagg.messages import (
    CHUNK_BYTES,
    Advert,
    Complaint,
    Shares,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
)
from tacit.secagg.parameters import find_parameters
from tacit.secagg.ring import Ring
from tacit.secagg.terms import Terms

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
        intake = VectorIntake(ring.words, chunk, at_once)
        self._terms, self._words = terms, ring.words
        self._state: ServerState = "new"
        self._there = Attendance()
        self._collected = Collected(terms, ring, server_private_key, enrolment, find, verifier, agree, intake)

    @property
    def state(self) -> ServerState:
        """The step that is being collected, or where else the machine stands."""
        return self._state

    @property
    def waiting(self) -> frozenset[str]:
        """Clients whose message of this step is awaited."""
        return frozenset(self._there.waiting)

    @property
    def vectors(self) -> int:
        """How many clients' vectors are in the sum."""
        return self._collected.vectors_in

    def receive(self, event: ServerEvent) -> Effects:
        """Take one event and return what is to be done.

        Raises:
            LocalProtocolError: T512, the driver said what is not legal in this state.
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
            "T512", f"{type(event).__name__} is not legal while the group is at {self._state}"
        )

    def vectors_received(self, clients: Iterable[str], total: Words) -> Effects:
        """Take the masked vectors of several clients, summed by a process of ours that played them.

        Raises:
            LocalProtocolError: T512, one of them is not awaited, or the sum has another length.
        """
        named, intake = tuple(clients), self._collected.intake
        is_awaited = self._state == "vector" and self._there.waiting >= set(named)
        if not is_awaited or len(set(named)) != len(named) or (intake and any(map(intake.asks, named))):
            raise LocalProtocolError("T512", "a summed vector is of clients that are not awaited")
        if total.dtype != np.uint64 or total.shape != (self._words,):
            raise LocalProtocolError("T512", f"a summed vector has {self._words} words of 64 bits")
        self._collected.take_sum(named, total)
        self._there.waiting.difference_update(named)
        return self._go_on()

    def _receive(self, client: str, message: ClientMessage) -> Effects:
        if isinstance(message, Complaint):
            return self._complain(client, message)
        if client not in self._there.waiting or self._is_past(message):
            return ()  # late, or sent again: what counts has been decided without it
        try:
            if self._take(client, message):
                self._there.waiting.discard(client)
        except RemoteProtocolError as error:
            self._there.blame(client, f"{error.code}: {error.what}")
            return self._leave(client, "its message was wrong")
        return self._admit() + self._go_on()

    def _take(self, client: str, message: ClientMessage) -> bool:
        """Take a message; tell whether it was all that is awaited of the client in this step."""
        collected = self._collected
        match message, self._state:
            case Advert(), "advert":
                collected.take_advert(client, message)
            case Shares(), "shares":
                collected.take_shares(client, message)
            case VectorHead(), "vector":
                collected.announce(client, message)
                return False
            case VectorChunk(), "vector":
                return collected.take_chunk(client, message)
            case SurvivorSignature(), "signature":
                collected.take_signature(client, message)
            case Unmask(), "unmask":
                collected.take_answer(client, message)
            case _:
                what = f"{type(message).__name__} is not legal while the group is at {self._state}"
                raise RemoteProtocolError("T555", what)
        return True

    def _is_past(self, message: ClientMessage) -> bool:
        due = STEP_OF.get(type(message))
        return due is not None and self._state in STEPS and STEPS.index(due) < STEPS.index(self._state)

    def _admit(self) -> Effects:
        intake = self._collected.intake
        return tuple(map(Admit, intake.admit())) if intake is not None else ()

    def _leave(self, client: str, reason: str) -> Effects:
        """Do without a client from here on; what it has sent and what has been accepted stays."""
        if self._state not in STEPS or not self._there.leave(client, reason):
            return ()
        if self._collected.intake is not None:
            self._collected.intake.drop(client)
        return self._admit() + self._go_on()

    def _complain(self, client: str, complaint: Complaint) -> Effects:
        """Let a client go that did not accept something."""
        code = f"T{complaint.reason}"
        found = self._collected.accused(complaint.about)
        if found is None or not self._there.is_there(client):
            return self._leave(client, f"left: {code}")
        accused, may_lie = found
        self._there.accuse(accused, client, code, may_lie)
        return self._leave(client, f"left: {code}, about {accused!r}")

    def _begin(self, step: Step, clients: Iterable[str]) -> Effects:
        """Await a step's message from these clients."""
        self._state = step
        self._there.await_all(clients)
        return (WakeAt(step), *self._go_on())

    def _go_on(self) -> Effects:
        return self._close() if not self._there.waiting else ()

    def _close(self) -> Effects:
        """End the step: whoever is awaited still has missed it."""
        self._there.miss(f"late with {self._state}")
        collected = self._collected
        try:
            match self._state:
                case "advert":
                    return self._tell(collected.fix_members(), "shares")
                case "shares":
                    short, messages = collected.leave_out(), collected.deliver()
                    for client in short:
                        self._there.leave(client, SHORT)
                    return self._tell(messages, "vector")
                case "vector":
                    signs = self._terms.is_malicious
                    return self._tell(collected.name_survivors(), "signature" if signs else "unmask")
                case "signature":
                    return self._tell(collected.confirm(), "unmask")
            return self._open()
        except ShortageError as shortage:
            return self._fail(str(shortage))

    def _tell(self, messages: Mapping[str, ServerMessage], step: Step) -> Effects:
        """Send these messages, and await what is due next from those who get one."""
        there = [client for client in messages if self._there.is_there(client)]
        sent = tuple(SendTo(client, messages[client]) for client in there)
        return sent + self._begin(step, there)

    def _open(self) -> Effects:
        collected, rebuilt = self._collected, self._collected.rebuild()
        for at, words in rebuilt.blamed.items():
            self._there.blame(collected.session.clients[at], f"T553: {words}")
        if rebuilt.missing:
            raise ShortageError(rebuilt.missing)
        self._state = "opening"
        return (OpenSum(collected.unmasking(rebuilt), collected.total),)

    def _finish(self) -> Effects:
        total, certificate = self._collected.finish()
        survivors, there = self._collected.survivors, self._there
        self._state = "done"
        self._collected.discard()
        return (Summed(survivors, total, certificate, there.blamed, there.left),)

    def _fail(self, detail: str) -> Effects:
        """Discard everything unopened: a failed group is never opened, not even in part."""
        assert self._state in STEPS, "a step has ended"
        reason, there = REASONS[self._state], self._there
        self._state = "failed"
        there.waiting.clear()
        self._collected.discard()
        return (GroupFailed(reason, there.blamed, there.left, detail),)


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
            raise LocalProtocolError("T576", f"a group cannot be opened: {problem}")
