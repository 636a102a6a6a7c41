"""The report of a sweep: one HTML file that needs nothing else."""

import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.report import sweep_table, sweep_words, words
from tacit.report.drawing import drawing
from tacit.report.sweep_chart import metric_by_setting
from tacit.report.sweep_summary import of_worst_tenth
from tacit.store.sweep_folder import SweepFolder, SweepGrid, SweepRecord

if TYPE_CHECKING:
    from jinja2 import Template

_OUTCOMES = {
    "completed": "Completed",
    "failed": "Some runs failed",
    "interrupted": "Interrupted",
    "running": "Still running",
}


def write_sweep_report(folder: SweepFolder) -> Path:
    """Render the report, write it into the sweep folder and return its path.

    Raises:
        StoreError: The folder holds no sweep, is damaged, or cannot be written to.
    """
    return folder.write_report(render_sweep_html(folder.grid(), folder.record()))


def render_sweep_html(grid: SweepGrid, record: SweepRecord) -> str:
    """Render the report of a sweep, finished or not; equal records give equal reports."""
    with drawing():
        drawn = (
            metric_by_setting(record),
            metric_by_setting(of_worst_tenth(record), of="in the worst tenth of clients"),
        )
    charts = [chart for chart in drawn if chart is not None]
    return _template().render(record=record, charts=charts, **_texts(grid, record))


def sweep_verdict(record: SweepRecord) -> str:
    """Return one line that says how a sweep went."""
    runs = [run for point in record.points for run in point.runs]
    complete = sum(run.outcome == "completed" for run in runs)
    said = f"{words.count(complete)} of {words.amount(len(runs), 'run')} complete"
    best = next((point for point in record.points if point.name == record.best), None)
    if best is None:
        return said
    values = sum(run.value is not None for run in best.runs)
    over = f" over {words.amount(values, 'seed')}" if values > 1 else ""
    value = f"best {words.metric(record.metric)}: {words.number(best.mean)}{over}"
    return f"{said}; {value} with {words.clean(best.name)}"


def _texts(grid: SweepGrid, record: SweepRecord) -> dict[str, Any]:
    return {
        "name": words.clean(record.name, 120),
        "outcome": _OUTCOMES[record.outcome],
        "verdict": sweep_verdict(record),
        "tuning": words.title(record.note.removeprefix(sweep_words.HEADING).lstrip(": ")),
        "points": sweep_table.points(record),
        "failures": sweep_table.failures(record),
        "grid": _facts(grid, record),
        "folders": sorted({run.folder.partition("/")[0] for point in record.points for run in point.runs}),
        "command": _command(grid),
    }


def _facts(grid: SweepGrid, record: SweepRecord) -> list[tuple[str, str]]:
    facts = [
        *((key, ", ".join(map(sweep_words.value, values))) for key, values in record.over.items()),
        ("Seeds of each point", ", ".join(map(str, record.seeds))),
        ("Job file", grid.source or ""),
        ("Changed on the command line", ", ".join(grid.overrides)),
    ]
    return [(words.clean(name), words.clean(value)) for name, value in facts if value]


def _command(grid: SweepGrid) -> str:
    """Return the command that repeats the sweep; empty if the job was not read from a file."""
    if grid.source is None:
        return ""
    changes = [part for text in grid.overrides for part in ("--set", text)]
    over = [part for key, values in grid.over.items() for part in ("--over", f"{key}={','.join(values)}")]
    seeds = ",".join(map(str, grid.seeds)) + ("," if len(grid.seeds) == 1 else "")
    return words.clean(shlex.join(["tacit", "sweep", grid.source, *changes, *over, "--seeds", seeds]), 2000)


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Names, reasons and settings are other people's text: everything is escaped but our own figure.
    environment = Environment(
        loader=PackageLoader("tacit.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("sweep.html.j2")
