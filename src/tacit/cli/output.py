"""Where a command writes: words for people, and one line of JSON for programs."""

import os
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_FILE_WIDTH = 140  # columns of what is no terminal


class Output:
    """Writes to people on stdout; on stderr where stdout is left to JSON.

    Args:
        as_json: Whether the command was given ``--json``.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @cached_property
    def console(self) -> "Console":
        """The console for people."""
        return console(stderr=self.as_json)

    def say(self, *lines: "RenderableType", style: str | None = None) -> None:
        """Write lines or tables; text is neither wrapped nor read as markup."""
        for line in lines:
            self.console.print(
                line, style=style, markup=False, highlight=False, soft_wrap=isinstance(line, str)
            )

    def warn(self, text: str) -> None:
        """Write a warning to stderr."""
        console(stderr=True).print(
            f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    def show_traceback(self, text: str) -> None:
        """Write a traceback to stderr."""
        console(stderr=True).print(text.rstrip(), style="dim", markup=False, highlight=False, soft_wrap=True)

    def result(self, plain: Mapping[str, Any]) -> None:
        """Write the JSON object, if it was asked for; it is the command's last line."""
        if self.as_json:
            write_json(plain)


def console(*, stderr: bool) -> "Console":
    """Return a console on stdout or stderr as they are now."""
    from rich.console import Console  # late: `--help` does without

    made = Console(stderr=stderr, highlight=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _FILE_WIDTH
    return made


def write_json(plain: Mapping[str, Any]) -> None:
    """Write one line of JSON to stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(plain).decode() + "\n")
    sys.stdout.flush()


def facts(rows: Iterable[tuple[str, str]]) -> "Table":
    """Return names and values as two columns without lines."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value, style="yellow" if value.startswith("not private") else ""))
    return table
