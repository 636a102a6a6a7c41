"""The report of an audit: one HTML file that needs nothing else."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tacit.report import audit_charts, audit_words, words
from tacit.report.audit_findings import Findings
from tacit.report.drawing import Chart, drawing

if TYPE_CHECKING:
    from jinja2 import Template
    from rich.console import RenderableType

_BADGES = {"held": "completed", "refuted": "failed", "none": "running"}


@dataclass(frozen=True)
class _Charts:
    bounds: Chart | None
    scores: Chart | None
    membership: Chart | None
    pictures: Chart | None


def render_audit_html(findings: Findings) -> str:
    """Render the report of an audit; equal findings give equal reports."""
    with drawing():
        charts = _Charts(
            audit_charts.bounds(findings),
            audit_charts.scores(findings),
            audit_charts.membership(findings),
            audit_charts.pictures(findings),
        )
    return _template().render(
        findings=findings,
        charts=charts,
        name=words.clean(findings.job, 120),
        badge=_BADGES[findings.verdict],
        outcome=audit_words.OUTCOMES[findings.verdict],
        verdict=audit_words.verdict(findings),
        tiles=audit_words.tiles(findings),
        bounds=audit_words.bounds(findings),
        membership=audit_words.membership(findings),
        inversion=audit_words.inversion(findings),
        facts=audit_words.facts(findings),
    )


def audit_table(findings: Findings) -> "RenderableType":
    """Return what an audit has found, ready for ``rich``'s console."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    styles = {"held": "bold green", "refuted": "bold red", "none": "bold yellow"}
    outcome = (audit_words.OUTCOMES[findings.verdict].lower(), styles[findings.verdict])
    head = Text.assemble((words.clean(findings.job), "bold"), "  ", outcome)
    bounds = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("found by", "assumes", "from", "epsilon at least"):
        bounds.add_column(column, justify="right" if column == "epsilon at least" else "left")
    table = audit_words.bounds(findings)
    for row in table.rows if table is not None else ():
        bounds.add_row(*(Text(cell) for cell in row))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for tile in audit_words.tiles(findings):
        facts.add_row(tile.label.lower(), Text(f"{tile.value}  {tile.note}"))
    for label, value in audit_words.facts(findings):
        facts.add_row(label.lower(), Text(value))
    return Group(head, Text(audit_words.verdict(findings)), "", facts, "", bounds)


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Names and reasons are other people's text: everything is escaped but our own figures.
    environment = Environment(
        loader=PackageLoader("tacit.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("audit.html.j2")
