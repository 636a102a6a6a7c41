"""What one process of a simulation does: train groups of clients, and measure the model on some."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.core.rule import IntegerTotal
from tacit.data import Population
from tacit.job import Plan, model_seed
from tacit.round.device import RoundDevice
from tacit.round.messages import Assignment, AssignmentReceived, SendUpdates, Train, TrainingDone
from tacit.training.evaluate import Evaluator
from tacit.training.executor import Choice, ClientWork, Failure, Trained
from tacit.training.executors import Recipe, build_executor
from tacit.training.flat import FlatModel, build

T = TypeVar("T")


class Call(NamedTuple):
    """One client's part in a round.

    Attributes:
        position: Its position in the population.
        max_steps: Steps after which its time is up, or None.
        buffers: Buffers it kept from its last round, where they stay local.
    """

    position: int
    max_steps: int | None = None
    buffers: Vector | None = None


@dataclass
class Done:
    """What became of some calls; their updates are in the sum already.

    Attributes:
        clients: Clients whose updates are in the sum.
        failures: The others, with the reason.
        buffers: What clients keep for their next round.
    """

    clients: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    buffers: dict[str, Vector] = field(default_factory=dict)

    def add(self, other: "Done") -> None:
        """Take over what another process has done."""
        self.clients += other.clients
        self.failures |= other.failures
        self.buffers |= other.buffers


class Engine:
    """Trains and measures in this process, in one thread.

    Args:
        plan: The job and what follows from it.
        population: All clients.
        model: The job's model, or None to build it.
        choice: Which executor trains.
        programs: Exported programs, for the executors that run one.
    """

    def __init__(
        self,
        plan: Plan,
        population: Population,
        model: FlatModel | None = None,
        choice: Choice | None = None,
        programs: dict[str, bytes] | None = None,
    ) -> None:
        job = plan.job
        self._plan, self._population = plan, population
        self.model = model or build(job.task, model_seed(job))
        self.choice = choice or Choice(group=plan.group)
        recipe = recipe_of(plan, lambda: self.model, programs)
        self._executor = build_executor(self.choice.executor, recipe)
        self._device = RoundDevice(plan.codec, job.seed)
        self._evaluator = Evaluator(job.task, self.model)

    def train(
        self, assignment: Assignment, vector: Vector, calls: Sequence[Call], total: IntegerTotal
    ) -> Done:
        """Train one group from ``vector`` and add its encoded updates to ``total``, in place."""
        failures: dict[str, Failure] = {}
        group = list(self._load(assignment, calls, failures))
        (train,) = self._device.receive(AssignmentReceived(assignment, tuple(work.client for work in group)))
        assert isinstance(train, Train)
        trained = self._executor.train(vector, group) if group else self._nobody()
        (sent,) = self._device.receive(TrainingDone(trained))
        assert isinstance(sent, SendUpdates)
        self._plan.rule.fold(sent.rows, self._plan.grid, total)
        return Done(list(sent.clients), {**failures, **sent.failures}, _sound(trained.buffers, sent.clients))

    def _nobody(self) -> Trained:
        return Trained((), np.empty((0, self._executor.spec.size), dtype=np.float32), ())

    def _load(
        self, assignment: Assignment, calls: Sequence[Call], failures: dict[str, Failure]
    ) -> Iterator[ClientWork]:
        """Yield the work of each client whose data can be loaded; note the others as failed."""
        for call in calls:
            client = self._population.ids[call.position]
            examples = _attempt(client, partial(self._population.train, call.position), failures)
            if examples is not None:
                yield ClientWork(client, _guarded(examples), assignment.round, call.max_steps, call.buffers)

    def measure(self, vector: Vector, examples: Examples) -> dict[str, float]:
        """Measure the model on examples."""
        self._evaluator.load(vector)
        return self._evaluator.measure(_guarded(examples))

    def measure_clients(
        self, vector: Vector, calls: Sequence[Call]
    ) -> tuple[dict[str, dict[str, float]], dict[str, Failure]]:
        """Measure the model on the held-out data of some clients, each by itself.

        A client that raises is left out, with the reason.
        """
        failures: dict[str, Failure] = {}
        found: dict[str, dict[str, float]] = {}
        for call in calls:
            client = self._population.ids[call.position]
            values = _attempt(client, partial(self._measure_client, vector, call), failures)
            if values:
                found[client] = values
        return found, failures

    def _measure_client(self, vector: Vector, call: Call) -> dict[str, float]:
        examples = self._population.holdout(call.position)
        if examples is None or not len(examples):
            return {}
        self._evaluator.load(vector, call.buffers)
        return self._evaluator.measure(_guarded(examples))


def recipe_of(plan: Plan, model: Callable[[], FlatModel], programs: dict[str, bytes] | None = None) -> Recipe:
    """Return what an executor of this plan is built from."""
    algorithm = plan.job.algorithm
    return Recipe(
        plan.job.task, plan.layout, algorithm.local, algorithm.terms(), plan.job.seed, model, programs or {}
    )


def _guarded(examples: Examples) -> Examples:
    """Return the examples read-only: a model may change its inputs in place, and gets a copy to do so.

    Otherwise a client would find other data in its next round than after a resume.
    """
    arrays = [array.view() for array in (*examples.inputs, examples.target)]
    for array in arrays:
        array.flags.writeable = False
    return Examples(tuple(arrays[:-1]), arrays[-1])


def _sound(buffers: Mapping[str, Vector], clients: Sequence[str]) -> dict[str, Vector]:
    """Return what clients keep; one that was refused, or whose buffers overflowed, keeps its old ones."""
    return {
        client: buffers[client]
        for client in clients
        if client in buffers and np.isfinite(buffers[client]).all()
    }


def _attempt(client: str, action: Callable[[], T], failures: dict[str, Failure]) -> T | None:
    """Return what the action returns, or note why the client failed."""
    try:
        return action()
    except MemoryError:
        raise  # this machine's trouble, not the client's
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's own code may do anything
        failures[client] = Failure(f"raised {type(error).__name__}", traceback.format_exc())
        return None
