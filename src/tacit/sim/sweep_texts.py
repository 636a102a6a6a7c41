"""What ``tacit sweep`` is given on the command line, as values."""

import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

from tacit.core.errors import ConfigError


def read_over(over: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Return the settings and values that ``--over KEY=V1,V2,...`` names.

    >>> read_over(["clipping_bound=0.5,none"])
    {'clipping_bound': (0.5, None)}

    Raises:
        ConfigError: It is not of the form, or names a setting twice.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for text in over:
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not key or not values.strip():
            fix = "For example: --over algorithm.local.lr=0.05,0.1"
            raise ConfigError("T135", f"`--over {text}` is not of the form path=value,value,...", fix=fix)
        if key in grid:
            fix = "Give all its values at once, with commas between them."
            raise ConfigError("T135", f"`{key}` is swept twice", where="--over", fix=fix)
        grid[key] = tuple(_value(value) for value in _parts(values))
    return grid


def read_seeds(text: str) -> int | tuple[int, ...]:
    """Return what ``--seeds`` names: how many, or which, told by a comma.

    >>> read_seeds("3"), read_seeds("0,1"), read_seeds("7,")
    (3, (0, 1), (7,))

    Raises:
        ConfigError: It names none.
    """
    given = [part for part in text.split(",") if part.strip()]
    try:
        numbers = tuple(int(part) for part in given)
    except ValueError:
        numbers = ()
    if not numbers:
        fix = "Write how many, --seeds 3, or which, --seeds 0,1,2."
        raise ConfigError("T135", f"`--seeds {text}` names no seeds", where="--seeds", fix=fix)
    return numbers if "," in text else numbers[0]


def _parts(text: str) -> Iterator[str]:
    """Split at commas, but not within brackets, braces or quotes.

    >>> list(_parts('[1, 2],"a,b",none'))
    ['[1, 2]', '"a,b"', 'none']
    """
    depth, quote, part = 0, "", ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        depth += (sign in "[{") - (sign in "]}") if not quote else 0
        if sign == "," and not quote and depth == 0:
            yield part
            part = ""
        else:
            part += sign
    yield part


def _value(text: str) -> Any:
    """Read one value as ``--set`` does: as TOML has it, a bare word is a string, and ``none`` is no value."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        bare = text.strip()
    if not bare:
        raise ConfigError(
            "T135", "a value is missing between two commas", where="--over", fix="Remove a comma."
        )
    return None if bare == "none" else bare
