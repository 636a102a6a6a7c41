"""Training on several machines with Ray: the model goes out once a node, and one sum comes back a worker."""

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tacit.core.errors import RunError
from tacit.core.layout import Vector
from tacit.core.rule import Partial
from tacit.data import Population
from tacit.job import Plan
from tacit.round.messages import Assignment
from tacit.sim.batches import Queue
from tacit.sim.crew import Crew
from tacit.sim.engine import KEPT_BYTES, Call, Done
from tacit.sim.groups import Cut
from tacit.sim.pool import ClientMetrics, Groups
from tacit.sim.process import Check
from tacit.sim.ray_session import RaySession
from tacit.sim.ray_worker import Errand, Measured, Shipment, Trained
from tacit.sim.shared import Parcel
from tacit.sim.sources import loaded_sources
from tacit.training.executor import Choice, Failure

_HANDING_OVER = 2  # at a time: the driver's memory does not grow with the number of workers


class RayTrainers:
    """Workers on a Ray cluster, one actor each.

    Workers are given batches of groups and add up what they train. When none is left, each hands over its
    sum. If a worker dies, all that it had done since it last handed over is done again by others.

    Args:
        cluster: ``"ray"``, ``"ray://auto"`` or ``"ray://HOST:PORT"``.
        count: How many workers; None: one for each CPU of the cluster.

    Attributes:
        count: How many workers there are to be.

    Raises:
        ConfigError: Ray is not installed, or there is no such kind of cluster.
        RunError: The cluster cannot be reached.
    """

    def __init__(self, cluster: str, count: int | None = None) -> None:
        self._session = RaySession(cluster, count)
        self._crew: Crew | None = None
        self._lots = itertools.count(1)
        try:
            self.count = count or self._session.cpus
            if not self.count:
                raise RunError("T312", "the cluster has no CPUs", where=cluster, fix="See `ray status`.")
            self._crew = Crew(self._session.ray, self.count, cluster)
        except BaseException:
            self.close()
            raise

    def set_up(
        self,
        plan: Plan,
        population: Population,
        choice: Choice | None = None,
        programs: dict[str, bytes] | None = None,
    ) -> Population:
        """Give every worker the plan and the population.

        Args:
            plan: The job and what follows from it.
            population: All clients.
            choice: Which executor trains.
            programs: Exported programs, for the executors that run one.

        Raises:
            RunError: The workers cannot be set up.
        """
        assert self._crew is not None
        self._plan, self.choice = plan, choice or Choice(group=plan.group)
        initial = plan.job.task.initial
        parcel = Parcel((plan, population, self.choice, programs or {}))
        shipment = Shipment(
            path=[str(Path(folder).absolute()) for folder in sys.path],
            sources=loaded_sources(),
            pickled=parcel.pickled,
            spans=parcel.spans,
            block=parcel.block.array(np.uint8, parcel.block.size),
            initial=None if initial is None else np.fromfile(initial, dtype=np.uint8),
            kept_bytes=KEPT_BYTES // self._workers_per_node(),
        )
        with self._worded():
            self._crew.set_up(self._session.ray.put(shipment))
        parcel.block.close()
        return population

    def train(
        self, assignment: Assignment, vector: Vector, groups: Groups, check: Check
    ) -> tuple[Done, Partial]:
        done, rule = Done(), self._plan.rule
        partial = rule.empty(self._plan.grid)
        for lot in self._dealt(Errand(vector, assignment), groups, self._steps(groups), check):
            assert isinstance(lot, Trained)
            partial = rule.merge(partial, Partial(lot.total, len(lot.done.clients)))
            done.add(lot.done)
        done.sort()
        return done, partial

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call], check: Check
    ) -> tuple[ClientMetrics, dict[str, Failure]]:
        found: ClientMetrics = {}
        failures: dict[str, Failure] = {}
        for lot in self._dealt(Errand(vector), [[call] for call in calls], [1] * len(calls), check):
            assert isinstance(lot, Measured)
            found |= lot.found
            failures |= lot.failures
        return found, failures

    def close(self) -> None:
        """End all workers, and the cluster if it is our own."""
        if self._crew is not None:
            self._crew.dismiss()
        self._session.close()

    def __enter__(self) -> "RayTrainers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _dealt(
        self, errand: Errand, groups: Groups, steps: Sequence[int], check: Check
    ) -> Iterator[Trained | Measured]:
        """Have every group done; yield what is handed over, so that each group is in exactly one lot."""
        assert self._crew is not None
        with self._worded():
            queue, sent = Queue(groups, steps, self.count), self._session.ray.put(errand)
            while queue or any(member.lot for member in self._crew.members):
                self._hand_out(queue, sent)
                for member, answer in self._crew.answers(check):
                    if member.is_lost:
                        queue.put_back(member.lot)
                    elif answer is not None:
                        assert answer.groups == sum(map(len, member.lot))
                        member.lot, member.is_handing_over = [], False
                        yield answer

    def _hand_out(self, queue: Queue, errand: Any) -> None:
        """Give every worker something to do, and the next batch before it has to ask for it."""
        assert self._crew is not None
        ready = self._crew.ready
        for ahead in (1, 2):
            for member in ready:
                # In the end a batch that waits for one worker could be done by another.
                is_scarce = ahead > 1 and len(queue) < len(ready)
                if queue and not is_scarce and not member.is_handing_over and len(member.pending) < ahead:
                    if not member.lot:
                        member.number = next(self._lots)
                    batch = queue.take()
                    member.lot.append(batch)
                    member.pending[member.actor.work.remote(member.number, errand, batch.groups)] = batch
        idle = [member for member in ready if member.lot and not member.pending]
        room = _HANDING_OVER - sum(member.is_handing_over for member in ready)
        for member in idle[: 0 if queue else room]:
            member.pending[member.actor.hand_over.remote(member.number)] = None
            member.is_handing_over = True

    def _steps(self, groups: Groups) -> list[int]:
        if not groups:
            return []
        cut = Cut.of(groups)
        steps: list[int] = np.add.reduceat(cut.steps(self._plan), cut.starts).tolist()
        return steps

    def _workers_per_node(self) -> int:
        alive = [node for node in self._session.ray.nodes() if node["Alive"]]
        return math.ceil(self.count / max(len(alive), 1))

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Turn what Ray itself raises into an error with a number."""
        try:
            yield
        except self._session.ray.exceptions.RayError as error:
            fix = "Look at the cluster (`ray status`), then resume the run: nothing is lost."
            raise RunError("T314", f"Ray failed: {error}", where=self._session.name, fix=fix) from error
