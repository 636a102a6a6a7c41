"""A metric against a swept setting, with its spread over seeds."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tacit.core.metrics import higher_is_better
from tacit.report import sweep_words, words
from tacit.report.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SKY,
    TEAL,
    VERMILION,
    WIDTH,
    Chart,
    Key,
    axes,
    plain_numbers,
    tick,
    to_svg,
    variable,
)
from tacit.report.sweep_curves import Curve, axis_of, curves, is_logarithmic, is_numeric
from tacit.store.sweep_folder import SweepPoint, SweepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = (BLUE, ORANGE, TEAL, SKY, INK, GREY)  # one a curve; more could not be told apart
_APART = 34.0  # pixels between the labels of two values
_STRETCH = 100.0  # a loss that spans more than this is drawn on a logarithmic scale
_LETTER = 6.6  # pixels


def metric_by_setting(record: SweepRecord, of: str = "") -> Chart | None:
    """Draw a sweep's metric against the setting that was varied; None if nothing was measured.

    A second setting gives a curve for each of its values. Where the setting was removed there is no place on
    the axis: that point is a horizontal line.

    Args:
        record: The sweep.
        of: Whose metric it is, if not the one that points are compared by: "in the worst tenth of clients".
    """
    drawn = curves(record)
    shown = drawn[: len(_COLOURS)]
    if not shown:
        return None
    key, metric = axis_of(record), f"{words.metric(record.metric)} {of}".rstrip()
    numeric = is_numeric(record, key)
    figure, area = axes(left=52)
    for curve, colour in zip(shown, _COLOURS, strict=False):
        _draw(area, curve, colour, numeric=numeric)
    for point, colour in _references(shown):
        _draw_reference(area, point, colour)
    _limit(area, record.metric, shown)
    (_number_axis if numeric else _word_axis)(area, record, key)
    area.set_xlabel(words.clean(key, 60))
    plain_numbers(area)
    keys = tuple(_keys(shown, metric, key, record))
    caption = _caption(record, len(drawn) - len(shown), references=any(True for _ in _references(shown)))
    svg = to_svg(figure, "sweep-of" if of else "sweep", _alternative(shown, metric, record))
    return Chart(f"{words.title(metric)} by {words.clean(key, 60)}", caption, svg, keys)


def none_label(record: SweepRecord, key: str, point: SweepPoint) -> str:
    """Say what a point is that lacks a setting: not private, where that is what it comes to."""
    if sweep_words.concerns_privacy(key) and not sweep_words.claims_privacy(point.privacy):
        return "not private"
    return f"without {sweep_words.short_names(record.over)[key]}"


def _draw(area: "Axes", curve: Curve, colour: str, *, numeric: bool) -> None:
    means = [point.mean for point in curve.points]
    lows, highs = [point.low for point in curve.points], [point.high for point in curve.points]
    line = "solid" if numeric else "none"
    area.plot(curve.at, means, color=colour, linestyle=line, marker="o", markersize=4.5, zorder=3)  # type: ignore[arg-type]
    if numeric and len(curve.at) > 1:
        area.fill_between(curve.at, lows, highs, color=colour, alpha=0.16, linewidth=0)  # type: ignore[arg-type]
    else:
        area.vlines(curve.at, lows, highs, color=colour, alpha=0.35, linewidth=6)  # type: ignore[arg-type]


def _references(shown: Sequence[Curve]) -> Iterator[tuple[SweepPoint, str]]:
    """Yield the points drawn as horizontal lines; one that several curves share has no curve's colour."""
    of_curve = [(curve.reference, colour) for curve, colour in zip(shown, _COLOURS, strict=False)]
    names = [point.name for point, _ in of_curve if point is not None]
    seen: set[str] = set()
    for point, colour in of_curve:
        if point is not None and point.name not in seen:
            seen.add(point.name)
            is_own = len(shown) > 1 and names.count(point.name) == 1
            yield point, colour if is_own else VERMILION


def _draw_reference(area: "Axes", point: SweepPoint, colour: str) -> None:
    assert point.mean is not None
    assert point.low is not None
    assert point.high is not None
    area.axhline(point.mean, color=colour, linestyle="dashed", linewidth=1.6)
    area.axhspan(point.low, point.high, color=colour, alpha=0.1, linewidth=0)


