"""From whatever a job file calls its population to an opened one."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tacit.core.errors import ConfigError
from tacit.data import Population, Split
from tacit.data.summary import PopulationSummary, summarise
from tacit.job import PopulationLike
from tacit.store import Holding
from tacit.store.downloads import obtain

_FEW = 20  # examples below which a client's quantiles are withheld
_DESCRIBED = 200  # clients in the report's picture of who holds what


def open_population(population: PopulationLike, folder: Path | None = None) -> Population:
    """Open a population: a ``Split``, a ``Population``, a mapping, or a function that returns one.

    Files of known sources that are missing are downloaded first.

    Raises:
        ConfigError: It is none of these.
        DataError: Its data is missing and cannot be downloaded, or does not fit.
    """
    population = called(population)
    if isinstance(population, Split):
        obtain(population, folder)
        return population.open(folder)
    if isinstance(population, Mapping):
        return Population.of(population)
    if isinstance(population, Population):
        return population
    raise ConfigError(
        "T120",
        f"a {type(population).__name__} is no population",
        where="population",
        fix="Give a source's .split(...), a Population, or a mapping of client id to (x, y).",
    )


def called(population: PopulationLike) -> Any:
    """Return what a job file's function returns, or what was given in its place."""
    if callable(population) and not isinstance(population, Population | Split):
        return population()
    return population


def holding(population: Population) -> Holding | None:
    """Describe who holds what, for the run's record; clients whose data cannot be loaded are left out."""
    try:
        summary = population.summary(clients=_DESCRIBED)
    except (Exception, SystemExit):  # noqa: BLE001 - a client's own data code may do anything
        found = _summary_of_sound_clients(population)
        if found is None:
            return None
        summary = found
    labels, counts = summary.labels, summary.counts.astype(np.float64)
    if summary.kind == "quantiles":
        # A smallest or largest target is somebody's own, and so is every quantile of a few.
        labels, counts = labels[1:-1], counts[:, 1:-1]
        counts[summary.sizes < _FEW] = np.nan
    return Holding(
        clients=summary.clients,
        examples=summary.examples,
        ids=summary.ids,
        sizes=tuple(summary.sizes.tolist()),
        kind=summary.kind,
        labels=labels,
        counts=tuple(tuple(_number(value) for value in row) for row in counts.tolist()),
    )


def _summary_of_sound_clients(population: Population) -> PopulationSummary | None:
    ids, targets = [], []
    for position in np.unique(np.linspace(0, len(population) - 1, _DESCRIBED).astype(np.int64)).tolist():
        with suppress(Exception, SystemExit):  # as above
            targets.append(population.train(position).target)
            ids.append(population.ids[position])
    return summarise(ids, targets, population.sizes) if ids else None


def _number(value: float) -> float | None:
    return value if value == value else None  # NaN, the one value unequal to itself, is no JSON
