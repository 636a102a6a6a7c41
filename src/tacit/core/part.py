"""Settings as frozen values: closed, typed, and the same from Python and from a file.

``Settings`` is the base of every block of settings; ``Part`` is a block of a *kind* that may have
several implementations (a stage, a rule, a cohort, ...), tagged and kept in an open registry, so that
parts of other packages decode too (entry-point group ``tacit.parts``).
"""

import difflib
import importlib
import importlib.metadata
import re
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Any, TypeVar

import msgspec
import numpy as np

from tacit.core.errors import ConfigError

T = TypeVar("T")

ENTRY_POINTS = "tacit.parts"
"""The entry-point group under which other packages name the modules of their parts."""
_classes: list[type["Part"]] = []


@typing.dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class _KeywordOnly(msgspec.StructMeta):
    """Makes fields keyword-only unless a class says otherwise; msgspec asks every class anew."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        return super().__new__(mcs, name, bases, namespace, **{"kw_only": True, **options})


class Settings(msgspec.Struct, metaclass=_KeywordOnly, frozen=True, forbid_unknown_fields=True):
    """A frozen block of typed settings; a value built in Python obeys what a file must obey.

    Raises:
        ConfigError: A field has the wrong type or breaks its bound.
    """

    def __post_init__(self) -> None:
        for name, annotation in _annotations(type(self)).items():
            value = getattr(self, name)
            try:
                checked = _convert(value, annotation)
            except msgspec.ValidationError as error:
                raise _explain(error, f"{type(self).__name__}.{name}", annotation, value) from None
            if checked is not value:  # a list becomes a tuple, an int a float
                msgspec.structs.force_setattr(self, name, checked)


class Record(msgspec.Struct, metaclass=_KeywordOnly, frozen=True, forbid_unknown_fields=True):
    """Facts that tacit writes down itself: checked where they are read, trusted where they are made."""


class Part(Settings, frozen=True, tag_field="type"):
    """A tagged, registered block of settings with behaviour: a stage, a rule, an optimizer, ...

    A subclass names its tag: ``class ClipL2(Part, frozen=True, tag="clip_l2")``. Behaviour is stated by
    the protocol it satisfies, never inherited.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__name__.startswith("_"):  # a shared base is no part of its own
            _classes.append(cls)


def registry() -> dict[str, type[Part]]:
    """Return every known part by tag, those of other packages (entry points) included.

    Raises:
        TypeError: Two different parts claim one tag.
    """
    _load_entry_points()
    known: dict[str, type[Part]] = {}
    for part in _classes:
        tag = str(part.__struct_config__.tag)
        other = known.setdefault(tag, part)
        # A module imported twice under one name (a reload) may replace its own part, nobody else's.
        if (other.__module__, other.__qualname__) != (part.__module__, part.__qualname__):
            raise TypeError(f"tag {tag!r} is claimed by {_name(other)} and {_name(part)}")
        known[tag] = part
    return known


if typing.TYPE_CHECKING:
    Reference = Callable[..., Any] | str
    References = Sequence[Reference]
else:

    class _CallableOrName(type):
        def __instancecheck__(cls, value: object) -> bool:
            return callable(value) or isinstance(value, str)

    class Reference(metaclass=_CallableOrName):
        """A callable, or the name of one: a built-in's, ``"package:function"`` or ``"file.py:function"``."""

    References = tuple[Reference, ...]


def parts(kind: type[T]) -> dict[str, type[T]]:
    """Return every registered part that satisfies the protocol ``kind``, by tag."""
    known = sorted(registry().items())
    return {tag: typing.cast(type[T], part) for tag, part in known if _satisfies(part, kind)}


def decode(kind: type[T], data: object, *, root: str = "$") -> T:
    """Turn plain data (from TOML, JSON or Python) into a value of ``kind``.

    Raises:
        ConfigError: Unknown field (named, with the nearest match), wrong type or bound (with the path).
    """
    try:
        return typing.cast(T, _convert(data, kind))
    except msgspec.ValidationError as error:
        raise _explain(error, root, kind, data) from None


def encode(value: object) -> Any:
    """Turn a value into plain data that TOML and JSON can hold; ``decode`` is its inverse.

    Callables become their address (``"package:function"``); ``None`` fields are left out.

    Raises:
        ConfigError: A value in it is not plain and cannot be made so.
    """
    plain = msgspec.to_builtins(value, enc_hook=_encode_other, str_keys=True)
    return _without_none(plain)


def address(function: Callable[..., Any]) -> str:
    """Return ``"module:qualified.name"``, or ``"file.py:name"`` for what a job file defines."""
    module = sys.modules.get(function.__module__)
    source = vars(module).get("__tacit_file__") if module is not None else None
    # A partial or a callable object has no name: what is written says what it is, and leads nowhere.
    name = getattr(function, "__qualname__", f"{type(function).__qualname__}(...)")
    return f"{source or function.__module__}:{name}"