def _limit(area: "Axes", metric: str, shown: Sequence[Curve]) -> None:
    """Keep the axis within what the metric can be."""
    known = [p for curve in shown for p in (*curve.points, curve.reference) if p is not None]
    low = min(point.low for point in known if point.low is not None)
    high = max(point.high for point in known if point.high is not None)
    if not higher_is_better(metric) and low > 0 and high > _STRETCH * low:
        area.set_yscale("log")
        area.set_ylim(low / 1.3, high * 1.3)
        return
    bottom, top = area.get_ylim()
    if low >= 0:
        area.set_ylim(bottom=max(bottom, -0.01 if high <= 1 else 0.0))
    if low >= 0 and high <= 1 and higher_is_better(metric):
        area.set_ylim(top=min(top, 1.01))


def _number_axis(area: "Axes", record: SweepRecord, key: str) -> None:
    """Label the axis with the values that were tried, so far as their labels have room."""
    from matplotlib.ticker import NullFormatter, NullLocator

    values = sorted({float(value) for value in record.over[key] if value is not None})
    if is_logarithmic(values):
        area.set_xscale("log")
    area.margins(x=0.04)
    area.get_xlim()  # settles the limits, which the places below depend on
    places = area.transData.transform([(value, 0.0) for value in values])[:, 0]
    kept: list[int] = []
    for position, place in enumerate(places):
        if not kept or place - places[kept[-1]] >= _APART:
            kept.append(position)
    area.set_xticks([values[position] for position in kept], [tick(values[position]) for position in kept])
    area.xaxis.set_minor_locator(NullLocator())
    area.xaxis.set_minor_formatter(NullFormatter())


def _word_axis(area: "Axes", record: SweepRecord, key: str) -> None:
    values = record.over[key]
    room = max(3, int(WIDTH * 0.8 / len(values) / _LETTER))
    area.set_xlim(-0.5, len(values) - 0.5)
    area.set_xticks(range(len(values)), [words.clean(sweep_words.value(value), room) for value in values])


def _keys(shown: Sequence[Curve], metric: str, key: str, record: SweepRecord) -> Iterator[Key]:
    for curve, colour in zip(shown, _COLOURS, strict=False):
        if curve.points:
            yield Key(curve.label or f"mean {metric}", variable(colour), "line")
    if any(curve.points for curve in shown):
        yield Key("lowest to highest seed", variable(_COLOURS[0] if len(shown) == 1 else GREY), "area")
    for point, colour in _references(shown):
        own = next((curve.label for curve in shown if curve.reference is point), "")
        said = none_label(record, key, point)
        label = f"{own}, {said}" if own and colour != VERMILION else said
        yield Key(label, variable(colour), "dashed", words.number(point.mean))


def _caption(record: SweepRecord, left_out: int, *, references: bool) -> str:
    better = "Higher is better" if record.higher_is_better else "Lower is better"
    seeds = words.amount(len(record.seeds), "seed")
    parts = [f"{better}; a dot is the mean over {seeds}, the band goes from the lowest to the highest."]
    if references:
        parts.append("A dashed line is a point without the setting.")
    if left_out:
        parts.append(
            f"{words.amount(left_out, 'more curve')} would not be told apart; the table has all points."
        )
    return " ".join(parts)


def _alternative(shown: Sequence[Curve], metric: str, record: SweepRecord) -> str:
    told = []
    key = axis_of(record)
    for curve in shown:
        values = [
            f"{words.number(point.mean)} at {sweep_words.value(point.settings[key])}"
            for point in curve.points
        ]
        if curve.reference is not None:
            values.append(f"{words.number(curve.reference.mean)} {none_label(record, key, curve.reference)}")
        told.append(f"{curve.label}: {', '.join(values)}" if curve.label else ", ".join(values))
    scale = " on a logarithmic axis" if is_numeric(record, key) and _spans_decades(record, key) else ""
    return f"Line chart of {metric} by {words.clean(key, 60)}{scale}: {'; '.join(told)}."


def _spans_decades(record: SweepRecord, key: str) -> bool:
    return is_logarithmic([float(value) for value in record.over[key] if value is not None])
