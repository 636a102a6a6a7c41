"""What is learned under privacy: digits on a thousand and a hundred phones, correlated noise, heart disease.

``python -m benchmarks.accuracy_private``; with ``--json`` the last line is a JSON object. Figures are test
accuracies for the seeds 0, 1 and 2 and their mean, beside what they must and should be. A seed draws all
there is: the test set, who holds which image, cohorts, orders and noise. The noise is seeded, so that a
figure can be had again; such runs protect nobody. The settings were chosen on seeds from 10 on.

* *thousand_users*: ``examples/digits_private.py`` as it stands, with an adaptive clip, at epsilon 2.
* *hundred_users*: the same job, half of a hundred users a round, 20 rounds.
* *plain_loop*, in both: the same users, rate and noise multiplier in a loop by hand, with several fixed
  clips; the best is known in hindsight only. Once on pixels as they are, once with the example's model.
* *correlated*: 200 rounds of 50 users, each at least 20 rounds apart: the banded inverse against independent
  noise, with the same clip, epsilon and relation, at two server learning rates: each may take its better one.
* *heart_record*: ``examples/heart_private.py`` as it stands: the mean of the hospitals' accuracies.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import tacit
from benchmarks.reference.private_loop import Data, Matrix, PlainPrivateLoop, accuracy, normalised

SEEDS = (0, 1, 2)
IMAGES = 20  # of each user
CLIPS = (0.25, 0.5, 1.0, 2.0, 4.0)
MECHANISMS = {"independent": tacit.Gaussian(), "banded_inverse": tacit.BandedInverse()}
CORRELATED_CLIP = 0.3
SERVER_LRS = (1.0, 0.3)

EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = tacit.load_job(EXAMPLES / "digits_private.py")
HEART = tacit.load_job(EXAMPLES / "heart_private.py")

Figures = dict[str, Any]
Inputs = Callable[[Matrix], Matrix]


@dataclass(frozen=True)
class DigitsCase:
    """The private digits in one setting.

    Attributes:
        clients: How many users there are.
        rate: Probability of each to be in a round.
        rounds: How many rounds there are.
        delta: The delta at which epsilon holds.
        must: The accuracy that has to be reached.
        aim: The accuracy that should be.
    """

    clients: int
    rate: float
    rounds: int
    delta: float
    must: float
    aim: float

    def job(self, seed: int) -> tacit.Job:
        """Return the example's job in this setting."""
        job = seeded(DIGITS.job, seed, delta=self.delta)
        return msgspec.structs.replace(job, cohort=tacit.Poisson(rate=self.rate), rounds=self.rounds)


THOUSAND = DigitsCase(1000, 0.05, 60, delta=1e-4, must=0.92, aim=0.93)
HUNDRED = DigitsCase(100, 0.5, 20, delta=1e-3, must=0.68, aim=0.74)


def digits(case: DigitsCase, seeds: Sequence[int] = SEEDS) -> Figures:
    """Train the private digits in one setting, and the plain loop beside it."""
    results = [run(case.job(seed), phones(case.clients, seed)) for seed in seeds]
    found = dict(zip(seeds, (result.central for result in results), strict=True))
    noise = results[0].noise_multiplier
    return {
        **standing(found, case.must, case.aim),
        **results[0].promise(),
        "clipping": msgspec.to_builtins(privacy_of(DIGITS.job).clipping),
        "plain_loop": plain(case, noise, seeds),
    }


def plain(case: DigitsCase, noise_multiplier: float, seeds: Sequence[int] = SEEDS) -> Figures:
    """Play the plain loop in one setting, on pixels and with the example's model and local steps."""
    loop = PlainPrivateLoop(case.rate, case.rounds, noise_multiplier)
    local = DIGITS.job.algorithm.local
    ours = replace(loop, lr=local.lr, epochs=local.epochs, batch_size=local.batch(IMAGES))
    return {
        "pixels": _by_clip(case, loop, lambda images: images, seeds),
        "normalised": _by_clip(case, ours, normalised, seeds),
    }


def correlated(seeds: Sequence[int] = SEEDS) -> Figures:
    """Compare correlated with independent noise: same clip, epsilon and relation."""
    found = {name: _correlated(mechanism, seeds) for name, mechanism in MECHANISMS.items()}
    best = {name: max(row["mean"] for row in rows["server_lrs"].values()) for name, rows in found.items()}
    gain = round(best["banded_inverse"] - best["independent"], 4)
    return {"clip": CORRELATED_CLIP, **found, "best": best, "gain": gain, "must_gain": 0.0, "holds": gain > 0}


def correlated_job(mechanism: Any, server_lr: float, seed: int) -> tacit.Job:
    """Return the job of the comparison: nobody takes part more often than every 20 rounds."""
    job = seeded(
        DIGITS.job,
        seed,
        clipping=tacit.FixedClipping(bound=CORRELATED_CLIP),
        mechanism=mechanism,
        min_separation=20,
    )
    algorithm = tacit.FedAvg(local=job.algorithm.local, server=tacit.ServerSGD(lr=server_lr))
    return msgspec.structs.replace(job, cohort=tacit.FixedSize(50), rounds=200, algorithm=algorithm)


