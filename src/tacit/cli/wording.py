"""From whatever ended a command to the numbered error that says what, where and what to do."""

import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from tacit.core.errors import ConfigError, RunError, StoreError, TacitError

# Not click's by name: newer versions of typer bring their own copy of click.
UsageError: Any = typer.BadParameter.__mro__[1]
_PACKAGE = str(Path(__file__).parents[1])


def worded(error: Exception, *, started: bool) -> TacitError | None:
    """Return the numbered error for ``error``; None if it is a bug of tacit.

    Args:
        error: What ended the command.
        started: Whether a run had begun.
    """
    if isinstance(error, TacitError):
        return error
    if isinstance(error, UsageError):
        return _misused(error)
    if isinstance(error, MemoryError):
        fix = "Use fewer workers or a smaller model; `tacit plan` estimates what a job needs."
        return RunError("T305", "the memory is used up", fix=fix)
    if place := _place_in_job_file(error):
        return _raised_by_job_file(error, place, started=started)
    if isinstance(error, OSError) and error.filename is not None:
        fix = "Check the path, its permissions and the disk."
        return StoreError("T410", f"cannot be used: {error.strerror}", where=str(error.filename), fix=fix)
    if started and not _is_ours(error):
        fix = "Check that model, loss and metrics fit the data's shapes and types."
        return RunError(
            "T307", f"training raised {type(error).__name__}: {error}", where=_innermost(error), fix=fix
        )
    return None


def traceback_of(error: Exception) -> str:
    """Return the traceback, from the job file's own frames on where it passes through them."""
    steps = _job_frame(error.__traceback__) or error.__traceback__
    return "".join(traceback.format_exception(type(error), error, steps))


def _misused(error: Any) -> ConfigError:
    command = error.ctx.command_path if error.ctx is not None else "tacit"
    what = str(error.format_message()).rstrip(".")
    return ConfigError("T100", what, where=command, fix=f"`{command} --help` shows how it is used.")


def _raised_by_job_file(error: Exception, place: str, *, started: bool) -> TacitError:
    what = f"the job file raised {type(error).__name__}: {error}"
    if started:
        return RunError(
            "T306",
            what,
            where=place,
            fix="Correct the job file and start a new run: one is not resumed with other code.",
        )
    return ConfigError("T113", what, where=place, fix="Correct the job file.")


def _place_in_job_file(error: Exception) -> str:
    """Return file and line of the innermost frame in a job file; empty if the error passed through none."""
    files = _job_files()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _job_frame(step: TracebackType | None) -> TracebackType | None:
    """Return the first step of a traceback that is in a job file."""
    files = _job_files()
    while step is not None and step.tb_frame.f_code.co_filename not in files:
        step = step.tb_next
    return step


def _job_files() -> set[str]:
    modules = sys.modules.get("tacit.job.modules")  # not imported: then no job file was
    return set() if modules is None else {str(path) for path in modules.loaded_files()}


def _innermost(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _is_ours(error: Exception) -> bool:
    """Tell whether tacit's own code raised it, rather than a library that was given what does not fit."""
    return _innermost(error).startswith(_PACKAGE)
