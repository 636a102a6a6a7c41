"""The command ``tacit``: its subcommands, and how it ends.

Nothing heavy is imported here: what a command needs it imports when it is called, so that ``tacit --help``
is quick.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from tacit.cli.audit import audit
from tacit.cli.compare import compare
from tacit.cli.doctor import doctor
from tacit.cli.evaluate import evaluate
from tacit.cli.export import export
from tacit.cli.failures import guarded
from tacit.cli.ledger import ledger
from tacit.cli.new import new
from tacit.cli.plan import plan
from tacit.cli.report import report
from tacit.cli.run import run
from tacit.cli.sweep import sweep

_EPILOG = """
[bold]Where to begin[/bold]

tacit new first       a job file to start from, complete and offline
tacit plan first.py   what it would cost, and what would be refused
tacit run first.py    simulate it: progress, run folder, report

[bold]Exit codes[/bold]

0  it worked                       1  a bug, or doctor found a problem
2  a setting or an option is wrong 3  data is missing or does not fit
4  the run failed                  5  a folder cannot be read or written
6  a message was not allowed       7  the privacy budget is spent
130  stopped by Ctrl-C; can be resumed

Every error has a number and says what, where and what to do.
"""

app = typer.Typer(
    name="tacit",
    help="Federated learning: many parties train one PyTorch model, and everybody keeps their data.",
    epilog=_EPILOG,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (new, plan, run, sweep, evaluate, audit, export, report, compare, doctor):
    app.command()(_command)
app.add_typer(ledger)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: What follows ``tacit`` on the command line; by default the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _invoke(given or ["--help"]), as_json="--json" in given)


def _invoke(arguments: list[str]) -> int:
    """Call the command itself: typer's own driver would word errors and Ctrl-C differently."""
    command = typer.main.get_command(app)
    with command.make_context("tacit", arguments) as context:
        return command.invoke(context) or 0


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tacit {version('tacit')}")
        raise typer.Exit


@app.callback()
def _tacit(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""