def heart(seeds: Sequence[int] = SEEDS) -> Figures:
    """Train the hospitals whose records are private."""
    results = [
        run(seeded(HEART.job, seed), msgspec.structs.replace(hospitals(), seed=seed), executor="auto")
        for seed in seeds
    ]
    found = dict(zip(seeds, (result.mean_of_clients for result in results), strict=True))
    return {**standing(found, 0.70, 0.74), **results[0].promise()}


def phones(clients: int = THOUSAND.clients, seed: int = 0) -> tacit.Population:
    """Return the example's population, of another size or drawn anew."""
    make: Any = DIGITS.population  # a function of the file
    population: tacit.Population = make(clients, seed)
    return population


def hospitals() -> tacit.Split:
    """Return the example's hospitals."""
    make: Any = HEART.population  # a function of the file
    split: tacit.Split = make()
    return split


@dataclass(frozen=True)
class Run:
    """What is kept of a run."""

    central: float
    mean_of_clients: float
    epsilon: float
    delta: float
    noise_multiplier: float
    relation: str

    def promise(self) -> Figures:
        """Return what the run promises."""
        return {
            "epsilon": round(self.epsilon, 4),
            "delta": self.delta,
            "noise_multiplier": round(self.noise_multiplier, 4),
            "relation": self.relation,
        }


def run(job: tacit.Job, population: tacit.Population | tacit.Split, executor: str = "rules") -> Run:
    """Simulate a private job; its model is measured at the end only."""
    evaluation = msgspec.structs.replace(job.evaluation, every=job.rounds)
    with tempfile.TemporaryDirectory() as folder:
        result = tacit.run(
            msgspec.structs.replace(job, evaluation=evaluation),
            population,
            folder=Path(folder) / "run",
            executor=executor,
        )
        guarantee, metrics = result.guarantee, result.metrics
    assert guarantee is not None, "the job is private"
    of_clients = metrics.clients.get("accuracy")
    return Run(
        central=metrics.central.get("accuracy", float("nan")),
        mean_of_clients=of_clients.mean if of_clients else float("nan"),
        epsilon=guarantee.epsilon,
        delta=guarantee.delta,
        noise_multiplier=guarantee.noise_multiplier,
        relation=guarantee.adjacency,
    )


def seeded(job: tacit.Job, seed: int, **privacy: Any) -> tacit.Job:
    """Return a job whose noise is seeded, with other settings of its privacy."""
    changed = msgspec.structs.replace(privacy_of(job), randomness="seeded", **privacy)
    return msgspec.structs.replace(job, seed=seed, privacy=changed)


def privacy_of(job: tacit.Job) -> tacit.Privacy:
    """Return the privacy of a job that has some."""
    assert job.privacy is not None, "the job is private"
    return job.privacy


def standing(found: Mapping[int, float], must: float, aim: float) -> Figures:
    """Set the accuracies of the seeds beside what their mean must and should be."""
    mean = statistics.mean(found.values())
    return {
        **_means(found),
        "must": must,
        "aim": aim,
        "meets_must": mean >= must,
        "meets_aim": mean >= aim,
    }


def _means(found: Mapping[int, float]) -> Figures:
    return {
        "mean": round(statistics.mean(found.values()), 4),
        "accuracy": {str(seed): round(value, 4) for seed, value in found.items()},
    }


def _by_clip(case: DigitsCase, loop: PlainPrivateLoop, inputs: Inputs, seeds: Sequence[int]) -> Figures:
    population = [_arrays(phones(case.clients, seed), inputs) for seed in seeds]

    def mean(clip: float | None) -> float:
        return statistics.mean(
            accuracy(replace(loop, clip=clip, seed=seed).run(users), test)
            for seed, (users, test) in zip(seeds, population, strict=True)
        )

    clips = {clip: round(mean(clip), 4) for clip in CLIPS}
    best = max(clips, key=lambda clip: clips[clip])
    return {
        "best_clip": best,
        "best_mean": clips[best],
        "mean_by_clip": {str(clip): value for clip, value in clips.items()},
        "not_private": round(mean(None), 4),
    }


def _arrays(population: tacit.Population, inputs: Inputs) -> tuple[list[Data], Data]:
    """Return the users' images and labels, and the test set's."""
    assert population.test is not None, "the digits have a test set"
    held = [population.train(user) for user in range(len(population))]
    every = [
        (inputs(images.inputs[0].astype(np.float64)), images.target) for images in (*held, population.test)
    ]
    return every[:-1], every[-1]


def _correlated(mechanism: Any, seeds: Sequence[int]) -> Figures:
    rows: Figures = {}
    for server_lr in SERVER_LRS:
        runs = {seed: run(correlated_job(mechanism, server_lr, seed), phones(seed=seed)) for seed in seeds}
        rows[str(server_lr)] = _means({seed: one.central for seed, one in runs.items()})
        promise = runs[seeds[0]].promise()
    return {**promise, "server_lrs": rows}


MEASURES: dict[str, Callable[[], Figures]] = {
    "thousand_users": lambda: digits(THOUSAND),
    "hundred_users": lambda: digits(HUNDRED),
    "correlated": correlated,
    "heart_record": heart,
}


def measure(only: Sequence[str] = ()) -> Figures:
    """Measure everything, or what is named."""
    return {name: of() for name, of in MEASURES.items() if not only or name in only}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    figures = measure(options.only)
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure accuracies under privacy.")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=[], help="measure these alone")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
