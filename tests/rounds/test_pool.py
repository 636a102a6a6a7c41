"""Worker processes: who trains what, what they load ahead, and what they do without."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import tacit
from tacit.core.errors import RunError
from tacit.core.layout import Vector
from tacit.core.rule import Partial
from tacit.job import Plan, make_plan, model_seed
from tacit.round.messages import Assignment
from tacit.round.server import drawn
from tacit.sim.engine import Call, Done, Engine
from tacit.sim.groups import groups_of
from tacit.sim.pool import InProcess, Trainers, Workers
from tacit.training.executor import Choice
from tacit.training.export import export_program
from tacit.training.flat import build
from tests.rounds import worlds
from tests.rounds.recorders import Recorder, asked

CLIENTS = 8


class Bench:
    """A plan, and two workers that train it without a run around them.

    Attributes:
        folder: Where clients note who asked for them.
    """

    def __init__(self, opened: ExitStack, folder: Path, cohort: tacit.FixedSize | tacit.All) -> None:
        self._opened, self.folder = opened, folder
        self.job = worlds.job(cohort=cohort, local=tacit.LocalSGD(lr=0.1, batch_size=4))
        self.model = build(self.job.task, model_seed(self.job))
        self.plan: Plan = make_plan(self.job, self.model.layout, np.full(CLIENTS, 9, np.int64))
        self.vector: Vector = self.model.vector()

    def population(self, seconds: Callable[[int], float] = lambda client: 0.0) -> tacit.Population:
        clients = {f"c{i}": Recorder(self.folder, i, seconds(i)) for i in range(CLIENTS)}
        return tacit.Population.of(clients, sizes=dict.fromkeys(clients, 12), holdout=0.25)

    def workers(self, population: tacit.Population, choice: Choice, **programs: bytes) -> Workers:
        workers = self._opened.enter_context(Workers(2, torch=not programs))
        workers.set_up(self.plan, population, choice, programs)
        return workers

    def train(self, trainers: Trainers, positions: list[int], number: int = 1) -> tuple[Done, Partial]:
        groups = groups_of([Call(position) for position in positions], self.plan, trainers.choice.group)
        assignment = Assignment("small", number, None, True)
        return trainers.train(assignment, self.vector, groups, lambda: None)

    def alone(self, population: tacit.Population, choice: Choice, **programs: bytes) -> InProcess:
        return InProcess(self.plan, Engine(self.plan, population, self.model, choice, programs))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as opened:
        yield Bench(opened, tmp_path, tacit.All())


def assert_same(one: tuple[Done, Partial], other: tuple[Done, Partial]) -> None:
    assert one[0].clients == other[0].clients
    assert list(one[0].failures) == list(other[0].failures)
    assert one[1].clients == other[1].clients
    assert np.array_equal(one[1].total, other[1].total)


def test_a_worker_that_has_nothing_left_takes_the_groups_of_a_slow_one(bench: Bench) -> None:
    population, choice = bench.population(lambda client: 1.5 if client == 0 else 0.0), Choice(group=1)
    workers = bench.workers(population, choice)
    trained = bench.train(workers, list(range(CLIENTS)))
    trainer = {client: pid for client, pid, _ in asked(bench.folder)}
    assert len(trainer) == CLIENTS
    assert [client for client, pid in trainer.items() if pid == trainer[0]] == [0]
    assert_same(trained, bench.train(bench.alone(bench.population(), choice), list(range(CLIENTS))))


def test_sums_of_earlier_waves_are_not_overwritten(bench: Bench) -> None:
    population, choice = bench.population(), Choice(group=2)
    workers, alone = bench.workers(population, choice), bench.alone(population, choice)
    waves = [[0, 1, 2, 3, 4], [5], [6, 7]]  # the second is for one worker alone
    trained = [bench.train(workers, wave, number) for number, wave in enumerate(waves, 1)]
    for number, wave in enumerate(waves, 1):
        assert_same(trained[number - 1], bench.train(alone, wave, number))


def test_while_nobody_wants_anything_workers_load_the_next_cohort(tmp_path: Path) -> None:
    with ExitStack() as opened:
        look_at_what_is_loaded_ahead(Bench(opened, tmp_path, tacit.FixedSize(4)))


def look_at_what_is_loaded_ahead(bench: Bench) -> None:
    workers = bench.workers(bench.population(lambda client: 0.05), Choice(group=1))
    cohorts = [drawn(bench.job.cohort, CLIENTS, bench.job.seed, number) for number in (1, 2, 3)]
    bench.train(workers, cohorts[0], 1)
    deadline = time.monotonic() + 20
    while {client for client, _, _ in asked(bench.folder)[4:]} < set(cohorts[1]):
        assert time.monotonic() < deadline, "nothing was loaded ahead"
        time.sleep(0.02)
    trained = bench.train(workers, cohorts[1], 2)
    fresh = bench.alone(bench.population(), Choice(group=1))
    assert_same(trained, bench.train(fresh, cohorts[1], 2))


def test_what_was_loaded_ahead_is_not_loaded_again(bench: Bench) -> None:
    engine = Engine(bench.plan, bench.population(), bench.model)
    engine.expect([3, 1])
    wanted = iter([False, False, True])
    engine.prepare(lambda: next(wanted))
    assert [client for client, _, _ in asked(bench.folder)] == [3, 1]
    total = np.zeros(bench.plan.grid.size, np.int64)
    engine.train(Assignment("small", 1, None, True), bench.vector, [Call(1), Call(3), Call(5)], total)
    assert [client for client, _, _ in asked(bench.folder)] == [3, 1, 5]
    engine.expect([2])
    engine.prepare(lambda: True)  # somebody wants something: not now
    assert len(asked(bench.folder)) == 3


@pytest.mark.parametrize(
    ("executor", "kind"), [("stacked", "stacked"), pytest.param("onnx", "step", marks=pytest.mark.slow)]
)
def test_workers_that_run_a_program_do_without_torch_until_they_have_to_measure(
    bench: Bench, executor: str, kind: str
) -> None:
    local, terms = bench.job.algorithm.local, bench.job.algorithm.terms()
    example = worlds.examples(0, 4)
    program = export_program(bench.job.task, bench.model, local, terms, example, kind).data  # type: ignore[arg-type]
    choice, population = Choice(executor=executor, group=3), bench.population()
    workers = bench.workers(population, choice, **{executor: program})
    trained = bench.train(workers, list(range(CLIENTS)))
    assert len(asked(bench.folder)) >= CLIENTS
    assert not any(loading.had_torch for loading in asked(bench.folder))
    alone = bench.alone(population, choice, **{executor: program})
    assert_same(trained, bench.train(alone, list(range(CLIENTS))))
    calls = [Call(position) for position in range(CLIENTS)]
    measured, _ = workers.measure_clients(bench.vector, calls, lambda: None)
    assert measured == alone.measure_clients(bench.vector, calls, lambda: None)[0]
    assert len(measured) == CLIENTS


def test_a_worker_that_fails_ends_the_wave(bench: Bench) -> None:
    def full() -> None:
        raise MemoryError

    clients = {f"c{i}": Recorder(bench.folder, i) if i else full for i in range(CLIENTS)}
    population = tacit.Population.of(clients, sizes=dict.fromkeys(clients, 12))
    workers = bench.workers(population, Choice(group=1))
    with pytest.raises(RunError) as caught:
        bench.train(workers, list(range(CLIENTS)))
    assert caught.value.code == "T302"
    assert "MemoryError" in caught.value.where
