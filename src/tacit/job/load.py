"""From a job file, Python or TOML, to a job and its population."""

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tacit.core.errors import ConfigError
from tacit.core.part import decode
from tacit.data import Population, Split
from tacit.job.job import SCHEMA_VERSION, Job
from tacit.job.modules import load_module, member
from tacit.job.override import override

PopulationLike = Population | Split | Mapping[str, Any] | Callable[[], Any]
"""What a run takes as its clients: a mapping goes from id to data, a function returns one of the others."""


@dataclass(frozen=True)
class LoadedJob:
    """A job file, read.

    Attributes:
        job: The job.
        population: A ``Split``, a ``Population``, or the function ``population()`` of a Python file.
        path: The file.
        source_sha256: Digest of the file's text.
        overrides: What ``--set`` changed, as given.
    """

    job: Job
    population: PopulationLike
    path: Path
    source_sha256: str
    overrides: tuple[str, ...] = ()


def load_job(path: Path | str, overrides: Sequence[str] = ()) -> LoadedJob:
    """Read a job file and apply ``a.b=c`` overrides, with the same checks.

    A Python file defines ``job`` (a ``Job``) and ``population`` (a function, a ``Split`` or a
    ``Population``); a TOML file holds the job's settings and a block ``[population]``.

    Raises:
        ConfigError: The file is missing or broken, or a setting is; the message points at the place.
    """
    path = Path(path)
    if path.suffix not in (".py", ".toml"):
        raise ConfigError("T114", "a job file ends in .py or .toml", where=str(path), fix="Name a job file.")
    if not path.is_file():
        raise ConfigError(
            "T110", "there is no such job file", where=str(path), fix="`tacit new NAME` writes one."
        )
    loaded = _from_python(path) if path.suffix == ".py" else _from_toml(path)
    for text in overrides:
        loaded = _overridden(loaded, text)
    return replace(loaded, overrides=tuple(overrides))


def job_of(tree: dict[str, Any], folder: Path) -> Job:
    """Decode a job's resolved settings, as a run folder keeps them.

    Args:
        tree: The settings as plain data.
        folder: What relative file names in it start from.

    Raises:
        ConfigError: A setting is wrong, or names a function that cannot be imported here.
    """
    tree = {key: value for key, value in tree.items() if key not in ("schema_version", "population")}
    if isinstance(task := tree.get("task"), dict):
        _import_members(task, folder)
        if isinstance(task.get("initial"), str):
            task["initial"] = str(folder / task["initial"])
    return decode(Job, tree)


def _from_python(path: Path) -> LoadedJob:
    module = load_module(path)
    job, population = getattr(module, "job", None), getattr(module, "population", None)
    if not isinstance(job, Job):
        raise ConfigError(
            "T115",
            "the file defines no `job`",
            where=str(path),
            fix="Write `job = tacit.Job(...)` at its top level.",
        )
    if population is None:
        raise ConfigError(
            "T116",
            "the file defines no `population`",
            where=str(path),
            fix="Define a function `population()`.",
        )
    return LoadedJob(job, population, path, _sha256(path))


def _from_toml(path: Path) -> LoadedJob:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "T112", f"not valid TOML: {error}", where=str(path), fix="Correct the line."
        ) from None
    version = tree.pop("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        fix = f"Use a tacit that knows it, or write the job for version {SCHEMA_VERSION}."
        raise ConfigError("T117", f"unknown schema_version {version!r}", where=str(path), fix=fix)
    population = tree.pop("population", None)
    if population is None:
        raise ConfigError("T116", "the file has no block `[population]`", where=str(path), fix="Add one.")
    return LoadedJob(
        job_of(tree, path.parent), decode(Split, population, root="$.population"), path, _sha256(path)
    )


def _import_members(task: dict[str, Any], folder: Path) -> None:
    """Turn ``"file.py:name"`` into the callable, relative to the job file's folder."""
    for key in ("model", "loss"):
        task[key] = _imported(task[key], folder) if key in task else None
        if task[key] is None:
            del task[key]
    if isinstance(task.get("metrics"), list):
        task["metrics"] = [_imported(metric, folder) for metric in task["metrics"]]


def _imported(reference: Any, folder: Path) -> Any:
    if isinstance(reference, str):
        file, _, name = reference.rpartition(":")
        if file.endswith(".py"):
            return member(folder / file, name)
    return reference


def _overridden(loaded: LoadedJob, text: str) -> LoadedJob:
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ConfigError(
            "T118", f"`--set {text}` is not of the form path=value", fix="For example: --set rounds=5"
        )
    if path.split(".")[0] != "population":
        return replace(loaded, job=override(loaded.job, path, value))
    split = loaded.population() if callable(loaded.population) else loaded.population
    if not isinstance(split, Split):
        what = "`--set population...` needs a population written as a split"
        raise ConfigError("T119", what, where=text, fix="Edit the file.")
    below = path.partition(".")[2]
    return replace(loaded, population=override(split, below, value, root="$.population"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
