"""What became of the invited clients, round by round."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tacit.report import words
from tacit.report.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    Chart,
    Key,
    axes,
    plain_numbers,
    to_svg,
    variable,
    whole_numbers,
)
from tacit.round import RoundRecord

_BARS = 100  # beyond that a bar is the mean of several rounds
_KINDS = (
    ("answered", BLUE),
    ("answered in part", SKY),
    ("late", GREY),
    ("dropped", ORANGE),
    ("failed", VERMILION),
)


def tally(record: RoundRecord) -> tuple[int, ...]:
    """Return how many clients answered in full, answered in part, were late, dropped out, failed."""
    partial = len(record.partial_work)
    return (
        len(record.answered) - partial,
        partial,
        len(record.late),
        len(record.dropped),
        len(record.failed),
    )


def participation(rounds: Sequence[RoundRecord]) -> Chart | None:
    """Draw what became of the invited clients; None before the first round has closed."""
    if not rounds:
        return None
    width = -(-len(rounds) // _BARS)
    counts = np.array([tally(record) for record in rounds], dtype=np.float64)
    starts = list(range(0, len(rounds), width))
    heights = np.add.reduceat(counts, starts) / np.diff([*starts, len(rounds)])[:, None]
    middles = np.array(
        [np.mean([record.round for record in rounds[start : start + width]]) for start in starts]
    )
    abandoned = [
        middle
        for middle, start in zip(middles, starts, strict=True)
        if _mostly_abandoned(rounds[start : start + width])
    ]
    svg = _draw(middles, heights, abandoned, width, _alternative(rounds, counts))
    return Chart(
        "What became of the invited clients", _caption(width, bool(abandoned)), svg, _keys(counts, rounds)
    )


def _mostly_abandoned(rounds: Sequence[RoundRecord]) -> bool:
    return 2 * sum(record.outcome == "abandoned" for record in rounds) > len(rounds)


def _draw(
    middles: npt.NDArray[np.float64],
    heights: npt.NDArray[np.float64],
    abandoned: Sequence[float],
    width: int,
    alternative: str,
) -> str:
    figure, area = axes(left=58)
    below = np.zeros(len(middles))
    for (_, colour), height in zip(_KINDS, heights.T, strict=True):
        shown = height > 0
        area.bar(middles[shown], height[shown], 0.8 * width, bottom=below[shown], color=colour, linewidth=0)
        below += height
    top = max(float(below.max()), 1.0)
    if abandoned:
        area.plot(
            abandoned, [top * 1.07] * len(abandoned), "x", color=INK, markersize=5.5, markeredgewidth=1.6
        )
    area.set_ylim(0, top * (1.16 if abandoned else 1.04))
    area.margins(x=0.02)
    area.set_xlabel("round")
    area.set_ylabel("clients")
    whole_numbers(area, least_span=3)
    plain_numbers(area, whole=True)
    return to_svg(figure, "participation", alternative)


def _keys(counts: npt.NDArray[np.float64], rounds: Sequence[RoundRecord]) -> tuple[Key, ...]:
    keys = [
        Key(label, variable(colour), "box", words.count(total))
        for (label, colour), total in zip(_KINDS, counts.sum(axis=0), strict=True)
        if total
    ]
    abandoned = sum(record.outcome == "abandoned" for record in rounds)
    return (
        (*keys, Key("abandoned rounds", "ink", "cross", words.count(abandoned))) if abandoned else tuple(keys)
    )


def _caption(width: int, abandoned: bool) -> str:
    bar = "One bar is one round" if width == 1 else f"One bar is the mean of {width} rounds in a row"
    crossed = (
        "a round that was abandoned and does not count" if width == 1 else "rounds that mostly were abandoned"
    )
    marked = f" A cross marks {crossed}." if abandoned else ""
    return f"{bar}, its height the invited clients by what became of them; the numbers are totals.{marked}"


def _alternative(rounds: Sequence[RoundRecord], counts: npt.NDArray[np.float64]) -> str:
    told = ", ".join(
        f"{words.count(total)} {label}" for (label, _), total in zip(_KINDS, counts.sum(axis=0), strict=True)
    )
    abandoned = sum(record.outcome == "abandoned" for record in rounds)
    return (
        f"Stacked bars of the clients of {words.amount(len(rounds), 'round')}: {told}; "
        f"{words.amount(abandoned, 'round')} abandoned."
    )
