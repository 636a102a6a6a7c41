"""What one process of a simulation does: train groups of clients, and measure the model on some."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.core.rule import IntegerTotal
from tacit.data import Population
from tacit.job import Plan, model_seed
from tacit.privacy.noise import standard_normals
from tacit.round.device import RoundDevice
from tacit.round.messages import Assignment, AssignmentReceived, SendUpdates, Train, TrainingDone
from tacit.sim.client_data import ClientData, guarded
from tacit.training import Task
from tacit.training.executor import Choice, ClientWork, Failure, Trained
from tacit.training.executors import PRIVATE, Protection, Recipe, build_executor
from tacit.training.functional_device import Device
from tacit.training.private_draws import SecureRecordDraws, SeededRecordDraws

if TYPE_CHECKING:
    from tacit.secagg.masks import Mask
    from tacit.training.evaluate import Evaluator
    from tacit.training.flat import FlatModel

KEPT_BYTES = 128 * 1024 * 1024
"""Clients' data that all processes of a run keep between rounds."""
_CPU = Device()


class Call(NamedTuple):
    """One client's part in a round.

    Attributes:
        position: Its position in the population.
        max_steps: Steps after which its time is up, or None.
        buffers: Buffers it kept from its last round, where they stay local.
        masks: What hides its update in a masked sum; none: the sum is plain.
    """

    position: int
    max_steps: int | None = None
    buffers: Vector | None = None
    masks: "tuple[Mask, ...]" = ()


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
        """Take over what else was done."""
        self.clients += other.clients
        self.failures |= other.failures
        self.buffers |= other.buffers

    def sort(self) -> None:
        """Bring clients into an order that tells nothing of who trained them."""
        self.clients.sort()
        self.failures = dict(sorted(self.failures.items()))


