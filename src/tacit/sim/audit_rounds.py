"""Rounds of a job in which some clients send what an auditor wants, watched at what they release."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from tacit.algorithms.server import ServerOptimizer, State
from tacit.core.errors import RunError
from tacit.core.examples import Array, Examples
from tacit.core.layout import Vector
from tacit.core.randomness import seed64
from tacit.core.spec import UpdateSpec
from tacit.data import Population
from tacit.data.population import Sizes
from tacit.job import Plan
from tacit.round import Evaluation, EvaluationRecord, Run, Snapshot
from tacit.round.run import Evaluate, Evaluated, Finish, NoteRound, RunEffect, RunSettings, StartRound
from tacit.round.world import VirtualWorld
from tacit.sim.engine import Engine
from tacit.sim.pool import InProcess
from tacit.sim.process import Check
from tacit.sim.timeline import Timeline
from tacit.training.executor import ClientWork, Executor, Trained
from tacit.training.flat import PARAMETERS, FlatModel

RowOf = Callable[[str], Vector | None]
"""The parameters' part of a client's update, shape (parameters,), or None for a client like all others."""
Watch = Callable[[Vector], None]
"""Is shown each mean update as it is released, shape (parameters,)."""
_NEVER = 2**53


@dataclass(frozen=True)
class Stage:
    """What rounds are played with.

    Attributes:
        plan: The job and what follows from it.
        population: All clients.
        model: The job's model; its state is overwritten.
        train: Whether clients that are no canaries train on their data; otherwise they send zeros.
        check: Called between groups; raises to interrupt.
    """

    plan: Plan
    population: Population
    model: FlatModel
    train: bool = False
    check: Check = lambda: None

    @property
    def parameters(self) -> int:
        """Number of coordinates that canaries are seen in."""
        return self.plan.parameters

    def seeded(self, *address: str | int) -> "Stage":
        """Return the same with other draws, so that runs are independent."""
        job = self.plan.job
        other = msgspec.structs.replace(job, seed=seed64(job.seed, "audit", *address) % _NEVER)
        return replace(self, plan=replace(self.plan, job=other))


def play(stage: Stage, row_of: RowOf, watch: Watch, rounds: int) -> list[frozenset[str]]:
    """Play rounds until so many are committed; return who took part in each of them.

    Everything between a client's update and the server's optimizer is the job's own: codec, sum, rule,
    noise. The model does not move unless clients train: what comes after the release adds nothing.

    Raises:
        RunError: Too many rounds in a row were abandoned, or the model is no longer finite.
    """
    plan = stage.plan
    population = stage.population if stage.train else Population(_Silent(stage.population))
    engine = _CanaryEngine(plan, population, stage, row_of)
    run = Run(_settings(stage, watch, rounds), _beginning(stage.model.vector()))
    world = VirtualWorld(plan.job.world, plan.sizes, plan.job.seed)
    timeline = Timeline(plan, population, world, InProcess(plan, engine), run, stage.check)
    cohorts: list[frozenset[str]] = []
    pending: list[RunEffect] = list(run.begin())
    while True:
        match pending.pop(0):
            case StartRound(server, vector):
                pending += run.receive(timeline.play(server, vector))
            case NoteRound(record) if record.outcome == "committed":
                cohorts.append(frozenset(record.answered))
            case Evaluate(number):
                pending += run.receive(Evaluated(EvaluationRecord(round=number)))
            case Finish(outcome, reason):
                if outcome == "failed":
                    fix = "See that the job itself runs to its end: `tacit run`."
                    raise RunError("T352", f"the audited rounds could not be played: {reason}", fix=fix)
                return cohorts


def _settings(stage: Stage, watch: Watch, rounds: int) -> RunSettings:
    settings = stage.plan.run_settings()
    return replace(
        settings,
        rounds=rounds,
        stop=(),
        evaluation=Evaluation(every=_NEVER, clients=0),
        optimizer=_Watched(settings.optimizer, watch, moves=stage.train),
    )


def _beginning(vector: Vector) -> Snapshot:
    return Snapshot(round=0, committed=0, abandoned_in_a_row=0, now_s=0.0, vector=vector)


@dataclass(frozen=True)
class _Watched:
    """Shows each update to whoever watches before the server's optimizer gets it."""

    optimizer: ServerOptimizer
    watch: Watch
    moves: bool

    def step(self, vector: Vector, update: Vector, state: State) -> tuple[Vector, State]:
        self.watch(update)
        return self.optimizer.step(vector, update, state) if self.moves else (vector, state)


class _CanaryEngine(Engine):
    """An engine whose executor hands in canaries' rows; everything after it is as usual."""

    def __init__(self, plan: Plan, population: Population, stage: Stage, row_of: RowOf) -> None:
        super().__init__(plan, population, stage.model)
        self._executor = _CanaryExecutor(self._executor, row_of, plan.layout.slice(PARAMETERS), stage.train)


class _CanaryExecutor:
    """Hands in canaries' rows, and for the others what they have trained, or zeros."""

    def __init__(self, executor: Executor, row_of: RowOf, place: slice, train: bool) -> None:
        self._executor, self._row_of, self._place, self._train = executor, row_of, place, train

    @property
    def spec(self) -> UpdateSpec:
        return self._executor.spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        rows = {work.client: self._row_of(work.client) for work in group}
        others = [work for work in group if rows[work.client] is None]
        trained = self._executor.train(vector, others) if self._train and others else self._zeros(others)
        canaries = self._zeros([work for work in group if rows[work.client] is not None])
        for row, client in zip(canaries.rows, canaries.clients, strict=True):
            row[self._place] = rows[client]
        return replace(
            trained,
            clients=(*trained.clients, *canaries.clients),
            rows=np.concatenate([trained.rows, canaries.rows]),
            examples=(*trained.examples, *canaries.examples),
            room=0,
        )

    def _zeros(self, works: Sequence[ClientWork]) -> Trained:
        rows = np.zeros((len(works), self.spec.size), dtype=np.float32)
        clients = tuple(work.client for work in works)
        return Trained(clients, rows, tuple(len(work.examples) for work in works))


class _Silent:
    """The same clients with as many examples, all of them zero: nobody looks at them."""

    has_holdout, is_steady = False, True

    def __init__(self, population: Population) -> None:
        self._population = population

    @property
    def ids(self) -> Sequence[str]:
        return self._population.ids

    @property
    def sizes(self) -> Sizes:
        return self._population.sizes

    def train(self, index: int) -> Examples:
        size = int(self.sizes[index])
        nothing = np.zeros((), dtype=np.float32)
        return Examples((np.broadcast_to(nothing, (size, 1)),), np.broadcast_to(nothing, (size,)))

    def holdout(self, index: int) -> Examples | None:
        return None

    def target(self, index: int) -> Array:
        return self.train(index).target

    def test(self) -> Examples | None:
        return None
