"""From whatever a job file calls its population to an opened one."""

from collections.abc import Mapping
from pathlib import Path

from tacit.core.errors import ConfigError
from tacit.data import Population, Split
from tacit.job import PopulationLike
from tacit.store import Holding
from tacit.store.downloads import obtain

_DESCRIBED = 200  # clients in the report's picture of who holds what


def open_population(population: PopulationLike, folder: Path | None = None) -> Population:
    """Open a population: a ``Split``, a ``Population``, a mapping, or a function that returns one.

    Files of known sources that are missing are downloaded first.

    Raises:
        ConfigError: It is none of these.
        DataError: Its data is missing and cannot be downloaded, or does not fit.
    """
    if callable(population) and not isinstance(population, Population | Split):
        population = population()
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


def holding(population: Population) -> Holding:
    """Describe who holds what, for the run's record."""
    summary = population.summary(clients=_DESCRIBED)
    return Holding(
        clients=summary.clients,
        examples=summary.examples,
        ids=summary.ids,
        sizes=tuple(summary.sizes.tolist()),
        kind=summary.kind,
        labels=summary.labels,
        counts=tuple(tuple(_number(value) for value in row) for row in summary.counts.tolist()),
    )


def _number(value: float) -> float | None:
    return value if value == value else None  # NaN, the one value unequal to itself, is no JSON
