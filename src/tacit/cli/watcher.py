"""The observer of ``tacit run``: tells people how a run is going, and keeps what the end needs."""

from types import TracebackType
from typing import TYPE_CHECKING

from tacit.cli.displays import Display
from tacit.cli.output import Output, facts
from tacit.cli.standing import Standing

if TYPE_CHECKING:
    from tacit.job import Plan
    from tacit.round import EvaluationRecord, PrivacyRecord, RoundRecord
    from tacit.store import RunInfo
    from tacit.training.executor import Choice, Failure


class Watcher:
    """Follows a run.

    Args:
        output: Where words go.
        display: How progress is shown.
        quiet: Whether to be silent about all that goes well.

    Attributes:
        folder: The run folder, as soon as the run has begun.
    """

    def __init__(self, output: Output, display: Display, *, quiet: bool = False) -> None:
        self._output, self._display, self._quiet = output, display, quiet
        self._standing = Standing()
        self.folder: str | None = None
        self._choice: Choice | None = None

    def exporting(self, executor: str) -> None:
        if not self._quiet:
            self._output.say(f"exporting a program for the executor {executor}, which takes some seconds")

    def executor_chosen(self, choice: "Choice") -> None:
        self._choice = choice

    def started(self, plan: "Plan", folder: str, committed: int) -> None:
        self.folder = folder
        self._standing = Standing.of(plan, committed)
        if not self._quiet:
            self._introduce(plan, folder, committed)
        self._display.begin(self._standing)

    def round_closed(self, record: "RoundRecord") -> None:
        self._standing.add(record)
        self._display.round_closed()

    def spent(self, record: "PrivacyRecord") -> None:
        self._standing.epsilon = record.epsilon

    def evaluated(self, record: "EvaluationRecord") -> None:
        self._standing.evaluation = record
        self._display.measured()

    def client_failed(self, client: str, failure: "Failure") -> None:
        from tacit.report.words import clean

        self._output.warn(
            f"client {clean(client, 80)} {failure.reason}; its traceback, shown once and sent nowhere:"
        )
        self._output.show_traceback(failure.traceback)

    def finished(self, info: "RunInfo") -> None:
        self._display.end()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.end()

    def _introduce(self, plan: "Plan", folder: str, committed: int) -> None:
        from tacit.report.words import amount, size

        cohort = plan.job.cohort.expected(plan.population)
        again = f", going on after round {committed}" if committed else ""
        up, down = size(plan.bytes_up_per_client), size(plan.bytes_down_per_client)
        population = amount(plan.population, "client")
        rows = [
            (plan.job.name, f"{amount(plan.job.rounds, 'round')}, {cohort:g} of {population} each{again}"),
            ("model", f"{amount(plan.parameters, 'parameter')}; {up} up, {down} down per client and round"),
            ("privacy", plan.privacy),
            ("executor", self._executor()),
            ("run folder", folder),
        ]
        self._output.say(facts(rows))

    def _executor(self) -> str:
        from tacit.report.words import executor

        if self._choice is None:
            return ""
        return f"{executor(self._choice.executor, self._choice.group)}: {self._choice.reason}"
