"""The points of a sweep as rows: on a terminal and in the report."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tacit.report import sweep_words, words
from tacit.report.tables import Table
from tacit.store.sweep_folder import SweepPoint, SweepRecord

if TYPE_CHECKING:
    from rich.console import RenderableType

_REASONS = 30  # failed runs listed


def sweep_table(record: SweepRecord) -> "RenderableType":
    """Return the points of a sweep, ready for ``rich``'s console; says what no guarantee covers."""
    from rich.console import Group
    from rich.table import Table as Drawn
    from rich.text import Text

    rows = points(record)
    drawn = Drawn(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, name in enumerate(rows.head):
        drawn.add_column(name, justify="right" if position in rows.numeric else "left", overflow="fold")
    for point, row in zip(record.points, rows.rows, strict=True):
        # Text, not str: what others wrote is no markup.
        drawn.add_row(*map(Text, row), style="bold" if point.name == record.best else "")
    notes = [Text(rows.note, style="dim"), *([Text(record.note, style="yellow")] if record.note else [])]
    return Group(drawn, *notes)


def points(record: SweepRecord) -> Table:
    """Return one row a point: its settings, mean and spread of the metric, epsilon, complete runs."""
    spent = any(point.epsilon is not None for point in record.points)
    swept = tuple(words.clean(key, 60) for key in record.over)
    head = (*swept, f"{words.metric(record.metric)}, mean", "std", "lowest", "highest")
    head = (*head, *(("epsilon spent",) if spent else ()), "runs", "")
    rows = tuple(tuple(_cells(record, point, spent=spent)) for point in record.points)
    numeric = frozenset(range(len(swept), len(head)))
    return Table(f"{words.title(words.metric(record.metric))} by point", head, rows, numeric, _note(record))


def failures(record: SweepRecord) -> Table | None:
    """Return the runs that failed and why; None if none did."""
    failed = [(point.name, run) for point in record.points for run in point.runs if run.outcome == "failed"]
    if not failed:
        return None
    rows = tuple(
        (
            words.clean(name),
            str(run.seed),
            words.clean(f"{run.code}: {run.reason}" if run.code else run.reason),
        )
        for name, run in failed[:_REASONS]
    )
    more = f"The first {_REASONS} of {words.count(len(failed))}; sweep.json has them all."
    note = more if len(failed) > _REASONS else ""
    return Table("Runs that failed", ("Point", "Seed", "Reason"), rows, note=note)


def _cells(record: SweepRecord, point: SweepPoint, *, spent: bool) -> Iterator[str]:
    for key in record.over:
        yield sweep_words.value(point.settings[key]) if key in point.settings else words.MISSING
    yield words.number(point.mean)
    yield words.number(point.std, 2)
    yield words.number(point.low)
    yield words.number(point.high)
    if spent:
        yield words.number(point.epsilon)
    complete = sum(run.outcome == "completed" for run in point.runs)
    yield f"{complete}/{len(point.runs)}"
    yield "best" if point.name == record.best else ""


def _note(record: SweepRecord) -> str:
    where = {"central": " on the test set", "clients": ", mean over clients", None: ""}[record.measured]
    better = "higher is better" if record.higher_is_better else "lower is better"
    spread = "Std is the sample standard deviation over seeds; best is the best mean."
    return f"{words.title(words.metric(record.metric))}{where}, {better}. {spread}"
