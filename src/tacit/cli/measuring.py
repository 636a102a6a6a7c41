"""Measure the final model of a run again, on its own population or on another."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tacit.core.errors import ConfigError, DataError
from tacit.core.metrics import ClientSummary, higher_is_better, summarise
from tacit.core.part import decode
from tacit.core.randomness import generator
from tacit.data import Population, Split
from tacit.job import PopulationLike, load_job
from tacit.job.job import Job
from tacit.job.load import LoadedJob
from tacit.sim import Result
from tacit.sim.populations import open_population
from tacit.store import FinalMetrics, RunFolder, load_snapshot
from tacit.training.evaluate import Evaluator
from tacit.training.flat import FlatModel
from tacit.training.threads import borrowed_torch


def population_of(result: Result, data: Path | None) -> Population:
    """Open the population that a run was trained on, from its settings or else from its job file.

    Raises:
        ConfigError: Neither says what it was.
    """
    settings = RunFolder.existing(result.folder).job().get("population")
    if settings is not None:
        return open_population(decode(Split, settings, root="$.population"), data)
    source = source_of(result)
    if source is None:
        fix = "Name a job file whose population to measure on: --on FILE."
        raise ConfigError(
            "T134", "the run does not say who its clients were", where=str(result.folder), fix=fix
        )
    return open_population(source.population, data)


def source_of(result: Result) -> LoadedJob | None:
    """Read the job file that a run came from; None if it came from none."""
    path = result.info.source
    return None if path is None else load_job(path)


def source_has_changed(result: Result) -> bool:
    """Tell whether the job file is no longer what it was when the run began."""
    import hashlib

    info = result.info
    if info.source is None or not Path(info.source).is_file():
        return False
    return hashlib.sha256(Path(info.source).read_bytes()).hexdigest() != info.source_sha256


def measure(result: Result, population: PopulationLike, clients: int | None) -> FinalMetrics:
    """Measure a run's final model on the test set, and on the held-out data of at most so many clients.

    Args:
        result: The run.
        population: Who is measured.
        clients: How many clients; None: as many as the job says. The same number draws the same ones.

    Raises:
        RunError: The run has no model.
        DataError: The model cannot take this data.
    """
    opened, job = open_population(population), result.job
    with borrowed_torch():
        model = FlatModel(result.model(), buffers=job.task.buffers)
        meter = _Meter(result, job, model, opened)
        try:
            central = meter.central()
            found = meter.clients(job.evaluation.clients if clients is None else clients)
        except (RuntimeError, IndexError, ValueError) as error:
            what, fix = (
                f"the model cannot take this data: {error}",
                "Measure on data of the shape it was trained on.",
            )
            raise DataError("T224", what, where=str(result.folder), fix=fix) from error
    return FinalMetrics(central=central, clients=dict(_summaries(found)))


class _Meter:
    """Measures one model."""

    def __init__(self, result: Result, job: Job, model: FlatModel, population: Population) -> None:
        self._population, self._job = population, job
        self._evaluator, self._vector, self._model = Evaluator(job.task, model), model.vector(), model
        # Where buffers stay with the clients, the last checkpoint has them.
        checkpoint = RunFolder.existing(result.folder).checkpoint
        self._buffers = load_snapshot(checkpoint).buffers if model.local is not None else {}

    def central(self) -> dict[str, float]:
        """Measure on the test set; not where clients keep buffers: there is no one model then."""
        test = self._population.test
        if test is None or self._model.local is not None:
            return {}
        self._evaluator.load(self._vector)
        return _finite(self._evaluator.measure(test))

    def clients(self, most: int) -> list[dict[str, float]]:
        """Measure on each client's held-out data."""
        return [values for position in self._chosen(most) if (values := self._client(position))]

    def _chosen(self, most: int) -> Sequence[int]:
        """Return the clients that the run itself measured on, if it measured so many."""
        everybody = len(self._population)
        if not most or not self._population.has_holdout:
            return []
        rng = generator(self._job.seed, "evaluation")
        return sorted(rng.choice(everybody, min(most, everybody), replace=False, shuffle=False).tolist())

    def _client(self, position: int) -> dict[str, float]:
        examples = self._population.holdout(position)
        if examples is None or not len(examples):
            return {}
        self._evaluator.load(self._vector, self._buffers.get(self._population.ids[position]))
        return _finite(self._evaluator.measure(examples))


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what could not be measured."""
    return {name: value for name, value in values.items() if abs(value) < float("inf")}


def _summaries(found: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, ClientSummary]]:
    for name in dict.fromkeys(name for values in found for name in values):
        one = {str(place): values[name] for place, values in enumerate(found) if name in values}
        summary = summarise(one, higher_is_better=higher_is_better(name))
        if summary is not None:
            yield name, summary
