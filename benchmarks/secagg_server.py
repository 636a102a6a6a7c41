"""The server of a measured secure sum, in this process; its clients are in another.

Both ends exchange the encoded messages of the protocol, so what is measured here is the server alone: its
time, its memory, and what it receives. Clients work while it waits, and it finds several of their messages
ready, as one does that is busy: a process that wakes up for each has everything to fetch to its caches first.
"""

import gc
import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.peak import Peak
from benchmarks.secagg_cases import Case
from benchmarks.secagg_clients import (
    CORRUPT,
    DROPOUT,
    Ask,
    find_for,
    name_of,
    number_of,
    read,
    ring_of,
    serve,
)
from benchmarks.secagg_mailbox import Mailbox
from tacit.secagg.events import (
    Gone,
    GroupFailed,
    Opened,
    OpenSum,
    Received,
    SendTo,
    ServerEffect,
    ServerEvent,
    Summed,
    Unmasked,
)
from tacit.secagg.identity import Enrolment
from tacit.secagg.messages import Delivery, encode
from tacit.secagg.server import SecureServer
from tacit.secagg.terms import Terms
from tacit.secagg.unmask import chunks

THREADS = 2
AT_ONCE = 2
_TOGETHER = 16
"""Clients that are asked at a time: a server that has many does not wait for each of them."""
_WAITING_BYTES, _MOST_WAITING = 1 << 28, 64
"""Vectors that are ready before the server takes the first: so many bytes, and so many."""


