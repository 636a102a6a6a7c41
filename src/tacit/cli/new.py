"""``tacit new``: write a job file to start from."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import AsJson
from tacit.cli.output import Output
from tacit.core.errors import ConfigError, StoreError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # what a job may be called


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the job; a folder may come before it.", show_default=False
        ),
    ],
    toml: Annotated[
        bool,
        typer.Option("--toml", help="Write NAME.toml with the settings and NAME_model.py with the model."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a complete job file to start from.

    It is small, commented and needs no download: a hundred phones learn to read digits. Existing files are
    never overwritten.

    [bold]Examples[/bold]

    tacit new first          writes first.py; then: tacit run first.py
    tacit new first --toml   writes first.toml and first_model.py
    """
    stem = _stem(name)
    templates = {".toml": "job.toml.txt", "_model.py": "model.py.txt"} if toml else {".py": "job.py.txt"}
    contents = {
        stem.with_name(stem.name + ending): _filled(template, stem.name)
        for ending, template in templates.items()
    }
    for path in contents:
        _refuse_existing(path)
    for path, text in contents.items():
        _write(path, text)
    output, job = Output(as_json), next(iter(contents))
    output.say(*(f"wrote {path}" for path in contents), f"next: tacit run {job}")
    output.result({"job": str(job), "files": [str(path) for path in contents]})


def _stem(name: str) -> Path:
    """Return the path without ending.

    Raises:
        ConfigError: A job cannot have that name.
    """
    path = Path(name)
    stem = path.with_suffix("") if path.suffix in (".py", ".toml") else path
    if not _NAME.fullmatch(stem.name):
        fix = "Begin with a letter or digit, and go on with letters, digits, '-', '_' or '.'; 64 at most."
        raise ConfigError("T133", f"{stem.name!r} cannot be the name of a job", where="NAME", fix=fix)
    return stem


def _filled(template: str, name: str) -> str:
    text = files("tacit.cli").joinpath("templates", template).read_text(encoding="utf-8")
    return text.replace("JOB_NAME", name)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        fix = "Choose another name, or move the file away."
        raise StoreError("T408", "the file exists already", where=str(path), fix=fix)


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        fix = "Choose a folder that exists and that you may write to."
        raise StoreError("T401", f"cannot write: {error.strerror}", where=str(path), fix=fix) from None
