"""``tacit ledger``: what was spent of everybody's privacy, whether the record is whole, and its limit."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.failures import CommandFailed
from tacit.cli.options import AsJson
from tacit.cli.output import Output, facts

if TYPE_CHECKING:
    from rich.table import Table

    from tacit.privacy.ledger import Book, Budget, Mark, Total
    from tacit.store.ledger import Ledger

_DEFAULT_DELTA = 1e-6  # where neither an option nor a budget says at which delta to state epsilon

ledger = typer.Typer(
    name="ledger",
    help="What all jobs together have spent of a population's privacy.",
    epilog="""
[bold]Examples[/bold]

tacit ledger show                         every population
tacit ledger verify ward-7                whether its record is whole
tacit ledger budget ward-7 --epsilon 8 --delta 1e-6

Every command takes --json and --ledger PATH.
""",
)

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="POPULATION|RUN",
        help="A population of the ledger, or a run folder that holds a ledger of its own. By default all.",
        show_default=False,
    ),
]
LedgerPath = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="PATH",
        help="The ledger's file. By default that of TACIT_LEDGER, or one among the user's data.",
        show_default=False,
    ),
]
AtDelta = Annotated[
    float | None,
    typer.Option(
        "--delta",
        metavar="D",
        help="State epsilon at this delta. By default at the budget's, or at 1e-6.",
        show_default=False,
    ),
]


@ledger.command()
def show(
    target: Target = None, path: LedgerPath = None, delta: AtDelta = None, as_json: AsJson = False
) -> None:
    """Show what was spent, by population and by run.

    A simulated run keeps its ledger in its run folder: name the folder.

    [bold]Examples[/bold]

    tacit ledger show
    tacit ledger show ward-7 --delta 1e-7
    tacit ledger show runs/digits-20250503-140211
    tacit ledger show --json | jq '.populations[].epsilon'
    """
    if delta is not None and not 0 < delta < 1:
        raise typer.BadParameter("--delta lies between 0 and 1")
    output, (file, wanted) = Output(as_json), _located(target, path)
    with _reading(file) as opened:
        accounts = [_account(opened.book(name), delta) for name in _chosen(opened, wanted)]
    for account in accounts:
        output.say(facts(_rows(account)), *_runs_table(account["runs"]), "")
    if not accounts:
        output.say("Nothing has been spent.")
    output.result({"ledger": str(file), "populations": accounts})


@ledger.command()
def verify(
    target: Target = None,
    path: LedgerPath = None,
    heads: Annotated[
        list[str],
        typer.Option(
            "--head",
            metavar="N:SHA256",
            help="An entry known from elsewhere that must be there: from a run folder, an assignment, an "
            "earlier `verify`. May be given several times.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Check that the record is whole and unchanged.

    Every entry names the digest of the one before, so a changed or missing entry shows. That the end was cut
    off or a backup put back shows only against entries known from elsewhere: --head.

    [bold]Examples[/bold]

    tacit ledger verify
    tacit ledger verify ward-7 --head 812:9f2c...
    tacit ledger verify runs/digits-20250503-140211
    """
    output, (file, wanted) = Output(as_json), _located(target, path)
    known = [_mark(head) for head in heads]
    if known and wanted is None:
        raise typer.BadParameter("--head is an entry of one population: name it")
    with _reading(file) as opened:
        found = {name: opened.verify(name, known) for name in _chosen(opened, wanted)}
        sound = {name: opened.book(name).mark for name, findings in found.items() if not findings}
    for name, findings in found.items():
        said = [finding.what for finding in findings] or [
            f"whole, head {sound[name].sequence}:{sound[name].sha256}"
        ]
        output.say(*(f"{_clean(name)}: {line}" for line in said))
    plain = {
        "ledger": str(file),
        "findings": [
            {"population": name, "kind": one.kind, "sequence": one.sequence, "what": one.what}
            for name, findings in found.items()
            for one in findings
        ],
        "heads": {name: {"sequence": mark.sequence, "sha256": mark.sha256} for name, mark in sound.items()},
    }
    for name, findings in found.items():
        for finding in findings:
            raise CommandFailed(finding.as_error(name), plain)
    output.result(plain)


@ledger.command()
def budget(
    population: Annotated[
        str, typer.Argument(metavar="POPULATION", help="The population.", show_default=False)
    ],
    epsilon: Annotated[
        float, typer.Option("--epsilon", metavar="E", help="The most that may be spent.", show_default=False)
    ],
    delta: Annotated[
        float, typer.Option("--delta", metavar="D", help="The delta it is stated at.", show_default=False)
    ],
    path: LedgerPath = None,
    as_json: AsJson = False,
) -> None:
    """Set the most that all jobs on a population may ever spend together.

    A round that would exceed it is refused before it starts. The old limit stays on record.

    [bold]Examples[/bold]

    tacit ledger budget ward-7 --epsilon 8 --delta 1e-6
    tacit ledger budget ward-7 --epsilon 8 --delta 1e-6 --ledger /srv/tacit/ledger.db
    """
    from tacit.store.ledger import Ledger, ledger_path

    output, file = Output(as_json), path or ledger_path()
    with Ledger(file) as opened:
        before = opened.budget(population)
        opened.set_budget(population, epsilon, delta)
        account = _account(opened.book(population), None)
    output.say(facts(_rows(account)))
    if not account["epsilon"] <= epsilon:
        output.warn("more than that has been spent already: every further round will be refused")
    output.result({"ledger": str(file), "before": _budget(before), **account})


