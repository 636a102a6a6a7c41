"""What a round costs beside its training, and whether memory grows with the population.

``python -m benchmarks.overhead``; with ``--json`` the last line is a JSON object. A hundred clients a round,
out of 100,000, in runs of ``tacit.run`` with all that belongs to one: run folder, records, checkpoints.

*Training* is all that is done for each client: ``Engine.train``, that is loading its examples, local steps,
encoding, and adding its row to the sum. *Overhead* is the rest of the time between the ends of two rounds:
draw and invite the cohort, look up arrivals, all machines, allocate the sum, merge it, decode it, server
step, write the record, offer the checkpoint. Checkpoints are written by a thread of their own, half a second
apart at least; what it takes from the processor meanwhile is in the figure, a write's own duration is not.

Memory is the peak of a whole run in a process of its own. The data is one table, dealt to a thousand clients
or to a hundred thousand: what differs is what is kept for each client.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

import tacit
from benchmarks.memory import PeakMemory
from tacit.core.part import Part
from tacit.data.files import RemoteFile
from tacit.data.source import Splittable
from tacit.data.table import Table
from tacit.job import Plan
from tacit.round import RoundRecord
from tacit.sim.engine import Done, Engine
from tacit.sim.observer import Silent

if TYPE_CHECKING:
    from torch import nn

EXAMPLES, FEATURES, COHORT, WARM = 200_000, 20, 100, 3
FEW, MANY = 1_000, 100_000
SMALL, LARGE = 400, 43_000
"""Hidden units for a model below 10,000 weights and for one of about a million."""
LIMIT_MS = {SMALL: 1.0, LARGE: 5.0}


class Noise(Splittable, Part, frozen=True, tag="benchmark_noise"):
    """A table of random numbers."""

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return ()

    def load(self, folder: Path) -> Table:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((EXAMPLES, FEATURES), dtype=np.float32)
        return Table((x,), rng.integers(0, 2, EXAMPLES))


def make_model(hidden: int) -> "nn.Module":
    """Build a perceptron with one hidden layer."""
    from torch import nn

    return nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def make_job(hidden: int, rounds: int) -> tacit.Job:
    """Return a job whose clients do a single step each."""
    return tacit.Job(
        name="overhead",
        task=tacit.Task(model=make_model, arguments={"hidden": hidden}),
        algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1, steps=1, batch_size=2)),
        cohort=tacit.FixedSize(COHORT),
        rounds=rounds,
        evaluation=tacit.Evaluation(every=rounds, clients=0),
    )


def make_population(clients: int) -> tacit.Split:
    """Deal the table to that many clients."""
    return Noise().split(tacit.IID(), clients=clients, test=0.0, holdout=0.0)


class Clock(Silent):
    """Notes when rounds end and how much of each was training; the first rounds warm the caches."""

    def __init__(self) -> None:
        self.weights = 0
        self.training_s = 0.0
        self.training_cpu_s = 0.0
        self._ends: list[tuple[float, ...]] = []

    def started(self, plan: Plan, folder: str, committed: int) -> None:
        self.weights = plan.parameters

    def round_closed(self, record: RoundRecord) -> None:
        self._ends.append((time.perf_counter(), self.training_s, time.thread_time(), self.training_cpu_s))

    def figures(self) -> dict[str, Any]:
        """Return what rounds took: on the wall, and of this thread's processor time."""
        ends = 1000 * np.array(self._ends[WARM:])
        total, training, cpu_total, cpu_training = np.diff(ends, axis=0).T
        return {
            "weights": self.weights,
            "median_ms": round(float(np.median(total - training)), 3),
            "p90_ms": round(float(np.quantile(total - training, 0.9)), 3),
            "cpu_median_ms": round(float(np.median(cpu_total - cpu_training)), 3),
            "training_median_ms": round(float(np.median(training)), 1),
            "rounds": len(total),
        }


@contextmanager
def timed_training(clock: Clock) -> Iterator[None]:
    """Let the clock see how long ``Engine.train`` takes."""
    train = Engine.train

    def timed(engine: Engine, *arguments: Any) -> Done:
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        done = train(engine, *arguments)
        clock.training_s += time.perf_counter() - begin
        clock.training_cpu_s += time.thread_time() - begin_cpu
        return done

    with patch.object(Engine, "train", timed):
        yield


def simulate(clients: int, hidden: int, rounds: int) -> Clock:
    """Run a job to its end and return what the clock saw."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, timed_training(clock):
        tacit.run(
            make_job(hidden, rounds), make_population(clients), folder=Path(folder) / "run", observer=clock
        )
    return clock


def measure_time(hidden: int, rounds: int) -> dict[str, Any]:
    """Measure the overhead of rounds among many clients."""
    return {**simulate(MANY, hidden, rounds).figures(), "limit_ms": LIMIT_MS[hidden]}


def measure_memory(clients: int) -> float:
    """Return the peak of a run in a process of its own, MB."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--peak-of", str(clients)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.splitlines()[-1])


def measure() -> dict[str, Any]:
    """Measure time and memory."""
    few, many = measure_memory(FEW), measure_memory(MANY)
    return {
        "cohort": COHORT,
        "clients": MANY,
        "small_model": measure_time(SMALL, rounds=200),
        "large_model": measure_time(LARGE, rounds=30),
        "memory": {
            f"peak_mb_{FEW}_clients": round(few, 1),
            f"peak_mb_{MANY}_clients": round(many, 1),
            "bytes_per_client": round((many - few) * 2**20 / (MANY - FEW), 1),
        },
    }


def _peak_mb(clients: int) -> float:
    with PeakMemory(interval_s=0.05) as memory:
        simulate(clients, SMALL, rounds=20)
    return memory.peak_mb


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    if options.peak_of:
        print(_peak_mb(options.peak_of))
        return
    figures = measure()
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what a round costs beside its training.")
    parser.add_argument("--peak-of", type=int, metavar="CLIENTS", help="print the peak memory of a run only")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
