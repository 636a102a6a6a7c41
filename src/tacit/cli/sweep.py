"""``tacit sweep``: a job at every point of a grid over its settings."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tacit.cli.displays import display_for
from tacit.cli.failures import INTERRUPTED, CommandFailed
from tacit.cli.options import AsJson, DataFolder, JobFile, Overrides, checked_data
from tacit.cli.output import Output
from tacit.cli.run import Executor, Processes
from tacit.cli.watcher import Watcher
from tacit.cli.wording import traceback_of, worded
from tacit.core.errors import RunError, StoreError, TacitError

if TYPE_CHECKING:
    from tacit.sim.observer import Observer
    from tacit.sim.sweep_result import SweepResult
    from tacit.store.sweep_folder import SweepPoint, SweepRecord, SweepRun

SWEEPS = Path("sweeps")
"""Where sweeps without ``--folder`` are kept."""

Over = Annotated[
    list[str],
    typer.Option(
        "--over",
        metavar="A.B=V1,V2,...",
        help="A setting to vary, and the values to try, as --set takes them; none removes the setting, or "
        "the block around it. Given several times, every combination is run.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str,
    typer.Option(
        "--seeds",
        metavar="N|S1,S2,...",
        help="How many seeds each point is run with, counted from the job's own; or which: 0,1,2.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="The sweep folder. By default sweeps/NAME-DATE-TIME.",
        show_default=False,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="The metric that points are compared by. By default the first of the task.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with a sweep: that in --folder, else the newest unfinished of this job in sweeps/.",
    ),
]


def sweep(
    job: JobFile,
    over: Over,
    seeds: Seeds = "3",
    folder: Folder = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    metric: Metric = None,
    workers: Processes = None,
    executor: Executor = "auto",
    data: DataFolder = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> int:
    """Run a job at every point of a grid over its settings, and compare what comes out.

    Each point is run with several seeds, each run in a folder of its own. The sweep's folder gets a report
    with the curve, and sweep.json. A run that fails does not end the sweep; Ctrl-C stops it cleanly, and
    --resume goes on. Choosing settings by trying them on private data is itself not covered by any guarantee.

    [bold]Examples[/bold]

    tacit sweep examples/digits.py --over algorithm.local.lr=0.05,0.1,0.2,0.5
    tacit sweep job.py --over privacy.epsilon=0.5,1,2,4,8,none --seeds 5
    tacit sweep job.py --over clipping_bound=0.5,1,none --over algorithm.server.lr=0.5,1 --set rounds=20
    tacit sweep job.py --over rounds=10,20 --json | tail -1 | jq .best
    """
    from tacit.job import load_job  # late: it imports torch
    from tacit.sim import Source
    from tacit.sim.sweep_run import default_sweep_folder
    from tacit.sim.sweep_run import sweep as run_sweep
    from tacit.sim.sweep_texts import read_over, read_seeds

    output, files = Output(as_json), checked_data(data)
    grid, chosen = read_over(over), read_seeds(seeds)
    loaded = load_job(job, overrides)
    place = folder or (
        newest_unfinished(loaded.job.name) if resume else default_sweep_folder(loaded.job.name)
    )
    options = {"--metric": metric, "--workers": workers, "--data": data}
    options |= {} if executor == "auto" else {"--executor": executor}
    again = _again(job, over, seeds, place, overrides, options, as_json=as_json)
    watcher = SweepWatcher(output)
    try:
        result = run_sweep(
            loaded.job,
            loaded.population,
            grid,
            seeds=chosen,
            folder=place,
            metric=metric,
            workers=workers,
            executor=executor,
            resume=resume,
            data=files,
            observer=watcher,
            source=Source(str(job.resolve()), loaded.source_sha256, loaded.overrides),
        )
    except Exception as error:
        known = {"outcome": "failed", "sweep": str(place), "resume": again} if watcher.has_begun else {}
        raise CommandFailed(error, known) from error
    return _conclude(result, output, again)


class SweepWatcher:
    """Follows a sweep: a line for each run, and on a terminal a bar while it goes on.

    Args:
        output: Where words go.

    Attributes:
        has_begun: Whether there is anything to go on with.
    """

    def __init__(self, output: Output) -> None:
        self._output, self.has_begun = output, False
        self._done = self._runs = 0
        self._metric = ""
        self._watcher: Watcher | None = None

    def began(self, record: "SweepRecord", folder: str) -> None:
        from tacit.report.words import amount

        self.has_begun, self._metric = True, record.metric
        runs = [run for point in record.points for run in point.runs]
        self._runs, self._done = len(runs), sum(run.outcome != "waiting" for run in runs)
        complete = sum(run.outcome == "completed" for run in runs)
        kept = f", {complete} of them complete already" if complete else ""
        points = f"{amount(len(record.points), 'point')} with {amount(len(record.seeds), 'seed')}"
        self._output.say(f"{record.name}: {points}, {amount(self._runs, 'run')}{kept}", f"folder  {folder}")
        if record.note:
            self._output.say(record.note, style="yellow")

    def refused(self, point: "SweepPoint", error: Exception) -> None:
        self._output.warn(f"{point.name} cannot be run: {_words(error)}")

    def run_begins(self, point: "SweepPoint", seed: int) -> "Observer":
        console = self._output.console
        is_live = console.is_terminal and not console.is_dumb_terminal
        # Quiet: of a single run only its bar is shown, and what its clients raise.
        self._watcher = Watcher(self._output, display_for(self._output, quiet=not is_live), quiet=True)
        return self._watcher

    def run_ended(self, point: "SweepPoint", run: "SweepRun", error: Exception | None) -> None:
        from tacit.report.words import duration

        if self._watcher is not None:
            self._watcher.__exit__(None, None, None)
        if run.outcome != "interrupted":
            self._done += 1
        number = f"{self._done:>{len(str(self._runs))}}/{self._runs}"
        self._output.say(
            f"{number}  {point.name}  seed {run.seed}  {self._told(run)}  {duration(run.seconds)}"
        )
        if error is not None and not isinstance(error, TacitError):
            self._output.show_traceback(traceback_of(error))

    def _told(self, run: "SweepRun") -> str:
        from tacit.report.words import clean, metric, number

        if run.outcome == "completed":
            return f"{metric(self._metric)} {number(run.value)}"
        reason = f"{run.code}: {run.reason}" if run.code else run.reason
        return clean(f"{run.outcome}: {reason}" if reason else run.outcome)


def newest_unfinished(name: str, sweeps: Path = SWEEPS) -> Path:
    """Return the newest folder below ``sweeps`` of a sweep of that job with a run that is not complete.

    Raises:
        StoreError: There is none.
    """
    from tacit.store.sweep_folder import GRID, SweepFolder  # late: it imports NumPy

    found = []
    for place in sweeps.glob(f"*/{GRID}"):
        try:
            folder = SweepFolder.existing(place.parent)
            is_open = not folder.has_record or folder.record().outcome != "completed"
            if folder.grid().name == name and is_open:
                found.append((place.stat().st_mtime, place.parent))
        except StoreError:  # damaged: nothing that could be resumed
            continue
    if not found:
        fix = "Name its folder with --folder, or start without --resume."
        raise StoreError(
            "T409", f"no unfinished sweep of the job {name!r} is here", where=str(sweeps), fix=fix
        )
    return max(found)[1]


def _conclude(result: "SweepResult", output: Output, again: str) -> int:
    """Tell what came out, and return the exit code."""
    from tacit.report.sweep_table import sweep_table

    known, record = result.as_dict(), result.record
    output.say("", sweep_table(record), f"report  {known['report']}")
    if record.outcome == "interrupted":
        output.say("", "Stopped; nothing is lost. To go on:", f"  {again}")
    failed = sum(run.outcome == "failed" for point in record.points for run in point.runs)
    if failed:
        output.say(
            "", f"{failed} failed; the report says why. To try them again:", f"  {again}", style="yellow"
        )
    if record.outcome != "completed":
        known["resume"] = again
    output.result(known)
    return {"completed": 0, "interrupted": INTERRUPTED}.get(record.outcome, RunError.exit_code)


def _words(error: Exception) -> str:
    said = worded(error, started=True)
    return str(error) if said is None else f"{said.code}: {said.what}"


def _again(
    job: Path,
    over: list[str],
    seeds: str,
    folder: Path,
    overrides: list[str],
    options: Mapping[str, object],
    *,
    as_json: bool,
) -> str:
    """Return the command that goes on with the sweep, to be pasted into a shell."""
    parts = ["tacit", "sweep", str(job)]
    for name, texts in (("--over", over), ("--set", overrides)):
        for text in texts:
            parts += [name, text]
    parts += ["--seeds", seeds, "--folder", str(folder), "--resume"]
    for option, value in options.items():
        parts += [option, str(value)] if value is not None else []
    return shlex.join([*parts, "--json"] if as_json else parts)
