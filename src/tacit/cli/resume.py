"""Which run to go on with, and the command that does."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tacit.core.errors import StoreError

RUNS = Path("runs")
"""Where runs without ``--out`` are kept."""


def newest_unfinished(name: str, runs: Path = RUNS) -> Path:
    """Return the newest folder below ``runs`` of a run of that name that is not finished.

    Raises:
        StoreError: There is none.
    """
    found = sorted(_unfinished(name, runs))
    if not found:
        fix = "Name its folder with --out, or run without --resume."
        raise StoreError("T409", f"no unfinished run of the job {name!r} is here", where=str(runs), fix=fix)
    return found[-1][1]


def _unfinished(name: str, runs: Path) -> Iterator[tuple[str, Path]]:
    from tacit.store import RunFolder  # late: it imports NumPy

    for place in runs.glob("*/run.json"):
        try:
            folder = RunFolder.existing(place.parent)
            info, is_finished = folder.info(), folder.is_finished
        except StoreError:  # damaged: nothing that could be resumed
            continue
        if info.name == name and not is_finished:
            yield info.started, folder.path


def resume_command(
    job: Path, folder: str, overrides: Sequence[str], options: Mapping[str, object], *, as_json: bool
) -> str:
    """Return the command that goes on with a run, to be pasted into a shell.

    Args:
        job: The job file.
        folder: The run folder.
        overrides: What ``--set`` changed.
        options: Other options and what was given for them; None: nothing, True: an
            option that takes no value.
        as_json: Whether it was to answer in JSON.
    """
    parts = ["tacit", "run", str(job)]
    for text in overrides:
        parts += ["--set", text]
    parts += ["--out", folder, "--resume"]
    for name, value in options.items():
        if value is not None:
            parts += [name] if value is True else [name, str(value)]
    return shlex.join([*parts, "--json"] if as_json else parts)
