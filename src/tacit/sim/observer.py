"""Who wants to know how a run is going."""

from typing import Protocol

from tacit.job import Plan
from tacit.round import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.store import RunInfo
from tacit.training.executor import Choice, Failure


class Observer(Protocol):
    """Is told what happens in a run, as it happens; must not be slow."""

    def exporting(self, executor: str) -> None:
        """Hear that a program is exported for an executor, which takes some seconds."""
        ...

    def executor_chosen(self, choice: Choice) -> None:
        """Hear who will train, and why."""
        ...

    def started(self, plan: Plan, folder: str, committed: int) -> None:
        """Hear that the run begins, after ``committed`` rounds of an earlier part."""
        ...

    def round_closed(self, record: RoundRecord) -> None:
        """Hear that a round was committed or abandoned."""
        ...

    def spent(self, record: PrivacyRecord) -> None:
        """Hear what a round has spent; nothing where nothing is promised."""
        ...

    def evaluated(self, record: EvaluationRecord) -> None:
        """Hear that the model was measured."""
        ...

    def client_failed(self, client: str, failure: Failure) -> None:
        """Hear that a client raised: once for each kind of failure, with its traceback."""
        ...

    def finished(self, info: RunInfo) -> None:
        """Hear that the run has ended."""
        ...


class Silent:
    """Tells nobody."""

    def exporting(self, executor: str) -> None:
        return

    def executor_chosen(self, choice: Choice) -> None:
        return

    def started(self, plan: Plan, folder: str, committed: int) -> None:
        return

    def round_closed(self, record: RoundRecord) -> None:
        return

    def spent(self, record: PrivacyRecord) -> None:
        return

    def evaluated(self, record: EvaluationRecord) -> None:
        return

    def client_failed(self, client: str, failure: Failure) -> None:
        return

    def finished(self, info: RunInfo) -> None:
        return
