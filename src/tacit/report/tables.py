"""The report's tables and tiles, as text."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tacit.privacy.guarantee import rounded_up
from tacit.report import words
from tacit.report.participants import failures
from tacit.report.round_charts import tally
from tacit.report.run_data import RunData
from tacit.store import FinalMetrics, RunInfo

_ROWS = 30  # failures and abandoned rounds listed
_SETTINGS = 400
_VALUE = 400  # characters of a setting


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: What it shows.
        head: Names of the columns.
        rows: One tuple a row.
        numeric: Columns set flush right.
        note: Said below it, for example what was left out.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """A line of the settings: a block's name, or a value."""

    depth: int
    name: str
    value: str | None
    changed: bool


def tiles(data: RunData) -> list[Tile]:
    """Return the key figures."""
    return [*_progress(data), *_promise(data.info), *_quality(data), *_scale(data), *_cost(data)]


def _progress(data: RunData) -> Iterator[Tile]:
    abandoned = data.attempts - data.committed
    note = f"{abandoned} more abandoned" if abandoned else "none abandoned" if data.rounds else ""
    wanted = f" of {words.count(data.wanted)}" if data.wanted and data.wanted != data.committed else ""
    yield Tile("Rounds", words.count(data.committed) + wanted, note)


def _promise(info: RunInfo) -> Iterator[Tile]:
    guarantee = info.guarantee
    if guarantee is not None:
        seeded = "seeded, not private; " if guarantee.randomness == "seeded" else ""
        note = f"{seeded}at delta {guarantee.delta:g}, for each {guarantee.unit}"
        yield Tile("Epsilon", rounded_up(guarantee.epsilon), note)


def _quality(data: RunData) -> Iterator[Tile]:
    metric = data.main_metric
    if metric is None:
        return
    name = words.title(words.metric(metric))
    summary = data.final.clients.get(metric)
    if metric in data.final.central:
        yield Tile(f"{name}, test set", words.number(data.final.central[metric]))
    if summary is not None:
        yield Tile(
            f"{name}, clients",
            words.number(summary.mean),
            f"mean; spread ± {words.number(summary.spread, 2)}",
        )
        yield Tile("Worst tenth of clients", words.number(summary.worst_10), f"{words.metric(metric)}, mean")


def _scale(data: RunData) -> Iterator[Tile]:
    population = data.info.population
    if population is not None:
        held = words.amount(population.examples, "training example") if data.shows.client_data else ""
        yield Tile("Clients", words.count(population.clients), held)
    if data.info.parameters:
        yield Tile("Parameters", words.count(data.info.parameters), "of the model")


def _cost(data: RunData) -> Iterator[Tile]:
    traffic, info = data.traffic, data.info
    if traffic is not None:
        yield Tile(
            "Bytes",
            words.size(traffic.up + traffic.down),
            f"{words.size(traffic.up)} up, {words.size(traffic.down)} down",
        )
    pace = f"{words.duration(info.seconds_per_round)} a round" if info.seconds_per_round is not None else ""
    yield Tile("Time", words.duration(info.seconds), pace)


def final_metrics(data: RunData) -> Table | None:
    """Return all metrics of the last evaluation; None if nothing was measured."""
    metrics, caption = data.final, "At the last evaluation"
    rows = [(words.title(words.metric(name)), *metric_cells(metrics, name)) for name in data.metrics]
    if not rows:
        return None
    if not data.shows.client_data:
        return Table(caption, ("Metric", "Test set"), tuple(row[:2] for row in rows), frozenset({1}))
    head = ("Metric", "Test set", "Mean", "Spread", "Worst tenth", "Clients")
    note = (
        "Mean and spread (the standard deviation) are over the clients measured, "
        "worst tenth is the mean over the worst tenth of them."
    )
    return Table(caption, head, tuple(rows), frozenset(range(1, 6)), note)


def metric_cells(metrics: FinalMetrics, name: str) -> tuple[str, ...]:
    """Return a metric on the test set, its mean, spread and worst tenth over clients, and their number."""
    central, summary = metrics.central.get(name), metrics.clients.get(name)
    if summary is None:
        return (words.number(central), *[words.MISSING] * 4)
    spread = words.number(summary.spread, 3)
    over_clients = (words.number(summary.mean), spread, words.number(summary.worst_10))
    return (words.number(central), *over_clients, words.count(summary.clients))


def participation(data: RunData) -> Table | None:
    """Return what became of all invitations; None before the first has closed, or where it is secret."""
    if not data.rounds or not data.shows.participation:
        return None
    invited = sum(len(record.invited) for record in data.rounds)
    totals = [sum(column) for column in zip(*map(tally, data.rounds), strict=True)]
    kinds = ("Answered in full", "Answered in part", "Late", "Dropped out", "Failed")
    rows = [("Invited", words.count(invited), words.MISSING)]
    rows += [
        (kind, words.count(total), _share(total, invited)) for kind, total in zip(kinds, totals, strict=True)
    ]
    return Table("All rounds together", ("", "Clients", "Share"), tuple(rows), frozenset({1, 2}))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else words.MISSING


