"""What the runs of a sweep say together: mean, spread and best."""

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from tacit.report.sweep_words import TUNING, claims_privacy, concerns_privacy
from tacit.store.run_info import FinalMetrics
from tacit.store.sweep_folder import SweepOutcome, SweepPoint, SweepRecord, SweepRun

_Place = Literal["central", "clients", "worst_10"]


def summarised(record: SweepRecord) -> SweepRecord:
    """Return a sweep's record with everything that follows from its runs.

    The metric is that on the central test set where any complete run has it, otherwise the mean over clients:
    the same for all runs, so that points can be compared.
    """
    measured = _measured([run for point in record.points for run in point.runs], record.metric)
    points = tuple(_point(point, record.metric, measured) for point in record.points)
    private = any(map(concerns_privacy, record.over)) or any(
        claims_privacy(point.privacy) for point in points
    )
    return msgspec.structs.replace(
        record,
        points=points,
        measured=measured,
        best=_best(points, higher_is_better=record.higher_is_better),
        private=private,
        note=TUNING if private else "",
    )


def of_worst_tenth(record: SweepRecord) -> SweepRecord:
    """Return a sweep's record with the metric's mean over the worst tenth of clients in place of its values.

    What a sweep costs is not spread evenly: noise hurts those most whom the others do not resemble
    (Bagdasaryan et al. 2019).
    """
    points = tuple(_point(point, record.metric, "worst_10") for point in record.points)
    return msgspec.structs.replace(record, points=points)


def ended(record: SweepRecord) -> SweepOutcome:
    """Return what became of a sweep whose runs have had their turn."""
    outcomes = {run.outcome for point in record.points for run in point.runs}
    if outcomes & {"waiting", "interrupted"}:
        return "interrupted"
    return "failed" if "failed" in outcomes else "completed"


def _measured(runs: Sequence[SweepRun], metric: str) -> Literal["central", "clients"] | None:
    complete = [run.metrics for run in runs if run.outcome == "completed"]
    if any(metric in found.central for found in complete):
        return "central"
    return "clients" if any(metric in found.clients for found in complete) else None


def _value(found: FinalMetrics, metric: str, place: _Place | None) -> float | None:
    if place == "central":
        return found.central.get(metric)
    summary = None if place is None else found.clients.get(metric)
    if summary is None:
        return None
    return summary.worst_10 if place == "worst_10" else summary.mean


def _point(point: SweepPoint, metric: str, place: _Place | None) -> SweepPoint:
    runs = tuple(
        msgspec.structs.replace(
            run, value=_value(run.metrics, metric, place) if run.outcome == "completed" else None
        )
        for run in point.runs
    )
    values = [run.value for run in runs if run.value is not None]
    return msgspec.structs.replace(
        point,
        runs=runs,
        mean=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        low=min(values, default=None),
        high=max(values, default=None),
        epsilon=max((run.epsilon for run in runs if run.epsilon is not None), default=None),
    )


def _best(points: Sequence[SweepPoint], *, higher_is_better: bool) -> str | None:
    """Return the point with the best mean.

    Only those with the most values count, for one lucky seed proves little; and only those with a guarantee,
    where any has one: what is not private is what they are compared with, no choice beside them.
    """
    measured = [point for point in points if point.mean is not None]
    eligible = [point for point in measured if claims_privacy(point.privacy)] or measured
    known = [(sum(run.value is not None for run in point.runs), point) for point in eligible]
    most = max((count for count, _ in known), default=0)
    means = {point.name: point.mean for count, point in known if count == most and point.mean is not None}
    if not means:
        return None
    return (max if higher_is_better else min)(means, key=means.__getitem__)
