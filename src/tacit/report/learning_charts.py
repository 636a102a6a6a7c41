"""How the model became better: a metric by round, on the test set and over clients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tacit.core.metrics import higher_is_better
from tacit.report import words
from tacit.report.drawing import (
    BLUE,
    GREY,
    TEAL,
    VERMILION,
    Chart,
    Key,
    axes,
    plain_numbers,
    thin,
    to_svg,
    variable,
    whole_numbers,
)
from tacit.report.run_data import LOSS, RunData, is_drawable
from tacit.round import EvaluationRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 500  # of a line; more cannot be told apart
_MARKED = 20  # with fewer points each gets a dot
_STRETCH = 100.0  # a loss that spans more than this is drawn on a logarithmic scale


@dataclass(frozen=True)
class Line:
    """Finite values by round.

    Attributes:
        label: What was measured.
        colour: Of the line.
        style: Solid, dashed or dotted.
        rounds: Where it was measured.
        values: What came out.
        spread: Half the height of the band around it, or empty.
    """

    label: str
    colour: str
    style: str
    rounds: tuple[int, ...]
    values: tuple[float, ...]
    spread: tuple[float, ...] = ()


def metric_by_round(data: RunData, metric: str) -> Chart | None:
    """Draw a metric by round; None if it has no finite value."""
    lines = [line for line in _lines(data, metric) if line.values]
    if not lines:
        return None
    figure, area = axes()
    for line in lines:
        _draw(area, line)
    _scale(area, metric, lines)
    area.set_xlabel("round")
    whole_numbers(area)
    plain_numbers(area)
    name = words.metric(metric)
    svg = to_svg(figure, f"by-round-{list(data.metrics).index(metric)}", _alternative(name, lines))
    return Chart(f"{words.title(name)} by round", _caption(metric, lines), svg, _keys(lines))


def _lines(data: RunData, metric: str) -> list[Line]:
    records = data.evaluations
    mean = _line("mean over clients", TEAL, "solid", records, lambda record: record.value(metric, "clients"))
    lines = [
        _line("test set", BLUE, "solid", records, lambda record: record.value(metric, "central")),
        _with_spread(mean, records, metric),
        _line("worst tenth of clients", VERMILION, "dashed", records, lambda record: _worst(record, metric)),
    ]
    return [*lines, _training(data)] if metric == LOSS else lines


def _worst(record: EvaluationRecord, metric: str) -> float | None:
    return record.clients[metric].worst_10 if metric in record.clients else None


def _line(
    label: str,
    colour: str,
    style: str,
    records: Sequence[EvaluationRecord],
    value: Callable[[EvaluationRecord], float | None],
) -> Line:
    points = [(record.round, value(record)) for record in records]
    return _finite(label, colour, style, points)


def _finite(label: str, colour: str, style: str, points: Sequence[tuple[int, float | None]]) -> Line:
    kept = [(number, value) for number, value in points if is_drawable(value)]
    shown = [kept[position] for position in thin(len(kept), _POINTS)]
    return Line(
        label, colour, style, tuple(number for number, _ in shown), tuple(value for _, value in shown)
    )


def _with_spread(mean: Line, records: Sequence[EvaluationRecord], metric: str) -> Line:
    spread = {record.round: record.clients[metric].spread for record in records if metric in record.clients}
    return Line(
        mean.label,
        mean.colour,
        mean.style,
        mean.rounds,
        mean.values,
        tuple(spread[number] for number in mean.rounds),
    )


def _training(data: RunData) -> Line:
    points = [(record.round, record.train_loss) for record in data.rounds if record.outcome == "committed"]
    return _finite("while training", GREY, "dotted", points)


def _draw(area: "Axes", line: Line) -> None:
    marker = "o" if len(line.values) <= _MARKED and line.style != "dotted" else ""
    area.plot(line.rounds, line.values, color=line.colour, linestyle=line.style, marker=marker, markersize=4)
    if not line.spread:
        return
    low = [value - spread for value, spread in zip(line.values, line.spread, strict=True)]
    high = [value + spread for value, spread in zip(line.values, line.spread, strict=True)]
    if len(line.values) == 1:
        area.vlines(line.rounds, low, high, color=line.colour, alpha=0.35, linewidth=6)
    else:
        area.fill_between(line.rounds, low, high, color=line.colour, alpha=0.16, linewidth=0)


def _scale(area: "Axes", metric: str, lines: Sequence[Line]) -> None:
    measured = [value for line in lines if line.style != "dotted" for value in line.values]
    values = measured or [value for line in lines for value in line.values]
    low, high = min(values), max(values)
    if not higher_is_better(metric) and low > 0 and high > _STRETCH * low:
        area.set_yscale("log")
        area.set_ylim(low / 1.3, high * 1.3)
    elif low >= 0 and high <= 1 and higher_is_better(metric):
        bottom, top = area.get_ylim()  # a band may leave the range that the metric can have
        area.set_ylim(max(bottom, -0.01), min(top, 1.01))
    elif low >= 0:
        area.set_ylim(bottom=max(area.get_ylim()[0], 0.0))


def _keys(lines: Sequence[Line]) -> tuple[Key, ...]:
    keys = []
    for line in lines:
        shape = {"solid": "line", "dashed": "dashed", "dotted": "dotted"}[line.style]
        keys.append(Key(line.label, variable(line.colour), shape, words.number(line.values[-1])))  # type: ignore[arg-type]
        if line.spread:
            keys.append(Key("spread", variable(line.colour), "area", f"± {words.number(line.spread[-1], 2)}"))
    return tuple(keys)


def _caption(metric: str, lines: Sequence[Line]) -> str:
    better = "Higher is better" if higher_is_better(metric) else "Lower is better"
    if any(line.spread for line in lines):
        return (
            f"{better}; the band is one standard deviation over clients to either side of their mean, "
            "and the numbers are the last ones."
        )
    return f"{better}; the numbers are the last ones."


def _alternative(name: str, lines: Sequence[Line]) -> str:
    told = [
        f"{line.label} from {words.number(line.values[0])} in round {line.rounds[0]} "
        f"to {words.number(line.values[-1])} in round {line.rounds[-1]}"
        for line in lines
    ]
    return f"Line chart of {name} by round: {'; '.join(told)}."
