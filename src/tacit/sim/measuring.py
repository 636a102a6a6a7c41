"""On whom a model is measured, and how what was measured is arranged."""

from collections.abc import Mapping

import numpy as np

from tacit.core.errors import DataError, TacitError
from tacit.core.metrics import higher_is_better, summarise
from tacit.core.randomness import generator
from tacit.data import Population
from tacit.job import Job
from tacit.round import EvaluationRecord
from tacit.sim.result import Result
from tacit.store import FinalMetrics, RunFolder, load_snapshot

Found = Mapping[str, Mapping[str, float]]
"""Metrics of each measured client, by client and metric."""


def measured_clients(job: Job, population: Population, most: int | None = None) -> list[int]:
    """Return the positions of the clients on whose held-out data a job's model is measured: always the same.

    Args:
        job: The job.
        population: All clients.
        most: At most so many; None: as many as the job says.
    """
    most = job.evaluation.clients if most is None else most
    if not most or not population.has_holdout:
        return []
    everybody = len(population)
    rng = generator(job.seed, "evaluation")
    return sorted(rng.choice(everybody, min(most, everybody), replace=False, shuffle=False).tolist())


def evaluation_record(round_number: int, central: Mapping[str, float], found: Found) -> EvaluationRecord:
    """Arrange what was measured by metric; what is not finite was not measured."""
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    per_client = {
        name: {
            client: values[name] for client, values in found.items() if np.isfinite(values.get(name, np.nan))
        }
        for name in names
    }
    summaries = {
        name: summarise(values, higher_is_better=higher_is_better(name))
        for name, values in per_client.items()
    }
    return EvaluationRecord(
        round=round_number,
        central={name: value for name, value in central.items() if np.isfinite(value)},
        clients={name: summary for name, summary in summaries.items() if summary is not None},
        per_client={name: values for name, values in per_client.items() if values},
    )


def measure_again(result: Result, population: Population, clients: int | None = None) -> FinalMetrics:
    """Measure a run's final model on a test set and on the held-out data of some clients.

    Args:
        result: The run.
        population: Who is measured: the run's own population or another.
        clients: At most so many clients; None: as many as the job says. The same number draws the same ones.

    Raises:
        RunError: The run has no model.
        DataError: The model cannot take this data.
    """
    from tacit.training.threads import borrowed_torch

    with borrowed_torch():
        try:
            record = _measured(result, population, clients)
        except TacitError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            what = f"the model cannot take this data: {error}"
            fix = "Measure on data of the shape it was trained on."
            raise DataError("T224", what, where=str(result.folder), fix=fix) from error
    return FinalMetrics(central=record.central, clients=record.clients)


def _measured(result: Result, population: Population, clients: int | None) -> EvaluationRecord:
    from tacit.training.evaluate import Evaluator
    from tacit.training.flat import FlatModel

    job = result.job
    model = FlatModel(result.model(), buffers=job.task.buffers)
    evaluator, vector = Evaluator(job.task, model), model.vector()
    # Where buffers stay with the clients the checkpoint has them, and no one model can be measured centrally.
    buffers = (
        load_snapshot(RunFolder.existing(result.folder).checkpoint, result.info.name).buffers
        if model.is_local
        else {}
    )
    central, found = {}, {}
    if population.test is not None and not model.is_local:
        evaluator.load(vector)
        central = evaluator.measure(population.test)
    for position in measured_clients(job, population, clients):
        client, examples = population.ids[position], population.holdout(position)
        if examples is not None and len(examples):
            evaluator.load(vector, buffers.get(client))
            found[client] = evaluator.measure(examples)
    return evaluation_record(result.info.attempts, central, found)
