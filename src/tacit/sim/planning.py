"""Plan a job against its population without running it, and fetch the data it needs."""

from pathlib import Path

from tacit.data import Population, Split
from tacit.job import Job, Plan, PopulationLike, make_plan, model_seed
from tacit.job.private import refuse_scaling
from tacit.sim.populations import called, open_population
from tacit.store.downloads import obtain


def plan(job: Job, population: PopulationLike, *, data: Path | str | None = None) -> Plan:
    """Check a job and price it: parameters, bytes, memory, cohort; runs nothing, but fetches missing data.

    Args:
        job: The job.
        population: What ``run`` takes.
        data: Where data files lie; by default ``TACIT_DATA`` or the user's cache.

    Raises:
        ConfigError: The job would be refused, and why.
        DataError: The data is missing or does not fit.
    """
    return planned(job, population, data=data)[0]


def planned(
    job: Job, population: PopulationLike, *, data: Path | str | None = None
) -> tuple[Plan, Population]:
    """Return the plan, and the population that was opened for it."""
    from tacit.training.evaluate import Evaluator
    from tacit.training.flat import build

    population = called(population)
    refuse_scaling(job, population)
    opened = open_population(population, None if data is None else Path(data))
    model = build(job.task, model_seed(job))
    Evaluator(job.task, model)  # refuses a loss or a metric that nobody knows
    return make_plan(job, model.layout, opened.sizes), opened


def download(split: Split, data: Path | str | None = None) -> None:
    """Download the files that a population's source needs and that are not there yet.

    Raises:
        DataError: They cannot be downloaded; the message says what to put where.
    """
    obtain(split, None if data is None else Path(data))