def abandoned(data: RunData) -> Table | None:
    """Return the abandoned rounds and why; None if there was none."""
    lost = [record for record in data.rounds if record.outcome == "abandoned"]
    if not lost:
        return None
    rows = tuple(
        (words.count(record.round), words.clean(record.reason) or words.MISSING) for record in lost[:_ROWS]
    )
    return Table("Abandoned rounds", ("Round", "Reason"), rows, frozenset({0}), _more(len(lost)))


def failed_clients(data: RunData) -> Table | None:
    """Return the clients that could not answer and why; None if there was none."""
    told = failures(data.rounds, show_participants=data.shows.names)
    if not told:
        return None
    if data.shows.names:
        rows = tuple((words.count(one.round or 0), one.client, one.reason) for one in told[:_ROWS])
        return Table(
            "Clients that failed", ("Round", "Client", "Reason"), rows, frozenset({0}), _more(len(told))
        )
    counted = tuple((words.count(one.times), one.reason) for one in told[:_ROWS])
    return Table("Clients that failed", ("Times", "Reason"), counted, frozenset({0}), _more(len(told)))


def _more(length: int) -> str:
    return f"The first {_ROWS} of {words.count(length)}; rounds.jsonl has them all." if length > _ROWS else ""


def traffic(data: RunData) -> Table:
    """Return the bytes up and down, of one client and of all."""
    info = data.info
    rows = (
        _bytes("One client, one round", info.bytes_up_per_client, info.bytes_down_per_client),
        *_of_all(data),
    )
    note = (
        "Up is from clients to the server, updates that came too late left out; "
        "down is from the server to every invited client."
    )
    return Table("Bytes up and down", ("", "Up", "Down", "Together"), rows, frozenset({1, 2, 3}), note)


def _of_all(data: RunData) -> Iterator[tuple[str, ...]]:
    total = data.traffic
    if total is None:
        return
    if rounds := len(data.rounds):
        yield _bytes("All clients, one round (mean)", total.up / rounds, total.down / rounds)
    yield _bytes("The whole run", total.up, total.down)


def _bytes(name: str, up: float, down: float) -> tuple[str, ...]:
    return (name, words.size(up), words.size(down), words.size(up + down))


def settings(data: RunData) -> tuple[list[Setting], int]:
    """Return the resolved settings line by line, and how many lines were left out."""
    changed = {text.partition("=")[0].strip() for text in data.info.overrides}
    lines = list(_lines(data.settings, 0, "", changed))
    return lines[:_SETTINGS], max(0, len(lines) - _SETTINGS)


def _lines(block: Mapping[str, Any], depth: int, path: str, changed: set[str]) -> Iterator[Setting]:
    """Yield a block's own values before the blocks inside it, as TOML does."""
    for name, value in sorted(block.items(), key=lambda item: _has_lines(item[1])):
        where, spoken = f"{path}{name}", words.clean(name, 80)
        if isinstance(value, Mapping) and value:
            yield Setting(depth, spoken, None, where in changed)
            yield from _lines(value, depth + 1, f"{where}.", changed)
        elif _has_lines(value):
            yield Setting(depth, spoken, None, where in changed)
            yield from _lines(
                {str(place): item for place, item in enumerate(value)}, depth + 1, f"{where}.", changed
            )
        else:
            yield Setting(depth, spoken, plain(value), where in changed)


def _has_lines(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping) and bool(value)


def plain(value: Any) -> str:
    """Return a setting's value as one would write it, without quotes.

    >>> plain(True), plain([1, "two"]), plain({})
    ('true', '1, two', 'none')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return words.clean(", ".join(plain(item) for item in value), _VALUE) or "none"
    return "none" if value in ({}, "") else words.clean(str(value), _VALUE)


def origins(data: RunData) -> list[tuple[str, str]]:
    """Return versions, seeds and digests by name, leaving out what is not known."""
    info = data.info
    facts = [
        ("Seed", str(info.seed)),
        ("Started", words.date(info.started) if info.started else ""),
        ("Ended", words.date(info.ended) if info.ended else ""),
        ("Resumed", f"{words.amount(info.resumed, 'time')}" if info.resumed else ""),
        ("Executor", words.executor(info.executor, info.group)),
        ("Why this executor", info.executor_reason),
        ("SHA-256 of its program", info.program_sha256 or ""),
        ("Worker processes", words.count(info.workers)),
        ("Machine", info.machine),
        ("Job file", info.source or ""),
        ("SHA-256 of the job file", info.source_sha256 or ""),
        ("SHA-256 of the settings", info.job_sha256),
        ("SHA-256 of the model", info.model_sha256 or "no model was written"),
        *((f"Version of {words.clean(name, 40)}", version) for name, version in info.versions.items()),
    ]
    return [(name, words.clean(value)) for name, value in facts if value]


def command(data: RunData) -> str:
    """Return the command that repeats the run; empty if the job was not read from a file."""
    if data.info.source is None:
        return ""
    changes = [part for text in data.info.overrides for part in ("--set", text)]
    return words.clean(shlex.join(["tacit", "run", data.info.source, *changes]), 2000)
