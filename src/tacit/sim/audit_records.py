"""Membership inference on records: a job is trained with and without some of them, and asked which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.core.errors import RunError
from tacit.core.examples import Array, Examples
from tacit.core.layout import Vector
from tacit.core.randomness import generator
from tacit.data import Population
from tacit.data.population import Sizes
from tacit.job import Job
from tacit.privacy.audit.guesses import Coins, Floats
from tacit.sim.observer import Observer
from tacit.sim.simulate import run
from tacit.training.flat import FlatModel
from tacit.training.membership import membership_scores

_Rows = tuple[Sizes, Sizes]
"""Positions of records, and of those that take their places."""


@dataclass(frozen=True)
class RecordScores:
    """What a trained model says about records.

    Attributes:
        scores: Higher for records that it was more likely trained on.
        included: Whether each was in its client's data, by a fair coin of its own.
    """

    scores: Floats
    included: Coins


def attack_records(
    job: Job, population: Population, count: int, folder: Path, observer: Observer | None = None
) -> RecordScores | None:
    """Train a job twice and tell from the final model which records it was trained on.

    Of some clients' records each is kept or replaced by another record of its client, by a fair coin. In a
    second run all of them are replaced: that is the reference, which says how hard each record is. Both are
    runs like any other, with as many records as the job has.

    Args:
        job: The job.
        population: Its clients.
        count: How many records to look at; at most half of each client's.
        folder: Where the runs are written.
        observer: Is told how they go.

    Returns:
        Scores, or None if no client has a record to spare.

    Raises:
        RunError: A run did not end.
    """
    rng = generator(job.seed, "audit", "records")
    chosen = _chosen(population, count, rng)
    if not chosen:
        return None
    coins = {position: rng.random(len(rows)) < 0.5 for position, (rows, _) in chosen.items()}
    some = {
        position: (rows[~coins[position]], others[~coins[position]])
        for position, (rows, others) in chosen.items()
    }
    model, vector = _trained(job, _Replaced(population, some), folder / "with", observer)
    _, reference = _trained(job, _Replaced(population, chosen), folder / "without", observer)
    records = _joined([population.train(position).take(rows) for position, (rows, _) in chosen.items()])
    scores = membership_scores(job.task, model, vector, records, reference)
    return RecordScores(scores, np.concatenate(list(coins.values())))


def _chosen(population: Population, count: int, rng: np.random.Generator) -> dict[int, _Rows]:
    """Return the rows to look at, and what may take their places, by client."""
    chosen: dict[int, _Rows] = {}
    left = count
    for position in rng.permutation(len(population)).tolist():
        size = int(population.sizes[position])
        share = min(left, size // 2)
        if share:
            rows = rng.permutation(size).astype(np.int64)
            chosen[position] = rows[:share], rows[share : 2 * share]
            left -= share
        if not left:
            break
    return dict(sorted(chosen.items()))


def _trained(
    job: Job, holdings: "_Replaced", folder: Path, observer: Observer | None
) -> tuple[FlatModel, Vector]:
    result = run(job, Population(holdings), folder=folder, observer=observer)
    if result.outcome not in ("completed", "exhausted"):
        fix = "Let it run to its end, or audit without records: --records 0"
        raise RunError("T353", f"a run of the audit is {result.outcome}", where=str(folder), fix=fix)
    model = FlatModel(result.model(), buffers=job.task.buffers)
    return model, model.vector()


def _joined(parts: Sequence[Examples]) -> Examples:
    inputs = zip(*(part.inputs for part in parts), strict=True)
    return Examples(
        tuple(np.concatenate(column) for column in inputs), np.concatenate([part.target for part in parts])
    )


class _Replaced:
    """A population in which some rows of some clients are replaced by other rows of theirs."""

    def __init__(self, population: Population, replaced: Mapping[int, _Rows]) -> None:
        self._population, self._replaced = population, replaced

    @property
    def ids(self) -> Sequence[str]:
        return self._population.ids

    @property
    def sizes(self) -> Sizes:
        return self._population.sizes

    @property
    def has_holdout(self) -> bool:
        return self._population.has_holdout

    @property
    def is_steady(self) -> bool:
        return self._population.is_steady

    def train(self, index: int) -> Examples:
        examples, replaced = self._population.train(index), self._replaced.get(index)
        if replaced is None:
            return examples
        taken = np.arange(len(examples))
        taken[replaced[0]] = replaced[1]
        return examples.take(taken)

    def holdout(self, index: int) -> Examples | None:
        return self._population.holdout(index)

    def target(self, index: int) -> Array:
        return self.train(index).target

    def test(self) -> Examples | None:
        return self._population.test
