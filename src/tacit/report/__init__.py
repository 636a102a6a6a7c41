"""Reads a run folder and draws it: the HTML report, the summary on a terminal, runs side by side."""

from tacit.report.compare import ComparedRun, Comparison, compare
from tacit.report.html import render_html, write_report
from tacit.report.summary import summary_table

__all__ = [
    "ComparedRun",
    "Comparison",
    "compare",
    "render_html",
    "summary_table",
    "write_report",
]
