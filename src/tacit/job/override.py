"""``--set a.b=c``: change one setting of a frozen tree, with the checks that the file would get."""

import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from tacit.core.errors import ConfigError
from tacit.core.part import Settings, decode, nearest

S = TypeVar("S", bound=Settings)


def override(settings: S, path: str, text: str, *, root: str = "$") -> S:
    """Return ``settings`` with the value at ``path`` replaced.

    Args:
        settings: A block of settings.
        path: Field names joined by dots, positions in lists among them (``"compression.0.bits"``).
        text: The value as TOML would have it; a bare word is a string, and ``none`` is no value.
        root: What the path in an error message starts with.

    Raises:
        ConfigError: No such setting, or a value of the wrong type or size.
    """
    return _set(settings, path.split("."), _parse(text), root)  # type: ignore[no-any-return]


def _set(value: Any, steps: list[str], new: Any, where: str) -> Any:
    if not steps:
        return new
    step, rest = steps[0], steps[1:]
    if isinstance(value, tuple) and step.isdecimal() and int(step) < len(value):
        changed = _set(value[int(step)], rest, new, f"{where}[{step}]")
        return (*value[: int(step)], changed, *value[int(step) + 1 :])
    if isinstance(value, Mapping):
        return {**value, step: _set(value.get(step), rest, new, f"{where}.{step}")}
    if not isinstance(value, Settings):
        raise ConfigError(
            "T101", f"Unknown setting `{step}`", where=where, fix="This setting has nothing below it."
        )
    names = [field.name for field in msgspec.structs.fields(value)]
    if step not in names:
        what = f"Unknown setting `{step}`{nearest(step, names)}"
        fix = f"Known here: {', '.join(sorted(names))}." if names else "There is nothing to set here."
        raise ConfigError("T101", what, where=where, fix=fix)
    fields = msgspec.structs.asdict(value)
    fields[step] = _set(fields[step], rest, new, f"{where}.{step}")
    tag = value.__struct_config__.tag
    return decode(type(value), fields if tag is None else {"type": tag, **fields}, root=where)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        bare = text.strip()
        return None if bare == "none" else bare
