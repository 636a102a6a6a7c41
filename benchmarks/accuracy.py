"""FedAvg on MNIST: weight for weight as the plain loop, rounds to 97 %; and what is learned under privacy.

``python -m benchmarks.accuracy``; with ``--json`` the last line is a JSON object. The 2NN of McMahan et al.
(2017, arXiv:1602.05629) on a hundred clients with 600 digits each, ten a round, one local epoch in batches of
ten, learning rate 0.1, pixels in [0, 1].

* *equality*: the plain loop replays tacit's first weights, cohorts and orders; after three rounds the largest
  absolute difference of two weights is given.
* *rounds*: how many rounds until the test accuracy first reaches the target, for the seeds 0, 1 and 2 of
  tacit's own draws (first weights, deal, cohorts, orders).
* *private*: the figures of ``benchmarks.accuracy_private``.

The data lies where ``TACIT_DATA`` says; it is fetched if it is missing.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import tacit
from benchmarks import accuracy_private
from benchmarks.reference import mnist_2nn
from benchmarks.reference.mnist_2nn import BATCH_SIZE, CLIENTS, CLIENTS_PER_ROUND, LR, Examples, Vector
from tacit.job import model_seed
from tacit.training.flat import build
from tacit.training.order import epoch_order

SEEDS = (0, 1, 2)
TARGET, LIMIT_ROUNDS = 0.97, 62
TOLERANCE = 1e-5


def make_model() -> nn.Module:
    """Build the 2NN: 784-200-200-10."""
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))


def make_job(
    seed: int, rounds: int, *, stop: tuple[tacit.TargetMetric, ...] = (), every: int = 1
) -> tacit.Job:
    """Return the standard run as a job."""
    return tacit.Job(
        name="mnist-2nn",
        task=tacit.Task(model=make_model, metrics=("accuracy",)),
        algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=LR, epochs=1, batch_size=BATCH_SIZE)),
        cohort=tacit.FixedSize(CLIENTS_PER_ROUND),
        rounds=rounds,
        seed=seed,
        stop=stop,
        evaluation=tacit.Evaluation(every=every, clients=0),
    )


def make_split(seed: int) -> tacit.Split:
    """Deal MNIST evenly, all of it for training."""
    return tacit.data.mnist(flat=True).split(tacit.IID(), clients=CLIENTS, holdout=0.0, seed=seed)


def largest_difference(rounds: int = 3, seed: int = 0) -> float:
    """Return the largest absolute difference of two weights after some rounds of tacit and the plain loop."""
    job, population = make_job(seed, rounds, every=rounds), make_split(seed).open()
    with _run(job, population) as result:
        ours = mnist_2nn.to_vector(result.model())
        cohorts = [[population.ids.index(client) for client in record.invited] for record in result.rounds]

    def arrays(client: int) -> Examples:
        examples = population.train(client)
        return examples.inputs[0], examples.target

    def order(round: int, client: int, examples: int) -> Any:
        return epoch_order(seed, round + 1, population.ids[client], 0, examples)

    first = build(job.task, model_seed(job)).vector()
    theirs = mnist_2nn.run(first, arrays, cohorts, order)[-1]
    return _largest(ours, theirs)


def rounds_to(target: float, seed: int, most: int = 200) -> dict[str, Any]:
    """Count the rounds to a test accuracy."""
    job = make_job(seed, most, stop=(tacit.TargetMetric(metric="accuracy", value=target),))
    with _run(job, make_split(seed)) as result:
        curve = [record.central["accuracy"] for record in result.history[1:]]
        seconds = result.info.seconds
    reached = curve[-1] >= target
    return {
        "seed": seed,
        "rounds": len(curve) if reached else None,
        "accuracy": round(curve[-1], 4),
        "seconds": round(seconds, 1),
    }


def measure() -> dict[str, Any]:
    """Measure equality, rounds, and accuracies under privacy."""
    runs = [rounds_to(TARGET, seed) for seed in SEEDS]
    counts = [run["rounds"] for run in runs]
    return {
        "target": TARGET,
        "mean_rounds": None if None in counts else round(statistics.mean(counts), 1),
        "limit_rounds": LIMIT_ROUNDS,
        "runs": runs,
        "largest_difference_after_3_rounds": largest_difference(),
        "tolerance": TOLERANCE,
        "private": accuracy_private.measure(),
    }


@contextmanager
def _run(job: tacit.Job, population: tacit.Split | tacit.Population) -> Iterator[tacit.Result]:
    with tempfile.TemporaryDirectory() as folder:
        yield tacit.run(job, population, folder=Path(folder) / "run")


def _largest(a: Vector, b: Vector) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    figures = measure()
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train to the accuracies that the docs quote.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