# --- below: finding, opening, pricing and wording ------------------------------------------------


def _located(target: str | None, path: Path | None) -> tuple[Path, str | None]:
    """Return the ledger's file, and the one population that is asked for."""
    from tacit.store.ledger import LEDGER, ledger_path
    from tacit.store.run_folder import INFO, RunFolder

    if path is not None:
        return path, target
    if target is not None and Path(target, INFO).is_file():
        return RunFolder.existing(target).path / LEDGER, None
    return ledger_path(), target


def _reading(file: Path) -> "Ledger":
    from tacit.store.ledger import Ledger

    return Ledger(file, read_only=True)


def _chosen(opened: "Ledger", wanted: str | None) -> Sequence[str]:
    """Return the populations to look at.

    Raises:
        StoreError: The one that is asked for is not there.
    """
    from tacit.core.errors import StoreError
    from tacit.core.part import nearest

    known = opened.populations()
    if wanted is None or wanted in known:
        return known if wanted is None else [wanted]
    what = f"the ledger knows no population `{_clean(wanted)}`{nearest(wanted, known)}"
    fix = f"Known: {', '.join(map(_clean, known)) or 'none'}. Or name a run folder."
    raise StoreError("T427", what, where=str(opened.path), fix=fix)


def _mark(text: str) -> "Mark":
    from tacit.core.errors import ConfigError
    from tacit.core.part import decode
    from tacit.privacy.ledger import Mark

    sequence, _, sha256 = text.partition(":")
    try:
        return decode(Mark, {"sequence": int(sequence), "sha256": sha256})
    except (ValueError, ConfigError):
        raise typer.BadParameter(f"--head is an entry's number and digest, N:SHA256, not {text}") from None


def _account(book: "Book", delta: float | None) -> dict[str, Any]:
    """Return what is known of a population as plain data; an epsilon without bound is infinite."""
    at = delta or (book.budget.delta if book.budget else _DEFAULT_DELTA)
    total = book.spent()
    jobs = {charge.run: charge.job for charge in book.charges}
    return {
        "population": book.population,
        "entries": book.mark.sequence,
        "head": {"sequence": book.mark.sequence, "sha256": book.mark.sha256},
        "unit": book.unit,
        "adjacency": total.adjacency,
        "budget": _budget(book.budget),
        "delta": at,
        "epsilon": _priced(total, at),
        "runs": [_run(job, run, book.spent(run), at) for run, job in jobs.items()],
    }


def _run(job: str, run: str, spent: "Total", delta: float) -> dict[str, Any]:
    return {
        "job": job,
        "run": run,
        "events": sum(spent.events.values()),
        "adjacency": spent.adjacency,
        "epsilon": _priced(spent, delta),
    }


def _priced(spent: "Total", delta: float) -> float:
    """Return epsilon; infinity where nothing is known of these events under the relation they share."""
    from tacit.core.errors import PlanError
    from tacit.privacy.accounting import epsilon  # late: it imports SciPy

    try:
        return spent.epsilon(epsilon, delta)
    except PlanError:
        return math.inf


def _budget(found: "Budget | None") -> dict[str, float] | None:
    return None if found is None else {"epsilon": found.epsilon, "delta": found.delta}


def _rows(account: dict[str, Any]) -> Iterator[tuple[str, str]]:
    limit = account["budget"]
    yield "population", _clean(account["population"])
    yield "spent", f"{_epsilon(account['epsilon'])} at delta {account['delta']:.3g}"
    if account["unit"]:
        yield "protects", f"each {account['unit']}, relation {account['adjacency']}"
    yield "budget", f"epsilon {limit['epsilon']:.4g} at delta {limit['delta']:.3g}" if limit else "none"
    yield "head", f"{account['head']['sequence']}:{account['head']['sha256']}"


def _runs_table(runs: Sequence[dict[str, Any]]) -> "Iterator[Table]":
    """Yield a table of the runs, if there are any."""
    from rich.table import Table

    if not runs:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("job", "run", "events", "epsilon by itself"):
        table.add_column(column, justify="left" if column in ("job", "run") else "right")
    for run in runs:
        by_itself = _epsilon(run["epsilon"]).removeprefix("epsilon ")
        table.add_row(_clean(run["job"]), _clean(run["run"]), str(run["events"]), by_itself)
    yield table


def _epsilon(value: float) -> str:
    return "no guarantee" if math.isinf(value) else f"epsilon {value:.4g}"


def _clean(text: str) -> str:
    from tacit.report.words import clean

    return clean(text)
