"""Who the clients of a run were."""

from pathlib import Path

from tacit.core.errors import ConfigError
from tacit.core.part import decode
from tacit.data import Population, Split
from tacit.job import load_job
from tacit.job.load import LoadedJob
from tacit.sim import Result
from tacit.sim.populations import open_population
from tacit.store import RunFolder


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
