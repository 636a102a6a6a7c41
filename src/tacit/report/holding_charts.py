"""Who holds what: labels by client as a heat map, or the spread of the target as boxes."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tacit.report import words
from tacit.report.drawing import (
    BLUE,
    INK,
    PAPER,
    TEAL,
    WIDTH,
    Chart,
    Key,
    axes,
    plain_numbers,
    row_height,
    thin,
    to_svg,
    variable,
)
from tacit.report.participants import names
from tacit.store import Holding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS = 40  # clients shown
_NAMED = 24  # with more, rows have no names and are sorted by their commonest label
_COLUMNS = 20  # labels shown; the rarer ones are shown together
_WRITTEN = 120  # cells that have room for their number
_SHADES = 8

Matrix = npt.NDArray[np.float64]


def holdings(population: Holding, *, show_participants: bool) -> Chart | None:
    """Draw who holds what; None if nobody is described."""
    if not population.ids or not population.labels:
        return None
    chosen = list(thin(len(population.ids), _ROWS))
    counts = np.array(
        [[np.nan if value is None else value for value in population.counts[row]] for row in chosen]
    )
    labels = names([population.ids[row] for row in chosen], show_participants=show_participants)
    if population.kind == "labels":
        return _labels(population, counts.astype(np.float64), labels)
    return _quantiles(population, counts.astype(np.float64), labels)


def _shown(population: Holding, rows: int) -> str:
    if rows == population.clients:
        return f"all {words.amount(rows, 'client')}" if rows > 1 else "the one client"
    return f"{words.count(rows)} of {words.amount(population.clients, 'client')}"


# --- labels -------------------------------------------------------------------------------------


def _labels(population: Holding, counts: Matrix, clients: tuple[str, ...]) -> Chart:
    counts, columns = _merge_rare(np.nan_to_num(counts), population.labels)
    named = len(clients) <= _NAMED
    if not named:
        counts = counts[np.lexsort((-_shares(counts).max(axis=1), counts.argmax(axis=1)))]
    caption = (
        f"One row is one client ({_shown(population, len(clients))}), one column one label: "
        "the stronger a cell's colour, the larger the share of the client's examples"
        + (", whose number it says." if counts.size <= _WRITTEN else ".")
        + ("" if named else " Rows are sorted by their commonest label.")
    )
    figure = _heat_map(counts, columns, clients if named else ())
    return Chart(
        "Labels by client", caption, to_svg(figure, "holdings", _alternative(population, counts, columns))
    )


def _shares(counts: Matrix) -> Matrix:
    shares: Matrix = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _heat_map(counts: Matrix, columns: list[str], clients: tuple[str, ...]) -> "Figure":
    left = _left(clients)
    longest = max(map(len, columns))
    crowded = 7.5 * longest + 6 > (WIDTH - left - 12) / len(columns)
    pitch = row_height(len(counts)) if clients else 6.0
    bottom = 16 + 5.5 * longest if crowded else 42.0
    figure, area = axes(20 + bottom + pitch * len(counts), left=left, bottom=bottom)
    _cells(area, _shares(counts))
    if counts.size <= _WRITTEN:
        _write(area, counts, _shares(counts))
    _label_axes(area, columns, clients, crowded=crowded)
    area.set_ylim(len(counts) - 0.5, -0.5)
    return figure


def _left(clients: tuple[str, ...]) -> float:
    return min(160.0, 26 + 7.0 * max(map(len, clients))) if clients else 34.0


def _merge_rare(counts: Matrix, labels: tuple[str, ...]) -> tuple[Matrix, list[str]]:
    """Keep the commonest labels, in their own order; the others become one column."""
    spoken = [words.clean(label, 14) for label in labels]
    if len(labels) <= _COLUMNS:
        return counts, spoken
    common = np.sort(np.argsort(-counts.sum(axis=0), kind="stable")[: _COLUMNS - 1])
    rest = counts.sum(axis=1) - counts[:, common].sum(axis=1)
    return np.column_stack([counts[:, common], rest]), [*(spoken[column] for column in common), "other"]


def _cells(area: "Axes", shares: Matrix) -> None:
    """Paint the cells, those of one shade as one shape."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    shade = np.ceil(np.sqrt(shares) * _SHADES).astype(int)  # the root tells small shares from none
    for level in range(1, _SHADES + 1):
        rows, columns = np.nonzero(shade == level)
        if not len(rows):
            continue
        x, y = columns - 0.5, rows - 0.5
        corners = np.stack(
            [np.stack([x + dx, y + dy], axis=-1) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))], 1
        )
        path = Path.make_compound_path_from_polys(corners)
        area.add_patch(PathPatch(path, facecolor=BLUE, edgecolor=PAPER, linewidth=1, alpha=level / _SHADES))