class Engine:
    """Trains and measures in this process, in one thread.

    The model is built when it is first needed: a process that runs an exported program never imports torch,
    unless it has to measure.

    Args:
        plan: The job and what follows from it.
        population: All clients.
        model: The job's model, or None to build it.
        choice: Which executor trains.
        programs: Exported programs, for the executors that run one.
        task: Returns the job's task, where the plan's own cannot be used in this process yet.
        kept_bytes: How much of clients' data to keep between rounds.
        device: Where an executor computes that can do so elsewhere than on the processor.
    """

    def __init__(
        self,
        plan: Plan,
        population: Population,
        model: "FlatModel | None" = None,
        choice: Choice | None = None,
        programs: dict[str, bytes] | None = None,
        *,
        task: Callable[[], Task] | None = None,
        kept_bytes: int = KEPT_BYTES,
        device: Device = _CPU,
    ) -> None:
        self._plan, self._population, self._where = plan, population, device
        self._task = task or (lambda: plan.job.task)
        self._data = ClientData(population, kept_bytes)
        self._expected: Iterator[int] = iter(())
        self._device = RoundDevice(plan.codec, plan.job.seed)
        self.choice = choice or Choice(executor="torch" if plan.sites is None else PRIVATE, group=plan.group)
        if model is not None:
            self.model = model
            _ = self._evaluator  # refuses a loss or a metric that nobody knows before anything runs
        self._executor = build_executor(self.choice.executor, self._recipe(programs or {}))

    @cached_property
    def model(self) -> "FlatModel":
        """The job's model; its state is overwritten."""
        from tacit.training.flat import build

        return build(self._task(), model_seed(self._plan.job))

    @cached_property
    def _evaluator(self) -> "Evaluator":
        from tacit.training.evaluate import Evaluator

        return Evaluator(self._task(), self.model)

    def _recipe(self, programs: dict[str, bytes]) -> Recipe:
        recipe = recipe_of(self._plan, lambda: self.model, programs, self._where)
        return recipe if self.choice.executor in programs else replace(recipe, task=self._task())

    def train(
        self, assignment: Assignment, vector: Vector, calls: Sequence[Call], total: IntegerTotal
    ) -> Done:
        """Train one group from ``vector`` and add its encoded updates to ``total``, in place.

        Where clients have masks, ``total`` begins with the words of the masked sum.
        """
        failures: dict[str, Failure] = {}
        group = self._load(assignment.round, calls, failures)
        (train,) = self._device.receive(AssignmentReceived(assignment, tuple(work.client for work in group)))
        assert isinstance(train, Train)
        trained = self._executor.train(vector, group) if group else self._nobody()
        (sent,) = self._device.receive(TrainingDone(trained))
        assert isinstance(sent, SendUpdates)
        masks = {self._population.ids[call.position]: call.masks for call in calls if call.masks}
        if masks:
            self._fold_masked(sent, masks, total)
        else:
            # One by one where masks would be: a sum in float64 could round what lies in the widest lanes.
            for rows in [sent.rows] if self._plan.secure is None else np.split(sent.rows, len(sent.rows)):
                self._plan.rule.fold(rows, self._plan.grid, total)
        return Done(list(sent.clients), {**failures, **sent.failures}, _sound(trained.buffers, sent.clients))

    def _fold_masked(
        self, sent: SendUpdates, masks: "Mapping[str, tuple[Mask, ...]]", total: IntegerTotal
    ) -> None:
        from tacit.round.masking import masked  # late: it brings the cryptography along

        secure = self._plan.secure
        assert secure is not None, "masks belong to a secure sum"
        words = total[: secure.ring.words].view(np.uint64)
        for client, row in zip(sent.clients, sent.rows, strict=True):
            words += masked(row, self._plan.rule, self._plan.grid, secure.ring, masks[client])

    def _nobody(self) -> Trained:
        return Trained((), np.empty((0, self._executor.spec.size), dtype=np.float32), ())

    def _load(
        self, round_number: int, calls: Sequence[Call], failures: dict[str, Failure]
    ) -> list[ClientWork]:
        """Return the work of each client whose data can be loaded; note the others as failed."""
        works = []
        for position, max_steps, buffers, _ in calls:
            try:
                client, examples = self._data.client(position)
            except MemoryError:
                raise  # this machine's trouble, not the client's
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's own code may do anything
                failures[self._population.ids[position]] = _failure(error)
            else:
                if self._is_charged_for(position, examples):
                    works.append(ClientWork(client, examples, round_number, max_steps, buffers))
                else:
                    failures[client] = Failure("holds another number of records than it is charged for")
        return works

    def _is_charged_for(self, position: int, examples: Examples) -> bool:
        """Tell whether a client's examples are as many as its account was made for, where it has one."""
        return self._plan.sites is None or len(examples) == self._plan.sizes[position]

    def expect(self, positions: Sequence[int]) -> None:
        """Be told whose data will probably be wanted next, the first ones first."""
        self._data.forget_fetched(but=positions)
        self._expected = iter(positions)

    def prepare(self, is_wanted: Callable[[], bool]) -> None:
        """Fetch expected clients' data, one by one, until something else is wanted of this process."""
        while not is_wanted():
            position = next(self._expected, None)
            if position is None or not self._data.fetch(position):
                return

    def measure(self, vector: Vector, examples: Examples) -> dict[str, float]:
        """Measure the model on examples."""
        self._evaluator.load(vector)
        return self._evaluator.measure(guarded(examples))

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
            try:
                values = self._measure_client(vector, call)
            except MemoryError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's own code may do anything
                failures[client] = _failure(error)
            else:
                if values:
                    found[client] = values
        return found, failures

    def _measure_client(self, vector: Vector, call: Call) -> dict[str, float]:
        examples = self._population.holdout(call.position)
        if examples is None or not len(examples):
            return {}
        self._evaluator.load(vector, call.buffers)
        return self._evaluator.measure(guarded(examples))


def recipe_of(
    plan: Plan,
    model: "Callable[[], FlatModel]",
    programs: dict[str, bytes] | None = None,
    device: Device = _CPU,
) -> Recipe:
    """Return what an executor of this plan is built from."""
    job = plan.job
    return Recipe(
        job.task,
        plan.layout,
        job.algorithm.local,
        job.algorithm.terms(),
        job.seed,
        model,
        programs or {},
        device,
        protection=_protection(plan),
    )


def _protection(plan: Plan) -> Protection | None:
    if plan.sites is None:
        return None
    is_seeded = plan.sites.privacy.randomness == "seeded"
    draws = SeededRecordDraws(plan.job.seed) if is_seeded else SecureRecordDraws(standard_normals)
    return Protection(plan.sites.levels, draws)


def _sound(buffers: Mapping[str, Vector], clients: Sequence[str]) -> dict[str, Vector]:
    """Return what clients keep; one that was refused, or whose buffers overflowed, keeps its old ones."""
    return {
        client: buffers[client]
        for client in clients
        if client in buffers and np.isfinite(buffers[client]).all()
    }


def _failure(error: BaseException) -> Failure:
    return Failure(f"raised {type(error).__name__}", traceback.format_exc())