def play(case: Case) -> dict[str, Any]:
    """Play a secure sum and return its figures; the sum has been found to be right."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(theirs, case), daemon=True)
    process.start()
    theirs.close()
    try:
        return _play(case, ours)
    finally:
        ours.close()
        process.join(timeout=10)
        process.kill()


def _play(case: Case, clients: Connection) -> dict[str, Any]:
    enrolment: Enrolment | None = clients.recv()
    private = X25519PrivateKey.generate()
    terms = _terms(case, private, enrolment)
    clients.send_bytes(terms.to_bytes())
    gc.collect()
    with Peak() as peak:
        game = Game(case, clients, _server(case, terms, private, enrolment))
        summed = game.play()
    clients.send([])
    theirs: dict[str, Any] = clients.recv()
    total = hashlib.sha256(summed.total.astype("<i8").data).hexdigest()
    if total != theirs.pop("expected_sha256") or len(summed.survivors) != theirs.pop("clients"):
        raise RuntimeError("the sum is wrong")
    return {**theirs, **game.figures(), "survivors": len(summed.survivors), "server_peak_mb": peak.mb}


def _terms(case: Case, private: X25519PrivateKey, enrolment: Enrolment | None) -> Terms:
    return Terms(
        job="benchmark",
        round=0,
        model_sha256=bytes(32),
        settings_sha256=bytes(32),
        group=0,
        groups=1,
        min_cohort=2,
        mode="malicious" if case.mode == "malicious" else "semi_honest",
        corrupt=CORRUPT,
        dropout=DROPOUT,
        lanes=((case.dimension, case.lane_bits),),
        enrolment_root=enrolment.root if enrolment else b"",
        server_key=private.public_key().public_bytes_raw(),
        post_quantum=False,
        base_round=0,
    )


def _server(case: Case, terms: Terms, private: X25519PrivateKey, enrolment: Enrolment | None) -> SecureServer:
    return SecureServer(
        terms,
        ring_of(case),
        server_private_key=private,
        enrolment=enrolment,
        find=find_for(case),
        at_once=AT_ONCE,
    )


class Game:
    """Carries messages between the machine and the clients' process, and times the machine.

    Clients that are to be lost vanish with their shares dealt and their vector not sent: then the server has
    a mask of theirs to take off for each of their neighbours.
    """

    def __init__(self, case: Case, clients: Connection, machine: SecureServer) -> None:
        self._case, self._clients, self._machine = case, clients, machine
        lost = np.random.default_rng(0).permutation(case.clients)[: round(case.dropouts * case.clients)]
        self._lost = frozenset(int(number) for number in lost)
        self._summed: Summed | None = None
        self._masks = 0
        self._unmasking = self._seconds = self._codec = 0.0
        self._steps: dict[str, float] = {}

    def play(self) -> Summed:
        """Play to the end."""
        effects = deque(self._tell(Opened(tuple(map(name_of, range(self._case.clients))))))
        effects.extend(self._ask([("invite", number, b"") for number in range(self._case.clients)]))
        self._follow(effects)  # until the server has nothing to say before it has the vectors
        self._follow(deque(self._vectors()))
        if self._summed is None:
            raise RuntimeError(f"the group stopped at {self._machine.state}")
        return self._summed

    def _vectors(self) -> Iterator[ServerEffect]:
        """Let clients post their vectors, then take them from as many at a time as the server admits."""
        numbers = [n for n in range(self._case.clients) if n not in self._lost]
        many = min(max(_WAITING_BYTES // (8 * ring_of(self._case).words), AT_ONCE), _MOST_WAITING)
        buffers: list[list[bytearray]] = [[] for _ in range(AT_ONCE)]
        with ExitStack() as stack:
            boxes = [stack.enter_context(Mailbox()) for _ in range(many)]
            for begin in range(0, len(numbers), many):
                posted = list(zip(numbers[begin : begin + many], boxes, strict=False))
                self._clients.send([("vector", number, box.name) for number, box in posted])
                self._clients.recv()
                for first in range(0, len(posted), AT_ONCE):
                    yield from self._take(posted[first : first + AT_ONCE], buffers)

    def _take(
        self, posted: Iterable[tuple[int, Mailbox]], buffers: Iterable[list[bytearray]]
    ) -> Iterator[ServerEffect]:
        """Take the vectors of some clients, a piece of each in turn."""
        waiting = [(number, box.read(into)) for (number, box), into in zip(posted, buffers, strict=False)]
        while waiting:
            for number, pieces in tuple(waiting):
                piece = next(pieces, None)
                if piece is None:
                    waiting.remove((number, pieces))
                else:
                    yield from self._receive(number, piece)

    def _follow(self, effects: deque[ServerEffect]) -> None:
        """Do what the server wants, and what it wants then, to the end."""
        asks: list[Ask] = []
        while effects or asks:
            if not effects:
                effects.extend(self._ask(asks))
                asks.clear()
                continue
            match effects.popleft():
                case SendTo(client, message) if isinstance(message, Delivery) and self._vanishes(client):
                    effects.extend(self._tell(Gone(client)))
                case SendTo(client, message):
                    begin = time.process_time()
                    data = encode(message)
                    self._codec += time.process_time() - begin
                    asks.append(("message", number_of(client), data))
                case OpenSum() as opening:
                    self._unmask(opening)
                    effects.extend(self._tell(Unmasked()))
                case Summed() as summed:
                    self._summed = summed
                case GroupFailed() as failed:
                    raise failed.error
            if len(asks) == _TOGETHER:
                effects.extend(self._ask(asks))
                asks.clear()

    def _vanishes(self, client: str) -> bool:
        return number_of(client) in self._lost

    def _ask(self, asks: list[Ask]) -> Iterator[ServerEffect]:
        """Let clients work, then give the machine what they send, without a pause between them."""
        for begin in range(0, len(asks), _TOGETHER):
            some = asks[begin : begin + _TOGETHER]
            self._clients.send(some)
            answers: list[list[bytes]] = self._clients.recv()
            for (_, number, _), messages in zip(some, answers, strict=True):
                for data in messages:
                    yield from self._receive(number, data)

    def _receive(self, number: int, data: bytes | memoryview) -> tuple[ServerEffect, ...]:
        begin = time.process_time()
        message = read(data, self._case.clients)
        self._codec += time.process_time() - begin
        return self._tell(Received(name_of(number), message))

    def _tell(self, event: ServerEvent) -> tuple[ServerEffect, ...]:
        step, begin = self._machine.state, time.process_time()
        effects = self._machine.receive(event)
        seconds = time.process_time() - begin
        self._seconds += seconds
        self._steps[step] = self._steps.get(step, 0.0) + seconds
        return effects

    def _unmask(self, opening: OpenSum) -> None:
        """Take the masks off in two threads, a part for each: in every part all streams are begun anew."""
        begin = time.perf_counter()
        parts = chunks(len(opening.total), 2 * -(-len(opening.total) // (2 * THREADS)))
        with ThreadPoolExecutor(THREADS) as threads:
            for done in [threads.submit(opening.work.apply, opening.total, part) for part in parts]:
                done.result()
        self._unmasking = time.perf_counter() - begin
        self._masks = len(opening.work.masks)

    def figures(self) -> dict[str, Any]:
        """Return what the server's work has cost."""
        return {
            "server_seconds": self._seconds + self._unmasking,
            "server_unmask_seconds": self._unmasking,
            "server_masks": self._masks,
            "server_steps_seconds": self._steps,
            "server_codec_seconds": self._codec,
        }
