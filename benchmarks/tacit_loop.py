"""The workloads W1 to W4 as tacit runs them, round by round, so that they can take turns with a plain loop.

The rounds go through all of tacit's own machinery: a job, its plan, the run and round machines, the timeline,
an engine (or worker processes), codec, grid, rule and server step. What is left out is what surrounds a run:
its folder, evaluations and the report.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

import tacit
from benchmarks.memory import PeakMemory
from benchmarks.reference.threads import one_thread
from benchmarks.reference.workloads import WORKLOADS
from benchmarks.tacit_workloads import make_job, make_population, stages_of
from tacit.codec import Chain, Codec
from tacit.core.layout import Vector
from tacit.core.stage import Stage
from tacit.job import Plan, make_plan, model_seed
from tacit.round import EvaluationRecord, Run, Snapshot
from tacit.round.run import Evaluated, RunEffect, StartRound
from tacit.round.world import VirtualWorld
from tacit.sim.choosing import AUTO, choose
from tacit.sim.engine import Engine
from tacit.sim.memory import give_back_memory, keep_freed_memory
from tacit.sim.pool import InProcess, Trainers, Workers
from tacit.sim.timeline import Timeline
from tacit.sim.trial import PROGRAM_EXECUTORS
from tacit.training.flat import build


class JobLoop:
    """A job round by round, in this process or in worker processes.

    Args:
        job: The job.
        population: Its clients.
        processes: How many processes train; with one, this process does.
        executor: Who trains, or ``"auto"`` for a calibration, which is finished before the first round.
        stages: Benchmark-only stages, behind those of the job.

    Attributes:
        choice: Who trains, and in which groups.
    """

    def __init__(
        self,
        job: tacit.Job,
        population: tacit.Population,
        processes: int = 1,
        executor: str = AUTO,
        stages: tuple[Stage, ...] = (),
    ) -> None:
        self._opened = ExitStack()
        keep_freed_memory()
        needs_torch = executor not in (AUTO, *PROGRAM_EXECUTORS)  # as in tacit.run
        workers = self._opened.enter_context(Workers(processes, torch=needs_torch)) if processes > 1 else None
        model = build(job.task, model_seed(job))
        plan = _with_stages(make_plan(job, model.layout, population.sizes), stages)
        with one_thread():
            chosen = choose(plan, population, model, executor)
        self.choice = chosen.choice
        if workers is not None:
            give_back_memory()  # as tacit.run does
            population = workers.set_up(plan, population, chosen.choice, chosen.programs)
        trainers: Trainers = workers or InProcess(
            plan, Engine(plan, population, model, chosen.choice, chosen.programs)
        )
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


class TacitLoop(JobLoop):
    """A workload round by round; the counterpart of ``benchmarks.reference.plain_loop.PlainLoop``."""

    def __init__(self, name: str, processes: int = 1, executor: str = AUTO) -> None:
        super().__init__(
            make_job(name), make_population(name), processes, executor, stages_of(WORKLOADS[name])
        )


def _with_stages(plan: Plan, stages: tuple[Stage, ...]) -> Plan:
    if not stages:
        return plan
    return replace(plan, codec=Codec(Chain((*plan.codec.chain.stages, *stages)), plan.codec.spec))


def _timeline(plan: Plan, population: tacit.Population, trainers: Trainers, run: Run) -> Timeline:
    world = VirtualWorld(plan.job.world, plan.sizes, plan.job.seed)
    return Timeline(plan, population, world, trainers, run, _never_interrupted)


def _never_interrupted() -> None:
    return


def _start_of(effects: tuple[RunEffect, ...]) -> StartRound:
    return next(effect for effect in effects if isinstance(effect, StartRound))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the peak memory of a workload from the choice of its executor to the end of its first round."""
    options = _parser().parse_args(arguments)
    with PeakMemory() as memory, TacitLoop(options.workload, options.processes) as loop:
        loop.play()
    peak = None if math.isnan(memory.peak_mb) else round(memory.peak_mb, 1)
    facts = {"workload": options.workload, "executor": loop.choice.executor, "peak_mb": peak}
    print(json.dumps(facts) if options.json else json.dumps(facts, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the memory of a workload's first round.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
