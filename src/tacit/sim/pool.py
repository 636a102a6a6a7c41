"""Who trains: this process, or persistent worker processes with model and sums in shared memory."""

import math
import pickle
from collections.abc import Sequence
from functools import reduce
from types import TracebackType
from typing import Protocol

import numpy as np

from tacit.core.errors import RunError
from tacit.core.layout import Vector
from tacit.core.rule import IntegerTotal, Partial
from tacit.data import Population
from tacit.job import Plan
from tacit.round.messages import Assignment
from tacit.round.server import drawn
from tacit.sim.dealing import Claims, Dealer
from tacit.sim.engine import KEPT_BYTES, Call, Done, Engine
from tacit.sim.groups import Cut, groups_of
from tacit.sim.process import Check, WorkerProcess
from tacit.sim.processors import processor_here, processors_of
from tacit.sim.shared import Parcel, SharedBlock
from tacit.sim.task import PackedTask
from tacit.training.executor import Choice, Failure

ClientMetrics = dict[str, dict[str, float]]
Groups = Sequence[Sequence[Call]]
"""A cohort, cut into groups by ``groups_of``."""


class Trainers(Protocol):
    """Whoever trains: this process, or several workers."""

    choice: Choice

    def train(
        self, assignment: Assignment, vector: Vector, groups: Groups, check: Check
    ) -> tuple[Done, Partial]:
        """Train some groups; return what became of the clients, in order of their ids, and their sum."""
        ...

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        """Measure the model on some clients' held-out data."""
        ...


class InProcess:
    """Trains in this process."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._plan, self._engine, self.choice = plan, engine, engine.choice

    def train(
        self, assignment: Assignment, vector: Vector, groups: Groups, check: Check
    ) -> tuple[Done, Partial]:
        total = np.zeros(self._plan.grid.size, dtype=np.int64)
        done = Done()
        for group in groups:
            check()
            done.add(self._engine.train(assignment, vector, group, total))
        done.sort()
        return done, Partial(total, len(done.clients))

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        found: ClientMetrics = {}
        failures: dict[str, Failure] = {}
        for start in range(0, len(calls), 16):
            check()
            values, failed = self._engine.measure_clients(vector, calls[start : start + 16])
            found |= values
            failures |= failed
        return found, failures


class Workers:
    """Worker processes: started at once, so that they import while the caller reads its data.

    Groups are dealt out longest first, by measured cost; a worker that has none left takes those that others
    have not begun. Who trains what changes no result.

    Args:
        count: How many.
        torch: Whether they are likely to need torch; if not, they do without until something asks for it.
    """

    def __init__(self, count: int, *, torch: bool = True) -> None:
        self.count = count
        self._workers: list[WorkerProcess] = []
        try:
            for _ in range(count):
                self._workers.append(WorkerProcess(torch=torch))
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
        self._plan, self.choice = plan, choice or Choice(group=plan.group)
        self._dealer, self._is_steady = Dealer(plan.population), population.is_steady
        task, plan = PackedTask.out_of(plan)
        parcel = Parcel((plan, task, population, self.choice, programs or {}))
        groups = math.ceil(plan.grid.clients / self.choice.group)
        vector, claims = SharedBlock(4 * plan.layout.size), SharedBlock(Claims.bytes_for(groups))
        totals = [SharedBlock(8 * plan.grid.size) for _ in self._workers]
        self._vector: Vector = vector.array(np.float32, plan.layout.size)
        self._totals: list[IntegerTotal] = [total.array(np.int64, plan.grid.size) for total in totals]
        self._claims = Claims(claims)
        kept = KEPT_BYTES // len(self._workers)
        try:
            self._processors = processors_of(len(self._workers))
            for number, (worker, total) in enumerate(zip(self._workers, totals, strict=True)):
                worker.set_up(number, kept, parcel, [vector, total, claims], self._processors[number])
            for worker in self._workers:
                worker.answer(_nothing)
        finally:  # every worker has descriptors of its own by now
            for block in (parcel.block, vector, claims, *totals):
                block.close()
        return parcel.open()[2]  # type: ignore[no-any-return]

    def train(
        self, assignment: Assignment, vector: Vector, groups: Groups, check: Check
    ) -> tuple[Done, Partial]:
        np.copyto(self._vector, vector)
        self._claims.clear()
        cut = Cut.of(groups)
        steps = cut.steps(self._plan)
        shares = self._dealer.deal(cut, steps, len(self._workers))
        request = pickle.dumps(("train", assignment, cut, shares), protocol=5)
        busy = [number for number, share in enumerate(shares) if share]
        for number in self._nearest_last(busy):
            self._workers[number].ask(request)
        done, partials = Done(), []
        for number in busy:
            answer: Done = self._workers[number].answer(check)
            partials.append(Partial(self._totals[number], len(answer.clients)))
            done.add(answer)
        done.sort()
        self._dealer.note(cut, steps, self._claims.seconds[: len(groups)])
        is_secret = self._plan.private is not None  # who comes next may not follow from the job's seed
        if not self._is_steady and not is_secret and assignment.round < self._plan.job.rounds:
            self._announce(assignment.round + 1)
        # The next wave overwrites the workers' sums.
        first, *others = partials
        start = first if others else Partial(first.total.copy(), first.clients)
        return done, reduce(self._plan.rule.merge, others, start)

    def _nearest_last(self, workers: list[int]) -> list[int]:
        """Return the workers in an order in which all can be asked before one takes this process's place.

        Who is woken up on this process's own processor runs at once, and the others would wait for their
        request meanwhile: up to two milliseconds.
        """
        here = processor_here()
        return sorted(workers, key=lambda number: self._processors[number] == here)

    def _announce(self, number: int) -> None:
        """Tell the workers whom the next round will probably want, so that they load their data meanwhile.

        Where it turns out otherwise (clients drop out, this round is not over) only time was lost.
        """
        job = self._plan.job
        calls = [Call(position) for position in drawn(job.cohort, self._plan.population, job.seed, number)]
        if calls:
            cut = Cut.of(groups_of(calls, self._plan, self.choice.group))
            shares = self._dealer.deal(cut, cut.steps(self._plan), self.count)
            request = pickle.dumps(("expect", cut, shares), protocol=5)
            for worker in self._workers:
                worker.ask(request)

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        np.copyto(self._vector, vector)
        for number, worker in enumerate(self._workers):
            worker.ask(pickle.dumps(("measure", calls[number :: len(self._workers)]), protocol=5))
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


def _nothing() -> None:
    """Check nothing."""
