"""Metrics by name, and how a set of them is measured over batches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import ConfigError
from tacit.core.part import Reference, References
from tacit.training.losses import IGNORED, class_rows, named

Values = Callable[[Tensor, Tensor], Tensor]


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Tell for each target whether the most probable class is right; one logit means class 1 if positive."""
    if outputs.shape == targets.shape or outputs.shape == (*targets.shape, 1):
        return ((outputs.reshape(targets.shape) > 0) == (targets > 0.5)).float()
    return _in_top(1)(outputs, targets)


def _in_top(k: int) -> Values:
    def values(outputs: Tensor, targets: Tensor) -> Tensor:
        logits, labels = class_rows(outputs, targets)
        if logits.ndim > 2:  # torch's (N, classes, ...): move the classes last
            logits = logits.movedim(1, -1).reshape(-1, logits.shape[1])
            labels = labels.reshape(-1)
        kept = labels != IGNORED
        top = logits[kept].topk(min(k, logits.shape[-1]), dim=-1).indices
        return (top == labels[kept, None]).any(dim=-1).float()

    return values


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets.to(outputs.dtype).view_as(outputs)).square()


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets.to(outputs.dtype).view_as(outputs)).abs()


MEANS: dict[str, Values] = {
    "accuracy": correct,
    "top3_accuracy": _in_top(3),
    "top5_accuracy": _in_top(5),
    "mse": _squared,
    "mae": _absolute,
}
"""Metrics that are means of one value per target."""


def auc(scores: Tensor, targets: Tensor) -> float:
    """Area under the ROC curve; NaN where only one class is present."""
    from sklearn.metrics import roc_auc_score

    return _ranked(roc_auc_score, scores, targets)


def average_precision(scores: Tensor, targets: Tensor) -> float:
    """Area under the precision-recall curve; NaN where only one class is present."""
    from sklearn.metrics import average_precision_score

    return _ranked(average_precision_score, scores, targets)


def _ranked(measure: Callable[..., Any], scores: Tensor, targets: Tensor) -> float:
    labels = (targets.reshape(-1) > 0.5).numpy()
    if labels.all() or not labels.any() or not bool(torch.isfinite(scores).all()):
        return float("nan")
    return float(measure(labels, scores.reshape(-1).numpy()))


RANKED: dict[str, Callable[[Tensor, Tensor], float]] = {"auc": auc, "average_precision": average_precision}
"""Metrics that need the scores of all examples together; for two classes."""


def binary_scores(outputs: Tensor) -> Tensor:
    """Return one score per example from one logit or from two."""
    if outputs.ndim == 2 and outputs.shape[1] == 2:
        return outputs[:, 1] - outputs[:, 0]
    return outputs.reshape(-1)


def metric_name(reference: Reference) -> str:
    """Return the name under which a metric is recorded."""
    return (
        reference.partition(":")[2] or reference
        if isinstance(reference, str)
        else getattr(reference, "__name__", "metric")
    )


class Meter:
    """Collects a loss and metrics over batches of one evaluation."""

    def __init__(self, metrics: References) -> None:
        known = {**MEANS, **RANKED}
        names = ["loss", *map(metric_name, metrics)]
        if len(set(names)) != len(names):
            raise ConfigError(
                "T104",
                f"the names of loss and metrics must differ: {', '.join(names)}",
                where="$.task.metrics",
                fix="Name a metric once, and give functions names of their own.",
            )
        self._metrics = {metric_name(reference): named(reference, known, "metrics") for reference in metrics}
        means = [name for name in names if self._metrics.get(name) not in RANKED.values()]
        self._sums: dict[str, float] = dict.fromkeys(means, 0.0)
        self._counts: dict[str, int] = dict.fromkeys(means, 0)
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor, loss: float) -> None:
        """Add one batch."""
        counted = int((targets != IGNORED).sum()) if not targets.is_floating_point() else len(targets)
        self._add("loss", loss * counted if counted else 0.0, counted)
        for name, metric in self._metrics.items():
            if metric in MEANS.values():
                values = metric(outputs, targets)
                self._add(name, float(values.sum()), values.numel())
            elif metric not in RANKED.values():
                self._add(name, float(metric(outputs, targets)) * len(targets), len(targets))
        if any(metric in RANKED.values() for metric in self._metrics.values()):
            self._scores.append(binary_scores(outputs))
            self._targets.append(targets)

    def _add(self, name: str, total: float, count: int) -> None:
        self._sums[name] += total
        self._counts[name] += count

    def result(self) -> dict[str, float]:
        """Return every metric's value, the loss first; NaN where nothing was counted."""
        values = {
            name: total / self._counts[name] if self._counts[name] else float("nan")
            for name, total in self._sums.items()
        }
        for name, metric in self._metrics.items():
            if metric in RANKED.values():
                values[name] = (
                    metric(torch.cat(self._scores), torch.cat(self._targets))
                    if self._scores
                    else float("nan")
                )
        return {name: values[name] for name in ("loss", *self._metrics)}
