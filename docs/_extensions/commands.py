"""The command line's reference: the directive ``{commands}`` documents every command of the program."""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from tacit.cli.app import app as program


class Commands(SphinxDirective):
    """Document every command of ``tacit``, each below a heading of its own."""

    def run(self) -> list[nodes.Node]:
        group = typer.main.get_command(program)
        found = group.commands.items()  # type: ignore[attr-defined]
        pages = [page(*one) for name, command in found for one in with_subcommands(name, command)]
        return self.parse_text_to_nodes("\n\n".join(pages), allow_section_headings=True)


def with_subcommands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command and those below it, each with its whole name."""
    yield name, command
    for below, inner in getattr(command, "commands", {}).items():
        yield from with_subcommands(f"{name} {below}", inner)


def page(name: str, command: Any) -> str:
    """Return what is to be said about one command, as Markdown."""
    if not command.help:
        raise ExtensionError(f"the command `tacit {name}` has no help text")
    about, _, examples = command.help.partition("[bold]Examples[/bold]")
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    rest = ["COMMAND"] if hasattr(command, "commands") else ["[OPTIONS]"]
    usage = " ".join(["tacit", name, *(argument.metavar for argument in arguments), *rest])
    lines = [f"## tacit {name}", "", plain(about), "", "```text", usage, "```", ""]
    for argument in arguments:
        lines += [f"`{argument.metavar}`", f": {described(argument, name)}", ""]
    for option in options:
        names = ", ".join(f"`{text}`" for text in option.opts)
        value = "" if option.is_flag else f" `{option.metavar or option.type.name.upper()}`"
        lines += [f"{names}{value}", f": {described(option, name)}", ""]
    if examples.strip():
        lines += ["```text", textwrap.dedent(examples).strip(), "```", ""]
    return "\n".join(lines)


def described(parameter: Any, command: str) -> str:
    """Return a parameter's help text."""
    if not parameter.help:
        raise ExtensionError(f"`{parameter.name}` of `tacit {command}` has no help text")
    return plain(parameter.help)


def plain(text: str) -> str:
    """Return help text as Markdown: no rich markup, options as code, no line breaks in a paragraph."""
    text = re.sub(r"\[/?(bold|dim|italic)\]", "", text).replace("\b", "")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]
    return "\n\n".join(re.sub(r"(?<![`\w])(--?[a-z][a-z-]*)(?![`\w])", r"`\1`", part) for part in paragraphs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"version": "1", "parallel_read_safe": True}
