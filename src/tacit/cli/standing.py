"""How a run stands: a few values that displays read whenever they like."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tacit.job import Plan
    from tacit.round import EvaluationRecord, RoundRecord


@dataclass
class Standing:
    """How a run stands.

    Attributes:
        name: The job's name.
        wanted: Rounds that are to commit.
        every: The model is measured after so many rounds.
        first: Rounds that an earlier part of the run had committed.
        committed: Rounds that have committed so far.
        abandoned: Rounds that were abandoned in this part.
        record: The last round.
        evaluation: The last evaluation.
        epsilon: What was spent so far; None where nothing is promised.
        began: When this part began, on the monotonic clock.
    """

    name: str = ""
    wanted: int = 0
    every: int = 1
    first: int = 0
    committed: int = 0
    abandoned: int = 0
    record: "RoundRecord | None" = None
    evaluation: "EvaluationRecord | None" = None
    epsilon: float | None = None
    began: float = field(default_factory=monotonic)

    @classmethod
    def of(cls, plan: "Plan", committed: int) -> "Standing":
        """Return how a run stands that is about to begin or to go on."""
        job = plan.job
        return cls(job.name, job.rounds, job.evaluation.every, committed, committed)

    @property
    def is_measured(self) -> bool:
        """Whether the model is measured after the round that has just committed."""
        return self.committed >= self.wanted or self.committed % self.every == 0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the other rounds will take at this pace; None before the first."""
        done = self.committed - self.first
        return (self.wanted - self.committed) * (monotonic() - self.began) / done if done else None

    def add(self, record: "RoundRecord") -> None:
        """Take note of a round that has closed."""
        self.record = record
        if record.outcome == "committed":
            self.committed += 1
        else:
            self.abandoned += 1

    def words(self) -> str:
        """Return the last measured values and the last round in one line."""
        return "  ".join((*self._measured(), *self._spent(), *self._round()))

    def _measured(self) -> Iterator[str]:
        found = self.evaluation
        if found is None:
            return
        central = [f"{_spoken(name)} {value:.4g}" for name, value in found.central.items()]
        if central:
            yield f"test: {', '.join(central[:3])}"
        # The loss comes first; anything after it says more.
        for name, summary in list(found.clients.items())[-1:]:
            yield f"clients: {_spoken(name)} {summary.mean:.4g}, worst tenth {summary.worst_10:.4g}"
        if self.record is not None and found.round < self.record.round:
            yield f"(after round {found.round})"

    def _spent(self) -> Iterator[str]:
        if self.epsilon is not None:
            yield f"epsilon {self.epsilon:.3g}"

    def _round(self) -> Iterator[str]:
        record = self.record
        if record is None:
            return
        if record.train_loss is not None and (
            self.evaluation is None or self.evaluation.round < record.round
        ):
            yield f"training loss {record.train_loss:.4g}"
        yield f"{len(record.answered)}/{len(record.invited)} answered"
        if record.outcome == "abandoned":
            yield f"abandoned: {record.reason}"


def _spoken(metric: str) -> str:
    return metric.replace("_", " ")
