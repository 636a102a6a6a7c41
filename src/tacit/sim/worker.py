"""A worker process of a simulation: ``python -m tacit.sim.worker HANDLE [torch]``.

It lives as long as its parent: it reads requests from an inherited socket, and ends with it.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np

from tacit.core.errors import TacitError
from tacit.job.modules import load_module
from tacit.round.messages import Assignment
from tacit.sim.complaint import Complaint
from tacit.sim.dealing import Claims
from tacit.sim.engine import Call, Done, Engine
from tacit.sim.groups import Cut
from tacit.sim.shared import SharedBlock, unpack
from tacit.training import Task
from tacit.training.executor import Failure

T = TypeVar("T")


def main(handle: int, *needs: str) -> None:
    """Serve requests until the parent closes the socket."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    channel = socket.socket(fileno=handle)
    connection = Connection(os.dup(handle))
    if "torch" in needs:
        _import_torch()  # while the parent still reads its data
    with suppress(EOFError, ConnectionError):  # the parent has ended, or wants no answer any more
        _serve(channel, connection)


def _serve(channel: socket.socket, connection: Connection) -> None:
    settings = connection.recv()
    try:
        worker = _Worker(channel, **settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        connection.send(_complaint(error))
        return
    gc.freeze()  # what is there now stays: it need not be looked through for garbage again and again
    connection.send(None)
    while True:
        worker.prepare(connection.poll)
        request, *arguments = connection.recv()
        if request == "expect":  # the only one without an answer
            worker.expect(*arguments)
            continue
        try:
            serve: Callable[..., object] = worker.train if request == "train" else worker.measure
            answer = serve(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            answer = _complaint(error)
        connection.send(answer)


def _complaint(error: Exception) -> Complaint:
    return Complaint(error if isinstance(error, TacitError) else None, traceback.format_exc())


class _Worker:
    """This process's engine, and what it shares with its parent and the other workers."""

    def __init__(
        self,
        channel: socket.socket,
        number: int,
        cpu: int | None,
        kept_bytes: int,
        modules: list[str],
        path: list[str],
        pickled: bytes,
        spans: list[tuple[int, int]],
        sizes: list[int],
    ) -> None:
        _, handles, _, _ = socket.recv_fds(channel, 1, len(sizes))
        blocks = [SharedBlock(size, handle) for size, handle in zip(sizes, handles, strict=True)]
        parcel, vector, total, claims = blocks
        sys.path[:] = path
        self._number = number
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        plan, task, population, choice, programs = _opened(lambda: unpack(pickled, spans, parcel), modules)

        def open_task() -> Task:
            _import_torch()
            opened: Task = _opened(task.open, modules)
            return opened

        self._engine = Engine(plan, population, None, choice, programs, task=open_task, kept_bytes=kept_bytes)
        self._vector = vector.array(np.float32, plan.layout.size)
        self._total = total.array(np.int64, plan.grid.size)
        self._claims = Claims(claims)

    def train(self, assignment: Assignment, cut: Cut, shares: Sequence[Sequence[int]]) -> Done:
        """Train one's own groups, then what others have not begun."""
        done = Done()
        self._total.fill(0)
        for group in self._claims.take(shares[self._number], len(cut.starts)):
            began = time.perf_counter()
            done.add(self._engine.train(assignment, self._vector, cut.calls(group), self._total))
            self._claims.seconds[group] = time.perf_counter() - began
        return done

    def measure(self, calls: Sequence[Call]) -> tuple[dict[str, dict[str, float]], dict[str, Failure]]:
        """Measure the model on some clients' held-out data."""
        return self._engine.measure_clients(self._vector, calls)

    def expect(self, cut: Cut, shares: Sequence[Sequence[int]]) -> None:
        """Be told the groups of the next round as they will probably be, one's own among them."""
        mine = shares[self._number]
        others = set(range(len(cut.starts))).difference(mine)
        groups = (*mine, *sorted(others, reverse=True))  # as they will be taken
        self._engine.expect([call.position for group in groups for call in cut.calls(group)])

    def prepare(self, is_wanted: Callable[[], bool]) -> None:
        """Load the next cohort's data as long as nobody wants anything."""
        self._engine.prepare(is_wanted)


def _opened(open: Callable[[], T], files: Sequence[str]) -> T:
    """Open what was pickled; job files are imported only if it names something in them."""
    try:
        return open()
    except ModuleNotFoundError:
        for file in files:
            load_module(Path(file))
        return open()


def _import_torch() -> None:
    from tacit.training.threads import use_one_thread

    use_one_thread()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died in between
            os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
