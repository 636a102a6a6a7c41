"""``tacit compare``: runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import AsJson
from tacit.cli.output import Output

RunPaths = Annotated[
    list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders, two or more.", show_default=False)
]


def compare(runs: RunPaths, as_json: AsJson = False) -> None:
    """Put runs side by side.

    Shows what came out, what it cost, and which settings differ.

    [bold]Examples[/bold]

    tacit compare runs/one runs/two
    tacit compare runs/digits-* --json | jq .differences
    """
    from tacit.report import compare as compare_runs  # late: it imports NumPy
    from tacit.store import RunFolder

    if len(runs) < 2:
        raise typer.BadParameter("name two run folders or more")
    comparison, output = compare_runs([RunFolder.existing(run) for run in runs]), Output(as_json)
    output.say(comparison)
    output.result(comparison.as_dict())
