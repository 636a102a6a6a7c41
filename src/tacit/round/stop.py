"""When a run ends before its last round."""

import math
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from tacit.core.bounds import Count, NonNegative
from tacit.core.metrics import higher_is_better
from tacit.core.part import Part
from tacit.round.record import EvaluationRecord

On = Literal["central", "clients"]


@runtime_checkable
class StopRule(Protocol):
    """Looks at the evaluations so far and says why the run should end, if it should."""

    @property
    def metric(self) -> str:
        """Name of the metric it looks at."""
        ...

    def stop(self, history: Sequence[EvaluationRecord]) -> str | None:
        """Return the reason to stop, or None to go on."""
        ...


class TargetMetric(Part, frozen=True, tag="target_metric"):
    """Stop as soon as a metric reaches a value (losses and errors: falls to it).

    Attributes:
        metric: Name of the metric, as the task has it, or ``"loss"``.
        value: The value to reach.
        on: Where it is measured: on the central test set, or as the mean over clients.
    """

    metric: str
    value: float
    on: On = "central"

    def stop(self, history: Sequence[EvaluationRecord]) -> str | None:
        value = history[-1].value(self.metric, self.on) if history else None
        if value is None:
            return None
        reached = value >= self.value if higher_is_better(self.metric) else value <= self.value
        return f"{self.metric} reached {value:.4g}" if reached else None


class Patience(Part, frozen=True, tag="patience"):
    """Stop when a metric has not improved by more than ``least_gain`` for ``rounds`` rounds.

    Attributes:
        metric: Name of the metric, as the task has it, or ``"loss"``.
        rounds: How many rounds without improvement are borne.
        least_gain: By how much a value must be better to count as an improvement.
        on: Where it is measured: on the central test set, or as the mean over clients.
    """

    metric: str = "loss"
    rounds: Count = 10
    least_gain: NonNegative = 0.0
    on: On = "central"

    def stop(self, history: Sequence[EvaluationRecord]) -> str | None:
        sign = 1.0 if higher_is_better(self.metric) else -1.0
        best, best_round = None, 0
        for record in history:
            value = record.value(self.metric, self.on)
            if value is None or math.isnan(value):
                continue
            if best is None or sign * (value - best) > self.least_gain:
                best, best_round = value, record.round
        if best is None or history[-1].round - best_round < self.rounds:
            return None
        return f"{self.metric} has not improved since round {best_round}"
