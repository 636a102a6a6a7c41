"""``tacit evaluate``: the final model of a run, measured again or on other data."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.options import AsJson, DataFolder, RunPath, checked_data
from tacit.cli.output import Output

if TYPE_CHECKING:
    from rich.table import Table

    from tacit.store import FinalMetrics

On = Annotated[
    Path | None,
    typer.Option(
        "--on", metavar="JOB", help="Measure on the population of this job file instead.", show_default=False
    ),
]
Clients = Annotated[
    int | None,
    typer.Option(
        "--clients",
        metavar="N",
        min=0,
        help="Measure on the held-out data of at most N clients; 0 on none. By default as the job says.",
        show_default=False,
    ),
]


def evaluate(
    run: RunPath, on: On = None, data: DataFolder = None, clients: Clients = None, as_json: AsJson = False
) -> None:
    """Measure the final model of a run again, or on other data.

    Without --on: on the test set and the clients it was trained with.

    [bold]Examples[/bold]

    tacit evaluate runs/digits-20250503-140211
    tacit evaluate runs/digits-20250503-140211 --clients 1000
    tacit evaluate runs/digits-20250503-140211 --on other.toml
    """
    from tacit.cli.origin import population_of, source_has_changed
    from tacit.job import load_job
    from tacit.sim import Result
    from tacit.sim.measuring import measure_again
    from tacit.sim.populations import open_population
    from tacit.sim.result import metrics_dict

    result, output, folder = Result(run), Output(as_json), checked_data(data)
    if source_has_changed(result):
        output.warn(f"{result.info.source} has changed since the run; model and data may be others now")
    population = (
        population_of(result, folder) if on is None else open_population(load_job(on).population, folder)
    )
    metrics = measure_again(result, population, clients)
    output.say(_table(metrics))
    known: dict[str, Any] = {"run": str(run), "on": None if on is None else str(on)}
    output.result({**known, "metrics": metrics_dict(metrics)})


def _table(metrics: "FinalMetrics") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("metric", "test set", "clients, mean", "spread", "worst tenth", "measured"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for cells in _cells(metrics):
        table.add_row(*cells)
    return table


def _cells(metrics: "FinalMetrics") -> Iterator[tuple[str, ...]]:
    from tacit.report.words import metric, number

    for name in dict.fromkeys([*metrics.central, *metrics.clients]):
        summary = metrics.clients.get(name)
        spread = (None, None, None) if summary is None else (summary.mean, summary.spread, summary.worst_10)
        measured = "" if summary is None else f"{summary.clients} clients"
        yield metric(name), *map(number, (metrics.central.get(name), *spread)), measured
