"""Runs every example of README.md and of these pages, each page from its beginning, in a folder of its own.

* A Python block runs. One that begins with ``# NAME.py`` is also written to that file.
* A TOML block that begins with ``# NAME.toml`` is written to that file; it must give the same job, and the
  same population, as the last Python block. Any other TOML block is a part of a job: each of its settings
  must equal the Python variable of that name.
* A console block's ``tacit`` commands and options must exist, and so must its ``make`` targets.
"""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import settings
from sybil import Document, Example
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

from tacit.cli.app import app
from tacit.core import part
from tacit.core.part import decode, encode
from tacit.data import Split
from tacit.job import Job, load_job

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


class _Toml(CodeBlockParser):
    language = "toml"

    def evaluate(self, example: Example) -> None:
        path = _file_of(example)
        if path is None:
            _equals_python(tomllib.loads(example.parsed), example.namespace)
        else:
            _is_the_same_job(path, example.namespace)


class _Console(CodeBlockParser):
    language = "console"

    def evaluate(self, example: Example) -> None:
        lines = [line[2:] for line in example.parsed.splitlines() if line.startswith("$ ")]
        assert lines, "a console block shows commands: lines that begin with '$ '"
        for line in lines:
            _exists(shlex.split(line.partition("|")[0], comments=True))


def _file_of(example: Example) -> Path | None:
    """Return the file that a block names in its first line."""
    name = re.match(r"# ([\w.-]+\.(?:py|toml))\n", str(example.parsed))
    return Path(name[1]) if name else None


def _equals_python(tree: dict[str, Any], namespace: dict[str, Any]) -> None:
    plain = {**_A_JOB, **tree}
    population = plain.pop("population", None)
    job = decode(Job, plain)
    for name in tree.keys() - {"population"}:
        assert encode(getattr(job, name)) == encode(namespace[name]), (
            f"`{name}` differs between Python and TOML"
        )
    if population is not None:
        assert decode(Split, population) == namespace["population"]


def _is_the_same_job(path: Path, namespace: dict[str, Any]) -> None:
    loaded, job = load_job(path), encode(namespace["job"])
    again = encode(loaded.job)
    for tree in (job, again):
        del tree["task"]["model"]  # a function of the page, and the same one from a file
    assert again == job
    assert loaded.population == namespace["population"]()


def _exists(words: list[str]) -> None:
    """Check that a command line could be run, without running it."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    if words[0] == "tacit":
        command, rest = typer.main.get_command(app), words[1:]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        given = command.make_context(words[1], rest).params
        if "overrides" in given and given["job"].is_file():  # a job file of the page itself
            load_job(given["job"], given["overrides"])


_A_JOB = {
    "name": "any",
    "rounds": 1,
    "task": {"model": "torch.nn:Identity"},
    "algorithm": {"type": "fedavg", "local": {"type": "local_sgd", "lr": 0.1}},
    "cohort": {"type": "all"},
}
_PARSERS = (PythonCodeBlockParser(), _Toml(), _Console())


def _examples(page: Path) -> Iterator[Example]:
    document = Document.parse(str(page), *_PARSERS)
    document.namespace["__name__"] = "__main__"  # where a reader would write it
    return document.examples()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACIT_MASTER_KEY", str(tmp_path / "master.key"))
    monkeypatch.setenv("TACIT_LEDGER", str(tmp_path / "ledger.db"))
    # What a page registers is forgotten with it.
    monkeypatch.setattr(part, "_classes", vars(part)["_classes"].copy())
    settings.register_profile("docs", deadline=None, max_examples=20)
    before = settings.get_current_profile_name()
    settings.load_profile("docs")
    try:
        for example in _examples(page):
            if path := _file_of(example):
                path.write_text(example.parsed, encoding="utf-8")
            example.evaluate()
    finally:
        settings.load_profile(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_to_files(page: Path) -> None:
    broken = [target for target in _LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert not broken


def test_own_model_and_data_take_less_than_forty_lines() -> None:
    page = (ROOT / "docs/own-model-and-data.md").read_text()
    programs = re.findall(r"```python\n(# \w+\.py\n.*?)```", page, re.DOTALL)
    assert len(programs) == 3
    assert all(len(program.splitlines()) < 40 for program in programs)


def test_every_section_of_a_report_is_explained() -> None:
    template = (ROOT / "src/tacit/report/template.html.j2").read_text()
    page = (ROOT / "docs/reports.md").read_text()
    sections = re.findall(r"<h2>([^<{]+)</h2>", template)
    assert sections
    assert [section for section in sections if f"\n{section}\n: " not in page] == []


def test_the_diagram_of_a_round_shows_its_phases() -> None:
    from typing import get_args

    from tacit.round.server import Phase

    picture = (ROOT / "docs/_static/phases.svg").read_text()
    assert all(f">{phase}</text>" in picture for phase in get_args(Phase))
