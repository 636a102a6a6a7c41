"""A run in a few lines of a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tacit.report import words
from tacit.report.disclosure import Disclosure
from tacit.report.run_data import Traffic, ordered
from tacit.report.tables import metric_cells
from tacit.round import RoundRecord
from tacit.store import FinalMetrics, RunInfo

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_STYLES = {
    "completed": "bold green",
    "exhausted": "bold yellow",
    "failed": "bold red",
    "interrupted": "bold yellow",
    "running": "bold blue",
}


def summary_table(
    info: RunInfo, *, rounds: Sequence[RoundRecord] = (), report: Path | None = None
) -> "RenderableType":
    """Return what became of a run, ready for ``rich``'s console.

    Args:
        info: The run.
        rounds: Its rounds' records, to add up the bytes. Without them, or where the sum would tell how many
            took part in secret, only those of one client are shown.
        report: Where the report is, to say so at the end.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(info, rounds):
        # Text, not str: what others wrote is no markup.
        facts.add_row(name, Text(value))
    if report is not None:
        facts.add_row("report", Text(str(report)))
    head = Text.assemble((words.clean(info.name), "bold"), "  ", (info.outcome, _STYLES[info.outcome]))
    metrics = _metrics(info.metrics)
    return Group(head, facts, *([metrics] if metrics is not None else []))


def _facts(info: RunInfo, rounds: Sequence[RoundRecord]) -> Iterator[tuple[str, str]]:
    if info.reason:
        yield "because", words.clean(info.reason)
    abandoned = info.attempts - info.rounds
    yield (
        "rounds",
        words.count(info.rounds) + (f" ({words.count(abandoned)} more abandoned)" if abandoned > 0 else ""),
    )
    pace = (
        f" ({words.duration(info.seconds_per_round)} a round)" if info.seconds_per_round is not None else ""
    )
    yield "time", words.duration(info.seconds) + pace
    yield "bytes", _traffic(info, rounds)
    if info.population is not None:
        held = words.amount(info.population.examples, "example")
        yield "clients", f"{words.count(info.population.clients)} with {held}"
    if info.parameters:
        yield "parameters", words.count(info.parameters)
    yield "seed", str(info.seed)
    yield "privacy", words.clean(info.privacy) or "no guarantee was recorded"
    if info.guarantee is not None:
        yield "", words.clean(info.guarantee.relation)


def _traffic(info: RunInfo, rounds: Sequence[RoundRecord]) -> str:
    up, down = words.size(info.bytes_up_per_client), words.size(info.bytes_down_per_client)
    one = f"{up} up and {down} down a client and round"
    if not rounds or not Disclosure.of(info).participation:
        return one
    total = Traffic.of(info, rounds)
    return f"{words.size(total.up)} up, {words.size(total.down)} down; {one}"


def _metrics(metrics: FinalMetrics) -> "Table | None":
    from rich.table import Table

    names = ordered([*metrics.central, *metrics.clients])
    if not names:
        return None
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("metric")
    for column in ("test set", "mean", "spread", "worst tenth", "clients"):
        table.add_column(column, justify="right")
    for name in names:
        table.add_row(words.metric(name), *metric_cells(metrics, name))
    return table
