"""The workloads W1 to W3 as tacit runs them, round by round, so that they can take turns with a plain loop.

The rounds go through all of tacit's own machinery: a job, its plan, the run and round machines, the timeline,
an engine (or worker processes), codec, grid, rule and server step. What is left out is what surrounds a run:
its folder, evaluations and the report.
"""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt

import tacit
from benchmarks.reference.threads import one_thread
from benchmarks.reference.workloads import WORKLOADS, UserData, Workload, cohort, load, make_model
from tacit.core.cohort import Indices
from tacit.core.layout import Vector
from tacit.core.part import Part
from tacit.core.randomness import generator
from tacit.data.ids import Numbered
from tacit.job import Plan, make_plan, model_seed
from tacit.round import EvaluationRecord, Run, Snapshot
from tacit.round.run import Evaluated, RunEffect, StartRound
from tacit.round.world import VirtualWorld
from tacit.sim.engine import Engine
from tacit.sim.pool import InProcess, Trainers, Workers
from tacit.sim.timeline import Timeline
from tacit.training.flat import build

SEED, MOST_ROUNDS = 0, 1000


class WorkloadCohort(Part, frozen=True, tag="benchmark_workload_cohort"):
    """Invite whom the workload invites: round 1 has its cohort 0, and so on."""

    name: str

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        # A cohort is told no round number, but every round's generator begins with a number of its own.
        # The plan's trial draw has none of them and gets the first cohort.
        number = _rounds_by_first_draw().get(_first_draw(rng), 1)
        return np.sort(cohort(self.name, number - 1)).astype(np.int64)

    def wanted(self, invited: int) -> int:
        return invited

    def largest(self, population: int) -> int:
        return WORKLOADS[self.name].cohort

    def expected(self, population: int) -> float:
        return WORKLOADS[self.name].cohort


@cache
def _rounds_by_first_draw() -> dict[int, int]:
    return {_first_draw(generator(SEED, number, "cohort")): number for number in range(1, MOST_ROUNDS + 1)}


def _first_draw(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


@dataclass(frozen=True)
class MappedHoldings:
    """Users whose examples lie one after another in memory-mapped files; only positions are held here."""

    data: UserData

    @property
    def ids(self) -> Numbered:
        return Numbered(len(self.data.offsets) - 1)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        return self.data.sizes().astype(np.int64)

    @property
    def has_holdout(self) -> bool:
        return False

    def train(self, index: int) -> tacit.Examples:
        return tacit.Examples.of(*self.data.user(index))

    def holdout(self, index: int) -> None:
        return None

    def target(self, index: int) -> npt.NDArray[np.int64]:
        return self.data.user(index)[1]

    def test(self) -> None:
        return None


def make_job(name: str) -> tacit.Job:
    """Return the workload as a job: the same model, first weights, cohorts, local steps and weights."""
    workload = WORKLOADS[name]
    return tacit.Job(
        name=name,
        task=tacit.Task(model=make_model, arguments={"name": name}, loss="cross_entropy"),
        algorithm=tacit.FedAvg(local=_local(workload)),
        cohort=WorkloadCohort(name=name),
        rounds=MOST_ROUNDS,
        seed=SEED,
        weighting=tacit.Weigh(by="examples"),
        evaluation=tacit.Evaluation(every=MOST_ROUNDS, clients=0),
    )


def _local(workload: Workload) -> tacit.LocalSGD:
    if workload.clip is not None:
        raise ValueError(f"{workload.name} clips and adds noise, which is not compared here")
    return tacit.LocalSGD(lr=workload.lr, batch_size=workload.batch_size, epochs=1, shuffle=False)


class TacitLoop:
    """A workload round by round; the counterpart of ``benchmarks.reference.plain_loop.PlainLoop``."""

    def __init__(self, name: str, processes: int = 1) -> None:
        self._opened = ExitStack()
        job, population = make_job(name), tacit.Population(MappedHoldings(load(name)))
        workers = self._opened.enter_context(Workers(processes)) if processes > 1 else None
        model = build(job.task, model_seed(job))
        plan = make_plan(job, model.layout, population.sizes)
        if workers is not None:
            population = workers.set_up(plan, population)
        trainers: Trainers = workers or InProcess(plan, Engine(plan, population, model))
        self._run = Run(plan.run_settings(), Snapshot(0, 0, 0, 0.0, model.vector()))
        self._timeline = _timeline(plan, population, trainers, self._run)
        self._run.begin()
        self._next = _start_of(self._run.receive(Evaluated(EvaluationRecord(round=0))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._opened.close()

    def play(self) -> float:
        """Play the next round, from its start to the moved model, and return the seconds it took."""
        begin = time.perf_counter()
        with one_thread():
            closed = self._timeline.play(self._next.server, self._next.vector)
            effects = self._run.receive(closed)
        seconds = time.perf_counter() - begin
        if self._timeline.failures or closed.partial is None:
            raise RuntimeError(f"the round did not go as planned: {closed.record}, {self._timeline.failures}")
        self._next = _start_of(effects)
        return seconds

    def vector(self) -> Vector:
        """Copy the global weights, which are all of the model's vector."""
        return self._run.state.vector.copy()


def _timeline(plan: Plan, population: tacit.Population, trainers: Trainers, run: Run) -> Timeline:
    world = VirtualWorld(plan.job.world, plan.sizes, plan.job.seed)
    return Timeline(plan, population, world, trainers, run, _never_interrupted)


def _never_interrupted() -> None:
    return


def _start_of(effects: tuple[RunEffect, ...]) -> StartRound:
    return next(effect for effect in effects if isinstance(effect, StartRound))


def relative_error(update: Vector, expected: Vector) -> float:
    """Return the L2 norm of the difference as a share of that of ``expected``."""
    difference = update.astype(np.float64) - expected
    return math.sqrt(float(np.square(difference).sum() / np.square(expected.astype(np.float64)).sum()))
