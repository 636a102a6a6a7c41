"""How a command ends that does not go well: a numbered error, an exit code, and no surprise."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import typer

from tacit.cli.output import console, write_json
from tacit.cli.wording import UsageError, traceback_of, worded
from tacit.core.errors import TacitError

INTERRUPTED = 130
"""128 + SIGINT: what shells use for a command that Ctrl-C has ended."""
_NOBODY_LISTENS = 141  # 128 + SIGPIPE
_BUG = "This is a bug in tacit. Please report it with the lines above and what `tacit doctor` says."


class CommandFailed(Exception):  # noqa: N818 - it carries the error
    """The error that ended a command, with what the command can tell nevertheless.

    Args:
        error: What happened.
        known: Goes into the JSON object beside the error; ``resume`` is the command that goes on.
    """

    def __init__(self, error: Exception, known: Mapping[str, Any]) -> None:
        super().__init__()
        self.error, self.known = error, known


def guarded(action: Callable[[], int], *, as_json: bool) -> int:
    """Run a command; turn whatever ends it into words, JSON if asked for, and an exit code."""
    try:
        code = action()
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        return _nobody_listens()
    except KeyboardInterrupt:
        return _stopped(as_json)
    except CommandFailed as failed:
        return _tell(failed.error, failed.known, as_json)
    except Exception as error:  # noqa: BLE001 - the last one to see it; it keeps its traceback
        return _tell(error, {}, as_json)
    return code


def _stopped(as_json: bool) -> int:
    """End after Ctrl-C where there was nothing yet to keep, or nothing to wait for."""
    with suppress(BrokenPipeError):
        _show("Stopped.")
        if as_json:
            write_json({"outcome": "interrupted"})
    return INTERRUPTED


def _tell(error: Exception, known: Mapping[str, Any], as_json: bool) -> int:
    """Show an error, and return the exit code it asks for."""
    said = worded(error, started=bool(known))
    with suppress(BrokenPipeError):
        if said is not error and not isinstance(error, UsageError):
            sys.stderr.write(traceback_of(error))
        _show(said or _BUG)
        corrected = said is not None and said.code == "T306"  # the job file has to change: no resuming then
        if "resume" in known and not corrected:
            _show(f"What was done is kept. To go on from there:\n  {known['resume']}")
        if as_json:
            write_json({**known, "error": _unforeseen(error) if said is None else said.as_dict()})
    return TacitError.exit_code if said is None else said.exit_code


def _unforeseen(error: Exception) -> dict[str, str | int]:
    """Return the JSON object for a bug: it has no number."""
    kind, code = type(error).__name__, TacitError.exit_code
    return {"code": "", "kind": kind, "what": str(error), "where": "", "fix": _BUG, "exit_code": code}


def _show(said: TacitError | str) -> None:
    from rich.text import Text

    text = Text(str(said))
    if isinstance(said, TacitError):
        text.stylize("bold red", 0, len(f"{said.code}: {said.what}"))
    console(stderr=True).print(text, soft_wrap=True)


def _nobody_listens() -> int:
    """Let nothing be written to the closed pipe any more, also not when Python ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _NOBODY_LISTENS
