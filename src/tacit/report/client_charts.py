"""One value a client: bars with names for a few, thin bars for many, a histogram for a crowd."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tacit.core.metrics import higher_is_better
from tacit.report import words
from tacit.report.drawing import (
    BLUE,
    TEAL,
    VERMILION,
    Chart,
    Key,
    axes,
    plain_numbers,
    row_height,
    thin,
    to_svg,
    variable,
    whole_numbers,
)
from tacit.report.participants import names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 24  # with at most so many bars each has room for its name
_BARS = 120  # thinner ones cannot be told apart
_BINS = 30
_DOTS = 1000
_NAMED_DOTS = 8
_STRETCH = 30.0  # sizes that span more than this are drawn on a logarithmic scale


@dataclass(frozen=True)
class _Bars:
    """Values from the best (or largest) to the worst, and which of them stand out."""

    labels: tuple[str, ...]
    values: tuple[float, ...]
    marked: int
    colour: str
    axis: str

    @property
    def colours(self) -> list[str]:
        return [self.colour] * (len(self.values) - self.marked) + [VERMILION] * self.marked


@dataclass(frozen=True)
class _Dots:
    """Values from the best to the worst, and how much each client holds."""

    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    marked: int


def metric_by_client(metric: str, values: Mapping[str, float], *, show_participants: bool) -> Chart | None:
    """Draw a metric on each client at the last evaluation; None if it was not measured on any."""
    if not values:
        return None
    higher = higher_is_better(metric)
    order = sorted(values, key=lambda client: -values[client] if higher else values[client])
    name = words.metric(metric)
    bars = _Bars(
        labels=names(order, show_participants=show_participants),
        values=tuple(values[client] for client in order),
        marked=max(1, round(len(order) / 10)),
        colour=TEAL,
        axis=name,
    )
    keys = _keys(len(order), bars.marked)
    alternative = (
        f"{words.title(name)} on {words.amount(len(order), 'client')}: best {words.number(bars.values[0])}, "
        f"median {words.number(float(np.median(bars.values)))}, worst {words.number(bars.values[-1])}."
    )
    svg = to_svg(_draw(bars), "by-client", alternative)
    return Chart(f"{words.title(name)} on each client", _caption(len(order), "the worst tenth"), svg, keys)


def examples_by_client(ids: Sequence[str], sizes: Sequence[int], *, show_participants: bool) -> Chart | None:
    """Draw how many training examples each client holds; None if nobody is described."""
    if not ids:
        return None
    order = sorted(range(len(ids)), key=lambda position: -sizes[position])
    bars = _Bars(
        labels=names([ids[position] for position in order], show_participants=show_participants),
        values=tuple(float(sizes[position]) for position in order),
        marked=0,
        colour=BLUE,
        axis="training examples",
    )
    alternative = (
        f"Training examples of {words.amount(len(ids), 'client')}: from {words.count(bars.values[-1])} "
        f"to {words.count(bars.values[0])}, median {words.count(float(np.median(bars.values)))}."
    )
    return Chart(
        "Examples on each client", _caption(len(ids), None), to_svg(_draw(bars), "examples", alternative)
    )


def metric_by_size(
    metric: str, values: Mapping[str, float], held: Mapping[str, int], *, show_participants: bool
) -> Chart | None:
    """Draw a metric against how much each client holds; None for a few clients, or if all hold the same."""
    known = [client for client in values if held.get(client, 0) > 0]
    if len(known) < 3 or len({held[client] for client in known}) == 1:
        return None
    order = sorted(known, key=lambda client: values[client], reverse=higher_is_better(metric))
    chosen = [order[position] for position in thin(len(order), _DOTS)]
    dots = _Dots(
        labels=names(chosen, show_participants=show_participants) if len(chosen) <= _NAMED_DOTS else (),
        sizes=tuple(held[client] for client in chosen),
        values=tuple(values[client] for client in chosen),
        marked=max(1, round(len(chosen) / 10)),
    )
    name = words.metric(metric)
    together = f"{words.title(name)} against training examples of {words.amount(len(known), 'client')}."
    caption = f"One dot is one client, further right the more it holds; its height is its {name}."
    svg = to_svg(_scatter(dots), "by-size", f"Scatter plot. {together}")
    return Chart(f"{words.title(name)} and examples held", caption, svg, _keys(len(chosen), dots.marked))


def _keys(clients: int, worst: int) -> tuple[Key, ...]:
    return (
        Key("clients", variable(TEAL), "box", words.count(clients - worst)),
        Key("worst tenth", variable(VERMILION), "box", words.count(worst)),
    )


def _caption(clients: int, marked: str | None) -> str:
    apart = f"; {marked} of them stands out" if marked else ""
    if clients <= _NAMED:
        return (
            f"One bar is one client, the best first{apart}."
            if marked
            else "One bar is one client, the largest first."
        )
    if clients <= _BARS:
        return f"One thin bar is one client, sorted{apart}."
    return f"A bar's height says how many clients have a value in that range{apart}."


def _draw(bars: _Bars) -> "Figure":
    if len(bars.values) <= _NAMED:
        return _named(bars)
    if len(bars.values) <= _BARS:
        figure, area = axes()
        _sorted(area, bars)
    else:
        figure, area = axes(left=62)
        _histogram(area, bars)
    return figure


def _named(bars: _Bars) -> "Figure":
    longest = max(len(label) for label in bars.labels)
    figure, area = axes(
        60 + row_height(len(bars.values)) * len(bars.values), left=min(160, 26 + 7.0 * longest), right=46
    )
    rows = range(len(bars.values))
    area.barh(rows, bars.values, height=0.68, color=bars.colours)
    area.set_yticks(rows, bars.labels)
    area.set_ylim(len(bars.values) - 0.4, -0.6)
    area.grid(visible=True, axis="x")
    area.grid(visible=False, axis="y")
    for row, value in enumerate(bars.values):
        area.annotate(
            words.number(value, 3), (max(value, 0), row), (5, -1), textcoords="offset points", va="center"
        )
    area.set_xlabel(bars.axis)
    plain_numbers(area, "x")
    return figure


def _sorted(area: "Axes", bars: _Bars) -> None:
    area.bar(range(1, len(bars.values) + 1), bars.values, width=0.8, color=bars.colours)
    area.margins(x=0.01)
    area.set_xlabel(f"clients, by {bars.axis}")
    whole_numbers(area)
    plain_numbers(area)


def _histogram(area: "Axes", bars: _Bars) -> None:
    parts = [bars.values[: len(bars.values) - bars.marked], bars.values[len(bars.values) - bars.marked :]]
    area.hist(parts, bins=_edges(bars.values), stacked=True, color=[bars.colour, VERMILION], rwidth=0.86)
    area.set_xlabel(bars.axis)
    area.set_ylabel("clients")
    plain_numbers(area, "x")
    plain_numbers(area, whole=True)


def _scatter(dots: _Dots) -> "Figure":
    figure, area = axes()
    colours = [TEAL] * (len(dots.values) - dots.marked) + [VERMILION] * dots.marked
    area.scatter(dots.sizes, dots.values, s=60 if dots.labels else 24, color=colours, alpha=0.8, linewidths=0)
    area.margins(0.06, 0.08)
    logarithmic = max(dots.sizes) > _STRETCH * min(dots.sizes)
    area.set_xscale("log" if logarithmic else "linear")
    area.set_xlabel("training examples, logarithmic" if logarithmic else "training examples")
    plain_numbers(area, "x", whole=True)
    plain_numbers(area)
    area.autoscale_view()
    bottom, top = area.get_ylim()
    area.set_ylim(bottom, min(top, 1.02) if max(dots.values) <= 1 else top)
    for label, size, value in zip(dots.labels, dots.sizes, dots.values, strict=False):
        _name_dot(area, label, size, value)
    return figure


def _name_dot(area: "Axes", label: str, size: float, value: float) -> None:
    """Write a name beside its dot, on the side that has room."""
    right = area.transAxes.inverted().transform(area.transData.transform((size, value)))[0] > 0.5
    offset, side = (-8, "right") if right else (8, "left")
    area.annotate(label, (size, value), (offset, -1), textcoords="offset points", ha=side, va="center")


def _edges(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # equal but for rounding: one bar in the middle
        low, high = low - 0.5, high + 0.5
    return [float(edge) for edge in np.linspace(low, high, _BINS + 1)]
