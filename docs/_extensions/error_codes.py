"""The check that docs/errors.md names every error code of the source, and no other."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

_SOURCE = Path(__file__).parents[2] / "src" / "tacit"
_PAGE = Path(__file__).parents[1] / "errors.md"


def codes_in_source() -> set[str]:
    """Return the codes that the source raises."""
    return {
        code
        for path in _SOURCE.rglob("*.py")
        for code in re.findall(r'^[^#\n]*"(T\d{3})"', path.read_text(), re.MULTILINE)
    }


def codes_in_page() -> list[str]:
    """Return the codes that have a row in the page."""
    return re.findall(r"^\| (T\d{3}) \|", _PAGE.read_text(), re.MULTILINE)


def check(app: Sphinx) -> None:
    """Fail the build if the two differ."""
    raised, explained = codes_in_source(), codes_in_page()
    problems = [f"{code} is raised but not explained" for code in sorted(raised - set(explained))]
    problems += [f"{code} is explained but never raised" for code in sorted(set(explained) - raised)]
    problems += [f"{code} is explained twice" for code in sorted(set(explained)) if explained.count(code) > 1]
    if problems:
        raise ExtensionError("docs/errors.md and the source disagree:\n  " + "\n  ".join(problems))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the check."""
    app.connect("builder-inited", check)
    return {"version": "1", "parallel_read_safe": True}
