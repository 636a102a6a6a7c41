"""From a place to the folder of a run: a new one, or that of a run which is not finished."""

import hashlib
import re
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tacit.core.errors import ConfigError, StoreError
from tacit.core.layout import Vector
from tacit.job import Plan, digest
from tacit.round import Snapshot
from tacit.sim.machine import machine, versions
from tacit.store import RunFolder, RunInfo, load_snapshot, save_snapshot

_TRAINED_BY = ("executor", "group", "executor_reason", "program_sha256")


@dataclass(frozen=True)
class Source:
    """Where a job came from, for the record.

    Attributes:
        path: The job file.
        sha256: Digest of its text.
        overrides: What ``--set`` changed.
    """

    path: str
    sha256: str
    overrides: tuple[str, ...] = ()


def default_folder(name: str) -> Path:
    """Return a folder for a new run of that name: ``runs/NAME-DATE-TIME``, numbered if it exists."""
    stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    candidates = (Path("runs") / (stem if not number else f"{stem}-{number}") for number in range(1000))
    return next(path for path in candidates if not path.exists())


def now() -> str:
    """Return date and time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def first_info(plan: Plan, settings: Mapping[str, Any], source: Source | None, workers: int) -> RunInfo:
    """Return what ``run.json`` says of a run that begins."""
    return RunInfo(
        name=plan.job.name,
        outcome="running",
        started=now(),
        bytes_up_per_client=plan.bytes_up_per_client,
        bytes_down_per_client=plan.bytes_down_per_client,
        parameters=plan.parameters,
        privacy=plan.privacy,
        seed=plan.job.seed,
        workers=workers,
        versions=versions(),
        machine=machine(),
        job_sha256=digest(settings),
        code_sha256=_code_sha256(settings, source),
        sizes_sha256=hashlib.sha256(plan.sizes.astype("<i8").tobytes()).hexdigest(),
        source=None if source is None else source.path,
        source_sha256=None if source is None else source.sha256,
        overrides=() if source is None else source.overrides,
    )


def left_run(
    place: Path, vector: Vector, settings: Mapping[str, Any], info: RunInfo
) -> tuple[RunInfo, bytes | None] | None:
    """Return the record of the unfinished run in a folder, and its program; None if it had not begun.

    Args:
        place: The folder.
        vector: The initial model, shape (size,).
        settings: The resolved settings.
        info: What would be noted of a new run.

    Raises:
        ConfigError: The unfinished run is of another job.
        StoreError: There is no unfinished run, or it cannot be read.
    """
    if RunFolder.is_unborn(place):
        return None
    folder = RunFolder.existing(place)
    before, _ = _unfinished(folder, vector, settings, info)
    return before, folder.program()


@contextmanager
def begin_run(
    place: Path,
    vector: Vector,
    settings: Mapping[str, Any],
    info: RunInfo,
    *,
    resume: bool,
    program: bytes | None = None,
) -> Iterator[tuple[RunFolder, Snapshot, RunInfo]]:
    """Make the run folder, or reopen that of an unfinished run; yield where to begin, and the run's record.

    Args:
        place: The folder.
        vector: The initial model, shape (size,).
        settings: The resolved settings.
        info: What to note of a new run.
        resume: Go on with an unfinished run.
        program: What the executor of a new run runs, if it runs a program.

    Raises:
        ConfigError: The unfinished run is of another job.
        StoreError: The folder cannot be used.
    """
    going_on = resume and not RunFolder.is_unborn(place)
    folder = RunFolder.reopen(place) if going_on else RunFolder.create(place)
    try:
        if going_on:
            state, info = _left(folder, vector, settings, info)
        else:
            state = _fresh(folder, vector, settings, program)
        folder.write_info(info)  # last: from here on there is something to resume
        yield folder, state, info
    finally:
        folder.close()


def _fresh(folder: RunFolder, vector: Vector, settings: Mapping[str, Any], program: bytes | None) -> Snapshot:
    state = Snapshot(round=0, committed=0, abandoned_in_a_row=0, now_s=0.0, vector=vector)
    save_snapshot(folder.checkpoint, state, str(settings["name"]))
    if program is not None:
        folder.write_program(program)
    folder.write_job(settings)
    return state


def _left(
    folder: RunFolder, vector: Vector, settings: Mapping[str, Any], info: RunInfo
) -> tuple[Snapshot, RunInfo]:
    """Return where the unfinished run stopped; what it noted later than that is forgotten."""
    before, state = _unfinished(folder, vector, settings, info)
    folder.forget_after(state.round if state.history else -1)
    now_known = {name: getattr(info, name) for name in ("workers", "real_masks", *_TRAINED_BY)}
    return state, msgspec.structs.replace(
        before,
        outcome="running",
        reason="",
        ended=None,
        resumed=before.resumed + 1,
        **now_known,
    )


def _unfinished(
    folder: RunFolder, vector: Vector, settings: Mapping[str, Any], info: RunInfo
) -> tuple[RunInfo, Snapshot]:
    """Return the record and the last snapshot of a run that this job can go on with."""
    before = folder.info()
    if folder.is_finished:
        what, fix = "the run is complete: there is nothing to resume", "Start a new one."
        raise StoreError("T407", what, where=str(folder.path), fix=fix)
    changes = list(_changes(folder.job(), settings))
    state = load_snapshot(folder.checkpoint, str(settings["name"]))
    if state.vector.shape != vector.shape:
        changes.append(f"the model had {len(state.vector)} numbers and has {len(vector)}")
    if before.code_sha256 != info.code_sha256:
        changes.append("the files of its functions have changed")
    if before.sizes_sha256 != info.sizes_sha256:
        changes.append("the clients hold other numbers of examples")
    if changes:
        what = f"the job has changed since the run began: {'; '.join(changes)}"
        fix = "Resume with the settings it began with, each --set included, or start a new run."
        raise ConfigError("T132", what, where=str(folder.path), fix=fix)
    return before, state


def _code_sha256(settings: Mapping[str, Any], source: Source | None) -> str:
    """Return the digest of the job file and of the files whose functions the settings name."""
    named = set(re.findall(r'"([^"]*\.py):', msgspec.json.encode(settings).decode()))
    files = sorted(named | ({source.path} if source is not None else set()))
    texts = [Path(file).read_bytes() for file in files if Path(file).is_file()]
    return hashlib.sha256(b"".join(hashlib.sha256(text).digest() for text in texts)).hexdigest()


def _changes(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Say what differs between two trees of settings, leaf by leaf."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            yield from _changes(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif before != now:
        yield f"{path} was {_said(before)} and is {_said(now)}"


def _said(value: Any) -> str:
    return "not set" if value is None else reprlib.repr(value)
