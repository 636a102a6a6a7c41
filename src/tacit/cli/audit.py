"""``tacit audit``: attack a job, and hold what it gives away against what it claims."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tacit.cli.failures import CommandFailed
from tacit.cli.options import AsJson, DataFolder, JobFile, Overrides, checked_data
from tacit.cli.output import Output
from tacit.core.errors import RunError

if TYPE_CHECKING:
    from tacit.sim.audit_job import AuditResult

Canaries = Annotated[
    int | None,
    typer.Option(
        "--canaries",
        metavar="N",
        min=1,
        help="Clients whose place a canary takes. By default as many as fit, 500 at most.",
        show_default=False,
    ),
]
Runs = Annotated[
    int | None,
    typer.Option(
        "--runs",
        metavar="R",
        min=1,
        help="Play the rounds so often; from 16 on, runs are compared, too. By default until there are "
        "200 canaries in all.",
        show_default=False,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        metavar="K",
        min=1,
        help="Audit the first K rounds alone. By default all of the job.",
        show_default=False,
    ),
]
Records = Annotated[
    int,
    typer.Option(
        "--records",
        metavar="N",
        min=0,
        help="Ask the trained model about N records; the job is run twice for that. 0: do not.",
    ),
]
Pictures = Annotated[
    int, typer.Option("--pictures", metavar="N", min=0, help="Invert the updates of N clients. 0: do not.")
]
Train = Annotated[
    bool,
    typer.Option(
        "--train",
        help="Let the other clients train. By default they send zeros: what is known hides nobody, and a "
        "promise holds whatever they send.",
    ),
]
Confidence = Annotated[
    float, typer.Option("--confidence", metavar="P", help="Probability with which the lower bounds hold.")
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="Where findings and report go. By default audits/NAME-DATE-TIME.",
        show_default=False,
    ),
]


def audit(
    job: JobFile,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    canaries: Canaries = None,
    runs: Runs = None,
    rounds: Rounds = None,
    records: Records = 200,
    pictures: Pictures = 4,
    train: Train = False,
    confidence: Confidence = 0.99,
    folder: Folder = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> int:
    """Attack a job in simulation, and hold what it gives away against what it claims.

    Canary clients give lower bounds on epsilon; membership inference says which records the final model was
    trained on; single updates are inverted, as they are and as they are released, with pictures. Fails if a
    lower bound is above the claim. For a job without privacy it shows what an attacker gains.

    [bold]Examples[/bold]

    tacit audit examples/digits.py
    tacit audit job.py --rounds 1 --runs 200 --records 0
    tacit audit job.py --canaries 100 --folder audits/first
    tacit audit job.py --json | jq .bounds
    """
    from tacit.job import load_job  # late: it imports torch
    from tacit.sim.audit_job import Effort
    from tacit.sim.audit_job import audit as audit_job

    output, files = Output(as_json), checked_data(data)
    loaded = load_job(job, overrides)
    effort = Effort(
        canaries=canaries,
        runs=runs,
        rounds=rounds,
        records=records,
        pictures=pictures,
        train=train,
        confidence=confidence,
    )
    result = audit_job(
        loaded.job, loaded.population, effort=effort, folder=folder, data=files, say=output.say
    )
    return conclude(result, output)


def conclude(result: "AuditResult", output: Output) -> int:
    """Tell what was found, and return the exit code.

    Raises:
        CommandFailed: A lower bound is above the claim.
    """
    from tacit.report.audit import audit_table
    from tacit.report.audit_words import verdict

    output.say("", audit_table(result.findings), f"report  {result.report}")
    if result.findings.verdict == "refuted":
        what = verdict(result.findings).rstrip(".")
        fix = "Treat what was released under this claim as not private, and find out why."
        raise CommandFailed(RunError("T356", what, where=str(result.report), fix=fix), result.as_dict())
    output.result(result.as_dict())
    return 0
