"""What a private run has spent, and how its clipping bound moved, round by round."""

from collections.abc import Sequence

from tacit.privacy.guarantee import rounded_up
from tacit.report import words
from tacit.report.drawing import (
    BLUE,
    TEAL,
    Chart,
    Key,
    axes,
    plain_numbers,
    thin,
    to_svg,
    variable,
    whole_numbers,
)
from tacit.report.run_data import RunData

_POINTS = 500  # of a line; more cannot be told apart


def epsilon_by_round(data: RunData) -> Chart | None:
    """Draw what was spent by round; None if nothing was promised."""
    points = [(one.round, one.epsilon) for one in data.spends if one.epsilon is not None]
    guarantee = data.info.guarantee
    if not points:
        return None
    delta = "" if guarantee is None else f" at delta {guarantee.delta:g}"
    caption = f"Epsilon{delta} of all that was released up to a round; between computed points rounded up."
    if len(points) > 1 and points[0][1] == points[-1][1]:
        caption += " The whole run was charged at its first step."
    alternative = (
        f"Line chart of epsilon by round: {rounded_up(points[0][1])} after round {points[0][0]}, "
        f"{rounded_up(points[-1][1])} after round {points[-1][0]}."
    )
    key = Key("epsilon", variable(BLUE), "line", rounded_up(points[-1][1]))
    return Chart("Epsilon by round", caption, _line(points, BLUE, "epsilon", alternative), (key,))


def clipping_bound(data: RunData) -> Chart | None:
    """Draw the clipping bound by round; None where it does not move."""
    points = [(one.round, one.clipping_bound) for one in data.spends if one.clipping_bound is not None]
    if len({bound for _, bound in points}) < 2:
        return None
    first, last = words.number(points[0][1]), words.number(points[-1][1])
    alternative = f"Line chart of the clipping bound by round: from {first} to {last}."
    caption = (
        "Longest update that is not scaled down. It follows a quantile of the clients' norms, by noisy bits "
        "that are part of what was spent."
    )
    key = Key("clipping bound", variable(TEAL), "line", last)
    return Chart(
        "Clipping bound by round", caption, _line(points, TEAL, "clipping-bound", alternative), (key,)
    )


def _line(points: Sequence[tuple[int, float]], colour: str, key: str, alternative: str) -> str:
    shown = [points[position] for position in thin(len(points), _POINTS)]
    figure, area = axes()
    marker = "o" if len(shown) == 1 else ""
    area.plot(*zip(*shown, strict=True), color=colour, marker=marker, markersize=4)
    area.set_ylim(0, max(value for _, value in shown) * 1.08)
    area.set_xlabel("round")
    whole_numbers(area)
    plain_numbers(area)
    return to_svg(figure, key, alternative)
