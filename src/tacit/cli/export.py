"""``tacit export``: a job's training program as a file, and what is in it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tacit.cli.options import AsJson, DataFolder, JobFile, Overrides, checked_data
from tacit.cli.output import Output, facts
from tacit.core.errors import StoreError

if TYPE_CHECKING:
    from rich.table import Table

    from tacit.training.program import Port, Program


def export(
    job: JobFile,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to write it. By default JOB-SHA256.onnx, here.",
            show_default=False,
        ),
    ] = None,
    stacked: Annotated[
        bool, typer.Option("--stacked", help="For many clients in one call, each with its own parameters.")
    ] = False,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write a job's training program, and describe it.

    A program is one local step as an ONNX graph: forward, backward and update. ONNX Runtime runs it without
    PyTorch. It is named by its SHA-256; the same task, settings and versions give the same file.

    [bold]Examples[/bold]

    tacit export examples/digits.py
    tacit export examples/digits.py --stacked --out step.onnx
    tacit export examples/digits.py --json | jq .sha256
    """
    from tacit.job import load_job  # late: it imports torch
    from tacit.sim import export as export_of

    folder = checked_data(data)
    loaded = load_job(job, overrides)
    program = export_of(loaded.job, loaded.population, stacked=stacked, data=folder)
    path = out or Path(f"{loaded.job.name}-{program.sha256[:12]}.onnx")
    _write(path, program.data)
    described = _described(path, program)
    output = Output(as_json)
    output.say(facts(_rows(described)), "")
    output.say(_ports("inputs", program.facts.graph_inputs()), "")
    output.say(_ports("outputs", program.facts.graph_outputs()))
    output.result(described)


def _write(path: Path, content: bytes) -> None:
    """Write the program; a file with other content is never overwritten."""
    from tacit.store.files import write_whole

    if path.exists() and not (path.is_file() and path.read_bytes() == content):
        fix = "Choose another name, or move the file away."
        raise StoreError("T408", "the file exists already, and is another one", where=str(path), fix=fix)
    write_whole(path, content)


def _described(path: Path, program: "Program") -> dict[str, Any]:
    from tacit.core.part import encode
    from tacit.training.program import parse
    from tacit.training.program_check import count_operators

    operators = count_operators(parse(program.data))
    return {
        "file": str(path),
        "sha256": program.sha256,
        "bytes": len(program.data),
        "kind": program.facts.kind,
        "inputs": [encode(port) for port in program.facts.graph_inputs()],
        "outputs": [encode(port) for port in program.facts.graph_outputs()],
        "operators": dict(operators.most_common()),
        "versions": dict(program.facts.versions),
    }


def _rows(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from tacit.report.words import count, size

    operators = described["operators"]
    yield "program", described["file"]
    yield "sha256", described["sha256"]
    yield "size", size(described["bytes"])
    yield "for", "one client" if described["kind"] == "step" else "many clients at once"
    yield "written by", ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    yield (
        f"{count(sum(operators.values()))} operators",
        ", ".join(f"{name} {times}" for name, times in operators.items()),
    )


def _ports(title: str, ports: "Iterable[Port]") -> "Table":
    """Return inputs or outputs as a table."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_column()
    for index, port in enumerate(ports):
        shape = f"[{', '.join(map(str, port.shape))}]"
        # Not as markup: a shape in brackets would be a style.
        table.add_row("" if index else title, *(_text(word) for word in (port.name, f"{port.dtype} {shape}")))
    return table


def _text(word: str) -> Any:
    from rich.text import Text

    return Text(word)