def _write(area: "Axes", counts: Matrix, shares: Matrix) -> None:
    for (row, column), value in np.ndenumerate(counts):
        dark = np.sqrt(shares[row, column]) > 0.55
        if value:
            area.text(
                column,
                row,
                words.count(value),
                ha="center",
                va="center",
                fontsize=10.5,
                color=PAPER if dark else INK,
            )


def _label_axes(area: "Axes", columns: list[str], clients: tuple[str, ...], *, crowded: bool) -> None:
    area.set_xlim(-0.5, len(columns) - 0.5)
    area.grid(visible=False)
    if crowded:
        area.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    else:
        area.set_xticks(range(len(columns)), columns)
    area.set_yticks(range(len(clients)), clients)
    area.set_xlabel("" if crowded else "label")
    area.set_ylabel("" if clients else "clients")
    area.spines["bottom"].set_visible(False)


def _alternative(population: Holding, counts: Matrix, columns: list[str]) -> str:
    held = (counts > 0).sum(axis=1)
    totals = ", ".join(
        f"{label}: {words.count(total)}" for label, total in zip(columns, counts.sum(axis=0), strict=True)
    )
    return (
        f"Heat map of labels by client for {_shown(population, len(counts))}; a client holds {held.min()} to "
        f"{held.max()} of {len(columns)} labels. Examples of each label: {totals}."
    )


# --- quantiles ----------------------------------------------------------------------------------


def _quantiles(population: Holding, values: Matrix, clients: tuple[str, ...]) -> Chart:
    named = len(clients) <= _NAMED
    pitch = row_height(len(clients)) if named else 7.0
    figure, area = axes(60 + pitch * len(clients), left=_left(clients if named else ()))
    rows = np.flatnonzero((np.abs(values) < 1e100).all(axis=1))
    _boxes(area, values, rows)
    area.set_ylim(len(clients) - 0.4, -0.6)
    area.set_yticks(range(len(clients)) if named else [], clients if named else [])
    area.grid(visible=True, axis="x")
    area.grid(visible=False, axis="y")
    area.set_xlabel("target")
    plain_numbers(area, "x")
    span = (
        f"from {words.number(values[rows].min())} to {words.number(values[rows].max())}"
        if len(rows)
        else "no values"
    )
    svg = to_svg(figure, "holdings", f"Spread of the target on {_shown(population, len(clients))}: {span}.")
    caption = (
        f"One row is one client ({_shown(population, len(clients))}): the box holds the middle half of its "
        "targets, and the dot is the median. Of clients with few examples nothing is shown."
    )
    keys = (Key("middle half", variable(BLUE), "box"), Key("median", variable(TEAL), "dot"))
    return Chart("Targets by client", caption, svg, keys)


def _boxes(area: "Axes", values: Matrix, rows: npt.NDArray[np.intp]) -> None:
    inner = values[:, values.shape[1] // 4], values[:, -1 - values.shape[1] // 4]
    middle = values[:, values.shape[1] // 2]
    area.hlines(rows, values[rows, 0], values[rows, -1], color=BLUE, linewidth=1.4)
    area.barh(rows, (inner[1] - inner[0])[rows], left=inner[0][rows], height=0.6, color=BLUE, alpha=0.35)
    area.plot(middle[rows], rows, "o", color=TEAL, markersize=5)
