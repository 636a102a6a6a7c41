"""Persistent worker processes: model and accumulators in shared memory, one partial sum back from each."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from tacit.core.errors import RunError
from tacit.core.layout import Vector
from tacit.core.rule import IntegerTotal, Partial
from tacit.data import Population
from tacit.job import Plan
from tacit.job.modules import loaded_files
from tacit.round.messages import Assignment
from tacit.sim.complaint import Complaint
from tacit.sim.engine import Call, Done, Engine
from tacit.sim.groups import costs_of, groups_of
from tacit.sim.shared import Parcel, SharedBlock
from tacit.training.executor import Choice, Failure

ClientMetrics = dict[str, dict[str, float]]
Check = Callable[[], None]
"""Called while waiting; raises to interrupt."""

_POLL_S = 0.1
_PATIENCE_S = 5.0  # a job file may have taught the worker not to heed SIGTERM


class Trainers(Protocol):
    """Whoever trains: this process, or several workers."""

    def train(
        self, assignment: Assignment, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[Done, Partial]:
        """Train some clients; return what became of them and the sum of their updates."""
        ...

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        """Measure the model on some clients' held-out data."""
        ...


class InProcess:
    """Trains in this process."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._plan, self._engine = plan, engine

    def train(
        self, assignment: Assignment, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[Done, Partial]:
        total = np.zeros(self._plan.grid.size, dtype=np.int64)
        done = Done()
        for group in groups_of(calls, self._plan, self._engine.choice.group):
            check()
            done.add(self._engine.train(assignment, vector, group, total))
        return done, Partial(total, len(done.clients))

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        found: ClientMetrics = {}
        failures: dict[str, Failure] = {}
        for group in _chunks(calls, 16):
            check()
            values, failed = self._engine.measure_clients(vector, group)
            found |= values
            failures |= failed
        return found, failures


class Workers:
    """Worker processes: started at once, so that they import while the caller reads its data.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._workers: list[_Worker] = []
        self._plan: Plan | None = None
        try:
            for _ in range(count):
                self._workers.append(_Worker())
        except OSError as error:
            self.close()
            what = f"cannot start {count} worker processes: {error.strerror}"
            raise RunError("T301", what, where="workers", fix="Use fewer workers.") from error

    def set_up(
        self,
        plan: Plan,
        population: Population,
        choice: Choice | None = None,
        programs: dict[str, bytes] | None = None,
    ) -> Population:
        """Give every worker the plan and the population; return the population in shared memory.

        Args:
            plan: The job and what follows from it.
            population: All clients.
            choice: Which executor trains.
            programs: Exported programs, for the executors that run one.

        Raises:
            RunError: A worker could not be set up.
        """
        self._plan, self._choice = plan, choice or Choice(group=plan.group)
        parcel = Parcel((plan, population, self._choice, programs or {}))
        vector = SharedBlock(4 * plan.layout.size)
        self._vector = vector.array(np.float32, plan.layout.size)
        try:
            for worker in self._workers:
                worker.set_up(parcel, vector, plan)
            for worker in self._workers:
                worker.answer(_nothing)
        finally:  # every worker has descriptors of its own by now
            parcel.block.close()
            vector.close()
        return parcel.open()[1]  # type: ignore[no-any-return]

    def train(
        self, assignment: Assignment, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[Done, Partial]:
        assert self._plan is not None
        np.copyto(self._vector, vector)
        busy = []
        for worker, share in zip(self._workers, self._split(calls), strict=True):
            if share:
                worker.ask("train", assignment, share)
                busy.append(worker)
        done, rule = Done(), self._plan.rule
        partial = rule.empty(self._plan.grid)
        for worker in busy:
            answer: Done = worker.answer(check)
            partial = rule.merge(partial, Partial(worker.total, len(answer.clients)))
            done.add(answer)
        done.clients.sort()
        return done, partial

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        np.copyto(self._vector, vector)
        shares = [list(calls[i :: len(self._workers)]) for i in range(len(self._workers))]
        for worker, share in zip(self._workers, shares, strict=True):
            worker.ask("measure", share)
        found: ClientMetrics = {}
        failures: dict[str, Failure] = {}
        for worker in self._workers:
            values, failed = worker.answer(check)
            found |= values
            failures |= failed
        return found, failures

    def close(self) -> None:
        """End all workers; returns when they are gone."""
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _split(self, calls: Sequence[Call]) -> list[list[list[Call]]]:
        """Deal whole groups so that all workers get about the same number of steps: longest first."""
        assert self._plan is not None
        shares: list[list[list[Call]]] = [[] for _ in self._workers]
        loads = [0] * len(self._workers)
        for group in groups_of(calls, self._plan, self._choice.group):
            lightest = loads.index(min(loads))
            shares[lightest].append(group)
            loads[lightest] += sum(costs_of(group, self._plan))
        return shares


class _Worker:
    """One worker process as its parent sees it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._connection = Connection(os.dup(self._socket.fileno()))
        # -P: the working directory is not on the path of this process, so not on the worker's either.
        command = [sys.executable, "-P", "-m", "tacit.sim.worker", str(theirs.fileno())]
        path = os.pathsep.join(filter(None, map(str, sys.path)))
        # Ctrl-C reaches the whole group: blocked until the worker can ignore it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        except OSError:
            self._connection.close()
            self._socket.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()

    def set_up(self, parcel: Parcel, vector: SharedBlock, plan: Plan) -> None:
        """Send what the worker needs; ``answer`` tells when it is ready."""
        size = plan.grid.size
        total = SharedBlock(8 * size)
        self.total: IntegerTotal = total.array(np.int64, size)
        blocks = [
            (parcel.block.size, parcel.block.handle),
            (vector.size, vector.handle),
            (total.size, total.handle),
        ]
        self._send(
            {
                "modules": [str(path) for path in loaded_files()],
                "path": sys.path,
                "pickled": parcel.pickled,
                "spans": parcel.spans,
                "sizes": [size for size, _ in blocks],
            }
        )
        with suppress(OSError):  # as in _send
            socket.send_fds(self._socket, [b"h"], [handle for _, handle in blocks])
        total.close()

    def ask(self, *request: Any) -> None:
        """Send a request."""
        self._send(request)

    def answer(self, check: Check) -> Any:
        """Wait for the answer to the last request.

        Raises:
            RunError: The worker failed or died.
        """
        while not self._connection.poll(_POLL_S):
            check()
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died(check) from None
        if isinstance(answer, Complaint):
            raise answer.error or RunError(
                "T302", "a worker process failed", where=answer.text, fix="See the traceback."
            )
        return answer

    def _send(self, value: Any) -> None:
        with suppress(OSError):  # that the worker is gone is found out when its answer is awaited
            self._connection.send(value)

    def _died(self, check: Check) -> RunError:
        code = self._gone()
        check()  # whoever stopped the whole group asked this process, too
        return RunError(
            "T301",
            f"a worker process ended unexpectedly (exit status {code})",
            where=f"process {self._process.pid}",
            fix="If memory ran out, use fewer workers. Nothing is lost: resume the run.",
        )

    def end(self) -> None:
        """Let the process end."""
        self._process.terminate()

    def close(self) -> None:
        """Wait until the process is gone."""
        self._gone()
        self._connection.close()
        self._socket.close()

    def _gone(self) -> int:
        try:
            return self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _chunks(calls: Sequence[Call], size: int) -> list[Sequence[Call]]:
    return [calls[start : start + size] for start in range(0, len(calls), size)]


def _nothing() -> None:
    """Check nothing."""
