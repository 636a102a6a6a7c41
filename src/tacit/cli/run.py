"""``tacit run``: simulate a job."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.displays import display_for
from tacit.cli.failures import INTERRUPTED, CommandFailed
from tacit.cli.options import AsJson, DataFolder, JobFile, Overrides, checked_data
from tacit.cli.output import Output
from tacit.cli.resume import newest_unfinished, resume_command
from tacit.cli.watcher import Watcher

if TYPE_CHECKING:
    from tacit.sim import Result

EXHAUSTED = 7
"""The run ended because one more round would have exceeded the privacy budget."""

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FOLDER", help="The run folder. By default runs/NAME-DATE-TIME.", show_default=False
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on with an unfinished run: that in --out, else the newest of this job in runs/."
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes that train: by default 1, or one for each CPU of the cluster. "
        "The model does not depend on it.",
        show_default=False,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="RAY",
        help="Train on Ray: ray (on this machine), ray://HOST:PORT or ray://auto (on the cluster that this "
        "machine is a node of). The model does not depend on it.",
        show_default=False,
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="Who trains in each process: torch, rules, stacked, onnx or functional. By default the fastest "
        "on this machine of those that compute the same as torch.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where to train: cpu, cuda, cuda:N, or auto for a GPU if there is one.",
    ),
]
RealMasks = Annotated[
    bool,
    typer.Option(
        "--real-masks",
        help="Take secure sums with every message, key and mask of the protocol. "
        "The model does not depend on it.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but the run folder, warnings and errors.")
]


def run(
    job: JobFile,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    out: Out = None,
    resume: Resume = False,
    workers: Processes = None,
    cluster: Cluster = None,
    executor: Executor = "auto",
    device: Device = "cpu",
    real_masks: RealMasks = False,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Simulate a job, and write everything about it to a run folder.

    Every client trains on its own data, and the server adds up what they send. The folder gets the
    settings, every round, the metrics, the final model and a report. Ctrl-C stops cleanly: nothing is lost,
    and the command that goes on is printed.

    [bold]Examples[/bold]

    tacit run examples/digits.py
    tacit run examples/digits.py --set rounds=5 --set algorithm.local.lr=0.05
    tacit run examples/digits.py --workers 2 --out runs/two
    tacit run examples/digits.py --cluster ray://10.0.0.1:6379
    tacit run examples/digits.py --device cuda
    tacit run examples/digits.py --resume
    tacit run examples/digits.py --json | tail -1 | jq .metrics.central.accuracy
    """
    from tacit.job import load_job  # late: it imports torch
    from tacit.sim import Source
    from tacit.sim import run as simulate

    output, files = Output(as_json), checked_data(data)
    loaded = load_job(job, overrides)
    folder = newest_unfinished(loaded.job.name) if resume and out is None else out
    source = Source(str(job.resolve()), loaded.source_sha256, loaded.overrides)
    watcher = Watcher(output, display_for(output, quiet=quiet), quiet=quiet)

    def again() -> str:
        place = watcher.folder or ""
        where = None if device == "cpu" else device
        options = {
            "--workers": workers,
            "--cluster": cluster,
            "--device": where,
            "--real-masks": real_masks or None,
            "--data": data,
        }
        return resume_command(job, place, overrides, options, as_json=as_json)

    try:
        with watcher:
            result = simulate(
                loaded.job,
                loaded.population,
                folder=folder,
                workers=workers,
                cluster=cluster,
                executor=executor,
                device=device,
                real_masks=real_masks,
                resume=resume,
                data=files,
                observer=watcher,
                source=source,
            )
    except Exception as error:
        raise CommandFailed(error, _known(watcher.folder, again)) from error
    return _conclude(result, output, again, quiet=quiet)


def _conclude(result: "Result", output: Output, again: Callable[[], str], *, quiet: bool) -> int:
    """Tell how the run went, and return the exit code."""
    from tacit.report import summary_table
    from tacit.store.run_folder import REPORT

    known = result.as_dict()
    if quiet and not output.as_json:
        output.say(str(result.folder))
    elif not quiet:
        output.say("", summary_table(result.info, rounds=result.rounds, report=result.folder / REPORT))
        output.say(f"run folder  {result.folder}")
    if result.outcome in ("interrupted", "exhausted"):
        known["resume"] = again()
    if result.outcome == "interrupted":
        output.say("", "Stopped; nothing is lost. To go on:", f"  {known['resume']}")
    if result.outcome == "exhausted":
        output.warn(_exhausted(result, known["resume"]))
    output.result(known)
    return {"interrupted": INTERRUPTED, "exhausted": EXHAUSTED}.get(result.outcome, 0)


def _exhausted(result: "Result", again: str) -> str:
    """Say what was reached when the privacy budget was spent, and what can be done."""
    info = result.info
    reached = "" if info.guarantee is None else f": {info.privacy}"
    return (
        f"the privacy budget is spent after {info.rounds} rounds{reached}\n"
        f"  because: {info.reason}\n"
        "  The model of the last round stands, and what it reveals is within the budget. A new run with more "
        "noise or fewer rounds needs a budget of its own.\n"
        "  If whoever answers for the data sets a larger budget (`tacit ledger budget`), this goes on:\n"
        f"  {again}"
    )


def _known(folder: str | None, again: Callable[[], str]) -> dict[str, Any]:
    """Return what can be told of a run that failed; nothing if it had not begun."""
    from tacit.core.errors import StoreError
    from tacit.sim import Result

    if folder is None:
        return {}
    try:
        return {**Result(folder).as_dict(), "resume": again()}
    except StoreError:  # the disk that the run failed on
        return {"outcome": "failed", "run": folder, "resume": again()}