def resolve(name: str) -> Callable[..., Any]:
    """Import what ``"package:function"`` names.

    Raises:
        ConfigError: No such module, no such name in it, or the name of something that cannot be called.
    """
    module_name, _, path = name.partition(":")
    if not path or not module_name or module_name.startswith("."):
        raise _no_callable(name)
    try:
        target: Any = importlib.import_module(module_name)
        for step in path.split("."):
            target = getattr(target, step)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "T107", f"cannot import {name!r}: {error}", fix="Check the spelling and PYTHONPATH."
        ) from None
    if not callable(target):
        raise _no_callable(name)
    return typing.cast(Callable[..., Any], target)


# --- below: how msgspec's conversion is steered -------------------------------------------------

_AT = re.compile(r" - at `\$(.*?)`$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*?)`")
_WRONG_TYPE = ("Expected", "Missing", "Invalid", "Object missing")


def _convert(data: object, kind: Any) -> Any:
    return msgspec.convert(data, kind, dec_hook=_decode_custom)


def _decode_custom(kind: Any, data: Any) -> Any:
    """Decode a field whose annotation is a protocol, a callable or a path."""
    if kind is Path and isinstance(data, str):
        return Path(data)
    if isinstance(data, kind) or not isinstance(data, dict):
        return data  # msgspec checks isinstance afterwards and words the complaint
    tag = data.get("type")
    known = parts(kind)
    if not isinstance(tag, str) or tag not in known:
        raise _unknown_tag(tag, kind, known)
    return decode(known[tag], data)


def _no_callable(name: str) -> ConfigError:
    return ConfigError("T107", f"{name!r} names no callable", fix='Write it as "package.module:function".')


def _unknown_tag(tag: object, kind: Any, known: Iterable[str]) -> ConfigError:
    fix = f"One of: {', '.join(known)}."
    if tag is None:
        return ConfigError("T103", "Object missing required field `type`", where="$", fix=fix)
    return ConfigError(
        "T102", f"Unknown {kind.__name__.lower()} `{tag}`{nearest(str(tag), known)}", where="$", fix=fix
    )


def _explain(error: msgspec.ValidationError, root: str, kind: Any, data: object) -> ConfigError:
    """Word msgspec's complaint; one raised by a block inside keeps its words and gets the longer path."""
    what, path = str(error), ""
    found = _AT.search(what)
    if found:
        what, path = what[: found.start()], found.group(1)
    inner = error.__cause__
    if isinstance(inner, ConfigError):
        below = re.sub(r"^[^.\[]*", "", inner.where)
        return type(inner)(inner.code, inner.what, where=root + path + below, fix=inner.fix)
    unknown = _UNKNOWN_FIELD.match(what)
    if unknown:
        fields = _fields_at(kind, data, path)
        what = f"Unknown setting `{unknown.group(1)}`{nearest(unknown.group(1), fields)}"
        fix = (
            f"Known here: {', '.join(sorted(fields))}."
            if fields
            else "There is nothing to set here: remove it."
        )
        return ConfigError("T101", what, where=root + path, fix=fix)
    if what.startswith(_WRONG_TYPE):
        return ConfigError(
            "T103", what, where=root + path, fix="Write a value of that type and within that bound."
        )
    return ConfigError("T104", what, where=root + path, fix="Choose a value that the setting allows.")


def _fields_at(kind: Any, data: object, path: str) -> list[str]:
    """Return the field names of the block that ``path`` leads to, following the data's own tags."""
    current, value = kind, data
    for key, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        annotation = _annotations(current).get(key) if key and _is_settings(current) else current
        value = _step(value, key, index)
        current = _block_of(annotation, value)
    return [field.encode_name for field in msgspec.structs.fields(current)] if _is_settings(current) else []


def _step(value: Any, key: str, index: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if index and isinstance(value, list | tuple):
        return value[int(index)]
    return getattr(value, key, None)


def _block_of(annotation: Any, value: Any) -> Any:
    tag = value.get("type") if isinstance(value, dict) else None
    if isinstance(tag, str) and tag in registry():
        return registry()[tag]
    candidates = [annotation, *typing.get_args(annotation)]
    return next((c for c in candidates if _is_settings(c)), annotation)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean `x`?" for the closest known word, or nothing if none is close."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{match[0]}`?" if match else ""


def _encode_other(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if callable(value):
        return address(value)
    what = f"a {type(value).__name__} cannot be written to a file"
    raise ConfigError("T108", what, fix="Pass numbers, words, lists or tables, and build the rest from them.")


def _without_none(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _without_none(value) for key, value in plain.items() if value is not None}
    if isinstance(plain, list | tuple):
        return [_without_none(value) for value in plain]
    return plain


@cache
def _annotations(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _satisfies(part: type, kind: Any) -> bool:
    """Tell whether a class has every member of a protocol, or is a subclass of a class."""
    if not getattr(kind, "_is_protocol", False):
        return issubclass(part, kind)
    members = {
        name
        for base in kind.__mro__
        if getattr(base, "_is_protocol", False)
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
        if not name.startswith("_")
    }
    return all(hasattr(part, member) for member in members)


@cache
def _load_entry_points() -> None:
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()
