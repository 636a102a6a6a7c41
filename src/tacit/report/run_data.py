"""What a run folder says, read once, and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

from msgspec.structs import replace

from tacit.report.disclosure import Disclosure
from tacit.round import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.store import FinalMetrics, Holding, RunFolder, RunInfo
from tacit.store.run_folder import JOB

LOSS = "loss"


@dataclass(frozen=True)
class Traffic:
    """Bytes of a whole run: what the server sent, and what it received in time.

    Attributes:
        up: Bytes of the updates that are in the sums.
        down: Bytes of the assignments sent out.
    """

    up: int
    down: int

    @classmethod
    def of(cls, info: RunInfo, rounds: Sequence[RoundRecord]) -> "Traffic":
        """Add up the bytes of all rounds, abandoned ones included."""
        answered = sum(len(record.answered) for record in rounds)
        invited = sum(len(record.invited) for record in rounds)
        return cls(up=answered * info.bytes_up_per_client, down=invited * info.bytes_down_per_client)


@dataclass(frozen=True)
class RunData:
    """A run as read from its folder.

    Attributes:
        info: What became of it.
        settings: The resolved settings; empty if the run ended before they were written.
        rounds: What happened in each round.
        evaluations: What the model was measured to be.
        spends: What each round has spent.
    """

    info: RunInfo
    settings: Mapping[str, Any]
    rounds: Sequence[RoundRecord]
    evaluations: Sequence[EvaluationRecord]
    spends: Sequence[PrivacyRecord] = ()

    @classmethod
    def read(cls, folder: RunFolder) -> "RunData":
        """Read a run folder, finished or not.

        Raises:
            StoreError: There is no run in it, or it is damaged.
        """
        settings = folder.job() if folder.path.joinpath(JOB).is_file() else {}
        return cls(folder.info(), settings, folder.rounds(), folder.evaluations(), folder.spends())

    @cached_property
    def shows(self) -> Disclosure:
        """What of it may be shown to others than the operator."""
        return Disclosure.of(self.info)

    def published(self) -> "RunData":
        """Return the run without what is not to be shown to others than the operator."""
        info, rounds, evaluations = self.info, self.rounds, self.evaluations
        if not self.shows.client_data:
            final = FinalMetrics(central=self.final.central)
            info = replace(info, metrics=final, population=_only_size(info.population))
            evaluations = [replace(record, clients={}, per_client={}) for record in evaluations]
        if not self.shows.participation:
            # That a round was played, and whether it counts, is public: the model moved or it did not.
            rounds = [
                RoundRecord(round=one.round, outcome=one.outcome, reason="", invited=(), answered=())
                for one in rounds
            ]
        return RunData(info, self.settings, rounds, evaluations, self.spends)

    @property
    def committed(self) -> int:
        """Rounds that count; a run that was killed has only noted them one by one."""
        return max(self.info.rounds, sum(record.outcome == "committed" for record in self.rounds))

    @property
    def attempts(self) -> int:
        """Rounds that were started."""
        return max(self.info.attempts, len(self.rounds), self.committed)

    @property
    def wanted(self) -> int | None:
        """Rounds that were to commit."""
        rounds = self.settings.get("rounds")
        return rounds if isinstance(rounds, int) else None

    @cached_property
    def traffic(self) -> Traffic | None:
        """Bytes of all rounds; None where they would tell how many took part."""
        return Traffic.of(self.info, self.rounds) if self.shows.participation else None

    @cached_property
    def final(self) -> FinalMetrics:
        """The last evaluation; a run that was killed has only noted it among the others."""
        noted = self.info.metrics
        if noted.central or noted.clients or not self.evaluations:
            return noted
        last = self.evaluations[-1]
        return FinalMetrics(central=last.central, clients=last.clients)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics, the main one first and the loss right after it."""
        known = [
            name
            for record in self.evaluations
            for name in (*record.central, *record.clients, *record.per_client)
        ]
        return ordered([*known, *self.final.central, *self.final.clients])

    @property
    def main_metric(self) -> str | None:
        """The metric that the report is about; None if nothing was measured."""
        return next(iter(self.metrics), None)

    def per_client(self, metric: str) -> dict[str, float]:
        """Return a metric's drawable values at the last evaluation on clients."""
        for record in reversed(self.evaluations):
            if metric in record.per_client:
                return {
                    client: value for client, value in record.per_client[metric].items() if is_drawable(value)
                }
        return {}


def is_drawable(value: float | None) -> TypeGuard[float]:
    """Tell whether a value was measured, is finite, and is no diverged loss of absurd size."""
    return value is not None and abs(value) < 1e100


def ordered(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct metric names: the first that is no loss, the loss, then the others.

    >>> ordered(["loss", "auc", "accuracy", "auc"])
    ('auc', 'loss', 'accuracy')
    """
    distinct = dict.fromkeys(names)
    others = [name for name in distinct if name != LOSS]
    return (*others[:1], *([LOSS] if LOSS in distinct else []), *others[1:])


def _only_size(population: Holding | None) -> Holding | None:
    if population is None:
        return None
    return replace(population, examples=0, ids=(), sizes=(), labels=(), counts=())
