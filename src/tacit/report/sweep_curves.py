"""The points of a sweep as curves: one setting along the axis, a curve for each value of the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from tacit.report import sweep_words
from tacit.store.sweep_folder import SweepPoint, SweepRecord


@dataclass(frozen=True)
class Curve:
    """The measured points that share all swept settings but the one along the axis.

    Attributes:
        label: The settings that they share; empty if only one setting is swept.
        at: The setting's values, ascending; positions in the order of the grid if they are no numbers.
        points: The points there.
        reference: The point without the setting, if there is one and the values are numbers.
    """

    label: str
    at: tuple[float, ...]
    points: tuple[SweepPoint, ...]
    reference: SweepPoint | None = None


def axis_of(record: SweepRecord) -> str:
    """Return the setting along the axis: the first whose values are numbers, else the first."""
    return next((key for key in record.over if is_numeric(record, key)), next(iter(record.over)))


def is_numeric(record: SweepRecord, key: str) -> bool:
    """Tell whether the values of a setting are numbers, those apart that remove it."""
    values = [value for value in record.over[key] if value is not None]
    return bool(values) and all(map(is_number, values))


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_logarithmic(values: Sequence[float]) -> bool:
    """Tell whether values want a logarithmic axis: they are positive and span more than a decade.

    >>> is_logarithmic([0.5, 1, 2, 4, 8]), is_logarithmic([10, 100]), is_logarithmic([0, 100])
    (True, False, False)
    """
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def curves(record: SweepRecord) -> list[Curve]:
    """Return the curves of a sweep that have a measured point, in the order of the grid."""
    key, names = axis_of(record), sweep_words.short_names(record.over)
    measured = [point for point in record.points if point.mean is not None]
    groups: dict[str, Mapping[str, Any]] = {}
    for point in record.points:
        others = {name: value for name, value in point.settings.items() if name != key}
        if len(others) == len(record.over) - 1:  # else a block is removed, and the point stands for several
            groups.setdefault(sweep_words.point(others, names), others)
    found = [_curve(record, key, label, others, measured) for label, others in groups.items()]
    return [curve for curve in found if curve.points or curve.reference]


def _curve(
    record: SweepRecord, key: str, label: str, others: Mapping[str, Any], measured: Sequence[SweepPoint]
) -> Curve:
    own = [point for point in measured if _fits(point, others)]
    if not is_numeric(record, key):
        places = [_place(record.over[key], point.settings[key]) for point in own if key in point.settings]
        return Curve(label, tuple(places), tuple(point for point in own if key in point.settings))
    placed = sorted(
        (point for point in own if is_number(point.settings.get(key))), key=lambda p: p.settings[key]
    )
    reference = next((point for point in own if point.settings.get(key) is None), None)
    return Curve(label, tuple(float(point.settings[key]) for point in placed), tuple(placed), reference)


def _fits(point: SweepPoint, others: Mapping[str, Any]) -> bool:
    """Tell whether a point has these settings; one that does not apply to it fits any value."""
    return all(point.settings[key] == value for key, value in others.items() if key in point.settings)


def _place(values: Sequence[Any], value: Any) -> float:
    return float(next(place for place, other in enumerate(values) if other == value))
