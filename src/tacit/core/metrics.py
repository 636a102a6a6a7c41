"""Metrics as weighted values, and what a set of clients says together."""

from collections.abc import Mapping

import numpy as np

from tacit.core.part import Settings


class ClientSummary(Settings, frozen=True):
    """How a metric is spread over clients.

    Attributes:
        mean: Unweighted mean over clients.
        worst_10: Mean over the worst tenth of the clients (at least one).
        spread: Standard deviation over clients.
        clients: How many clients were measured.
    """

    mean: float
    worst_10: float
    spread: float
    clients: int


def summarise(values: Mapping[str, float], *, higher_is_better: bool) -> ClientSummary | None:
    """Summarise one metric over clients (by id); None if there is nothing finite to summarise.

    >>> summarise({"a": 0.5, "b": 0.9, "c": 1.0}, higher_is_better=True).worst_10
    0.5
    """
    finite = np.array([value for value in values.values() if np.isfinite(value)], dtype=np.float64)
    if not finite.size:
        return None
    ordered = np.sort(finite) if higher_is_better else np.sort(finite)[::-1]
    worst = ordered[: max(1, round(len(ordered) / 10))]
    return ClientSummary(
        mean=float(finite.mean()),
        worst_10=float(worst.mean()),
        spread=float(finite.std()),
        clients=len(finite),
    )


def weighted_mean(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted mean of ``values`` (same keys); NaN where the weights sum to zero."""
    total = sum(weights[key] for key in values)
    weighted = sum(values[key] * weights[key] for key in values)
    return weighted / total if total else float("nan")


def higher_is_better(metric: str) -> bool:
    """Tell whether larger is better: so for all metrics but losses and errors."""
    lower_is_better = (
        *("loss", "error", "mse", "mae", "perplexity"),
        *("nll", "likelihood", "brier", "deviance", "hinge", "entropy", "distance"),
    )
    return not any(word in metric.lower() for word in lower_is_better)
