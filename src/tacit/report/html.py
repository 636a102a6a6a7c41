"""The report of a run: one HTML file that needs nothing else."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.privacy.guarantee import rounded_up
from tacit.report import (
    client_charts,
    holding_charts,
    learning_charts,
    privacy_charts,
    privacy_words,
    round_charts,
    tables,
    words,
)
from tacit.report.drawing import Chart, drawing
from tacit.report.run_data import RunData
from tacit.store import RunFolder, RunInfo

if TYPE_CHECKING:
    from jinja2 import Template

_METRICS = 6  # drawn by round; the table has them all
_OUTCOMES = {
    "completed": "Completed",
    "exhausted": "Budget exhausted",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "running": "Still running",
}


def write_report(folder: RunFolder) -> Path:
    """Render the report, write it into the run folder and return its path.

    Raises:
        StoreError: The folder holds no run, is damaged, or cannot be written to.
    """
    return folder.write_report(render_html(folder))


def render_html(folder: RunFolder) -> str:
    """Render the report of a run, finished or not; equal folders give equal reports.

    A promise of privacy decides what is in it: no names of clients and nothing that was computed from their
    data without noise; where the account relies on a secret sample, nothing about who took part or how many.

    Raises:
        StoreError: The folder holds no run, or is damaged.
    """
    read = RunData.read(folder)
    data = read.published()
    with drawing():
        figures = _Figures.of(data)
    return _template().render(data=data, info=data.info, figures=figures, **_texts(data))


@dataclass(frozen=True)
class _Figures:
    privacy: tuple[Chart, ...]
    learning: tuple[Chart, ...]
    clients: tuple[Chart, ...]
    holdings: tuple[Chart, ...]
    participation: Chart | None

    @classmethod
    def of(cls, data: RunData) -> "_Figures":
        learning = (learning_charts.metric_by_round(data, metric) for metric in data.metrics[:_METRICS])
        spent = (privacy_charts.epsilon_by_round(data), privacy_charts.clipping_bound(data))
        return cls(
            privacy=tuple(chart for chart in spent if chart is not None),
            learning=tuple(chart for chart in learning if chart is not None),
            clients=tuple(_on_clients(data)),
            holdings=tuple(_holdings(data)),
            participation=round_charts.participation(data.rounds) if data.shows.participation else None,
        )


def _on_clients(data: RunData) -> Iterator[Chart]:
    metric, show_participants = data.main_metric, data.shows.names
    if metric is None:
        return
    values, population = data.per_client(metric), data.info.population
    bars = client_charts.metric_by_client(metric, values, show_participants=show_participants)
    held = dict(zip(population.ids, population.sizes, strict=False)) if population is not None else {}
    dots = client_charts.metric_by_size(metric, values, held, show_participants=show_participants)
    yield from (chart for chart in (bars, dots) if chart is not None)


def _holdings(data: RunData) -> Iterator[Chart]:
    population, show_participants = data.info.population, data.shows.names
    if population is None:
        return
    spread = holding_charts.holdings(population, show_participants=show_participants)
    sizes = client_charts.examples_by_client(
        population.ids, population.sizes, show_participants=show_participants
    )
    yield from (chart for chart in (spread, sizes) if chart is not None)


def _texts(data: RunData) -> dict[str, Any]:
    settings, left_out = tables.settings(data)
    return {
        "outcome": _OUTCOMES[data.info.outcome],
        "reason": words.clean(data.info.reason),
        "name": words.clean(data.info.name, 120),
        "date": words.date(data.info.started) if data.info.started else "",
        "verdict": verdict(data),
        "banner": privacy_words.banner(data.info) or ("Not private", _lacking(data.info)),
        "promise": privacy_words.promise(data),
        "tiles": tables.tiles(data),
        "final": tables.final_metrics(data),
        "participation": tables.participation(data),
        "abandoned": tables.abandoned(data),
        "failures": tables.failed_clients(data),
        "traffic": tables.traffic(data),
        "settings": settings,
        "settings_left_out": left_out,
        "overrides": [words.clean(text) for text in data.info.overrides],
        "origins": tables.origins(data),
        "command": tables.command(data),
    }


def _lacking(info: RunInfo) -> str:
    """Say in plain words what the lack of a guarantee means."""
    claim = words.clean(info.privacy).strip().rstrip(".") or "no guarantee was recorded"
    spoken = re.sub(r"^not private:\s*", "", claim, flags=re.IGNORECASE)  # the heading says it already
    lacking = {
        "no secure aggregation": "Whoever runs the server can see every client's update.",
        "no differential privacy": "Nothing limits what the model reveals about the data it was trained on.",
    }
    return " ".join(
        [f"{words.title(spoken)}.", *(told for word, told in lacking.items() if word in claim.lower())]
    )


def verdict(data: RunData) -> str:
    """Return one line that says how the run went."""
    parts = [words.amount(data.committed, "round"), *_quality(data)]
    if len(parts) == 1:
        parts.append("nothing was measured" if data.shows.client_data else "nothing was measured in public")
    return ", ".join([*parts, *_spent(data.info)])


def _spent(info: RunInfo) -> Iterator[str]:
    guarantee = info.guarantee
    if guarantee is not None and guarantee.is_private:
        yield f"epsilon {rounded_up(guarantee.epsilon)} at delta {guarantee.delta:g}"


def _quality(data: RunData) -> Iterator[str]:
    metric = data.main_metric
    if metric is None:
        return
    name, summary = words.metric(metric), data.final.clients.get(metric)
    if metric in data.final.central:
        yield f"{name} {words.number(data.final.central[metric], 3)} on the test set"
    elif summary is not None:
        yield f"mean {name} over clients {words.number(summary.mean, 3)}"
    if summary is not None:
        yield f"worst tenth of clients {words.number(summary.worst_10, 3)}"


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Names, reasons and settings are other people's text: everything is escaped but our own figures.
    environment = Environment(
        loader=PackageLoader("tacit.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2")
