"""``tacit doctor``: is this machine ready, and if not, what to do."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from tacit.cli.options import AsJson, DataFolder
from tacit.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tacit.cli.checks import Check

_SIGNS = {"good": ("ok", "green"), "note": ("note", "cyan"), "problem": ("problem", "bold red")}


def doctor(data: DataFolder = None, as_json: AsJson = False) -> int:
    """Check that this machine is ready: versions, memory, disk, data files.

    Changes nothing. Says what to do about every problem; ends with 1 if there is one.

    [bold]Examples[/bold]

    tacit doctor
    tacit doctor --data /srv/data
    tacit doctor --json | jq '.checks[] | select(.state == "problem")'
    """
    from tacit.cli.checks import examine  # late: it imports torch

    output = Output(as_json)
    checks = list(examine(data))
    problems = sum(check.state == "problem" for check in checks)
    output.say(_table(checks))
    output.say("", "No problem." if not problems else f"Problems: {problems}.")
    output.result({"problems": problems, "checks": [asdict(check) for check in checks]})
    return 1 if problems else 0


def _table(checks: "Sequence[Check]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(Text(*_SIGNS[check.state]), Text(check.name, "bold"), Text(check.says))
        if check.fix:
            table.add_row("", "", Text(f"-> {check.fix}"))
    return table
