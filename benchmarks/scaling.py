"""How the cost of a round grows: with workers, with the population, and with the cohort.

``python -m benchmarks.scaling``; with ``--json`` the last line is a JSON object.

* *workers*: W2 in one process and in two, in turns.
* *cohorts*: logistic regression on ten features, 10, 100, 1,000 and 10,000 clients a round out of a million.
  The cost of a client should stay or fall while the cohort grows.
* *population*: the largest of these cohorts out of a hundred times fewer clients; what that saves in memory,
  for each client less. Both are trained by the same executor, untried: trying some leaves memory behind.

A client's examples are made from its number when it is trained, in whatever process, and kept nowhere.
Seconds are medians; the first round of each is not counted, and memory (the summed PSS of all processes) is
watched in it alone. Every cohort is measured in a process of its own.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import nn

import tacit
from benchmarks.memory import PeakMemory
from benchmarks.tacit_loop import JobLoop, TacitLoop
from benchmarks.tacit_workloads import MOST_ROUNDS, SEED
from tacit.core.randomness import generator
from tacit.data.ids import Numbered
from tacit.sim.choosing import AUTO

FEATURES, EXAMPLES, BATCH_SIZE = 10, 20, 10
COHORTS = (10, 100, 1_000, 10_000)
FEW, MANY = 10_000, 1_000_000
PROCESSES = 2
NOISE = 1.1
"""How much dearer a client may seem before one calls its cost rising."""


@dataclass(frozen=True)
class MadeHoldings:
    """Clients whose examples are made whenever they are asked for: a million of them lie nowhere."""

    sizes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, clients: int) -> Self:
        return cls(np.full(clients, EXAMPLES, dtype=np.int64))

    @property
    def ids(self) -> Numbered:
        return Numbered(len(self.sizes))

    @property
    def has_holdout(self) -> bool:
        return False

    def train(self, index: int) -> tacit.Examples:
        rng = generator(SEED, "benchmark", index)
        x = rng.standard_normal((EXAMPLES, FEATURES), dtype=np.float32)
        return tacit.Examples.of(x, x[:, 0] + 0.5 * rng.standard_normal(EXAMPLES) > 0)

    def holdout(self, index: int) -> None:
        return None

    def target(self, index: int) -> npt.NDArray[Any]:
        return self.train(index).target

    def test(self) -> None:
        return None

    @property
    def is_steady(self) -> bool:
        return False  # they are, but making them again costs less than keeping a million


def make_model() -> nn.Module:
    """Build a logistic regression."""
    return nn.Linear(FEATURES, 1)


def make_job(cohort: int) -> tacit.Job:
    """Return a job of one local epoch for that many clients a round."""
    return tacit.Job(
        name="logistic-regression",
        task=tacit.Task(model=make_model, loss="binary_cross_entropy"),
        algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1, batch_size=BATCH_SIZE)),
        cohort=tacit.FixedSize(cohort),
        rounds=MOST_ROUNDS,
        seed=SEED,
        evaluation=tacit.Evaluation(every=MOST_ROUNDS, clients=0),
    )


def measure_cohort(cohort: int, clients: int, executor: str = AUTO) -> dict[str, Any]:
    """Measure rounds of one cohort out of a population of that many clients, in this process."""
    rounds = min(100, max(3, 20_000 // cohort))
    population = tacit.Population(MadeHoldings.of(clients))
    with JobLoop(make_job(cohort), population, PROCESSES, executor) as loop:
        with PeakMemory() as memory:
            loop.play()
        seconds = statistics.median(loop.play() for _ in range(rounds))
    return {
        "clients": clients,
        "cohort": cohort,
        "executor": loop.choice.executor,
        "group": loop.choice.group,
        "seconds_per_round": round(seconds, 5),
        "us_per_client": round(1e6 * seconds / cohort, 1),
        "peak_mb": None if math.isnan(memory.peak_mb) else round(memory.peak_mb, 1),
    }


def measure_workers(rounds: int = 30) -> dict[str, Any]:
    """Measure W2 in one process and in several."""
    with TacitLoop("w2", 1) as one, TacitLoop("w2", PROCESSES) as several:
        one.play(), several.play()
        turns = [(one.play(), several.play()) for _ in range(rounds)]
    alone, together = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    return {
        "workload": "w2",
        "executor": one.choice.executor,
        "group": one.choice.group,
        "seconds_per_round": {"1": round(alone, 5), str(PROCESSES): round(together, 5)},
        "speedup": round(alone / together, 3),
    }


def measure() -> dict[str, Any]:
    """Measure all three."""
    cohorts = [_in_own_process(cohort, MANY) for cohort in COHORTS]
    costs = [found["us_per_client"] for found in cohorts]
    few, many = (_in_own_process(COHORTS[-1], n, cohorts[-1]["executor"]) for n in (FEW, MANY))
    return {
        "processes": PROCESSES,
        "workers": measure_workers(),
        "cohorts": cohorts,
        "never_rises": all(b <= NOISE * a for a, b in pairwise(costs)),
        "population": {
            "few": few,
            "many": many,
            "bytes_per_client": _bytes_per_client(few["peak_mb"], many["peak_mb"]),
        },
    }


def _bytes_per_client(few_mb: float | None, many_mb: float | None) -> float | None:
    if few_mb is None or many_mb is None:
        return None
    return round((many_mb - few_mb) * 2**20 / (MANY - FEW), 1)


def _in_own_process(cohort: int, clients: int, executor: str = AUTO) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--executor", executor, "--json"]
    command += ["--cohort", str(cohort), "--clients", str(clients)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    if options.cohort:
        figures = measure_cohort(options.cohort, options.clients, options.executor)
    else:
        figures = measure()
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how the cost of a round grows.")
    parser.add_argument("--cohort", type=int, help="measure this cohort alone")
    parser.add_argument("--clients", type=int, default=MANY, help="the population it is drawn from")
    parser.add_argument("--executor", default=AUTO, help="who trains it")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
