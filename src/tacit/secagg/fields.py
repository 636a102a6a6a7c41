"""Fields of a fixed width, of which messages are made.

A value has one encoding and a size that depends on counts alone, never on what is in it: no message tells
by its length which position, id or share it carries. Nothing is parsed that was not measured before.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, Protocol

from tacit.core.errors import LocalProtocolError, RemoteProtocolError

NAME_BYTES = 64
"""A client's id takes at most this many bytes of UTF-8."""


@dataclass(frozen=True)
class Counts:
    """What the size of a message depends on, beside its kind.

    Attributes:
        clients: Members of the group.
        neighbours: Neighbours of a member.
        chunk: Bytes of a full chunk of the masked vector.
        signed: Whether messages carry signatures and certificates (malicious mode, enrolled clients).
        post_quantum: Whether ML-KEM keys and capsules travel.
    """

    clients: int = 0
    neighbours: int = 0
    chunk: int = 0
    signed: bool = True
    post_quantum: bool = True


class Reader:
    """Hands out the bytes of a message from first to last."""

    __slots__ = ("_at", "data")

    def __init__(self, data: memoryview) -> None:
        self.data, self._at = data, 0

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes."""
        if size > self.left:
            malformed("it is too short")
        self._at += size
        return self.data[self._at - size : self._at]

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self.data) - self._at


class Field(Protocol):
    """Writes one value, reads it back, and knows how many bytes it takes."""

    def write(self, value: Any, out: bytearray) -> None: ...
    def read(self, reader: Reader) -> Any: ...
    def size(self, counts: Counts) -> int: ...
    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Number:
    """A whole number from ``least`` to below ``least + 256**width``, big endian."""

    width: int
    least: int = 0

    def write(self, value: int, out: bytearray) -> None:
        try:
            out += (value - self.least).to_bytes(self.width, "big")
        except OverflowError:
            _impossible(f"{value} does not fit {self.width} bytes")

    def read(self, reader: Reader) -> int:
        return int.from_bytes(reader.take(self.width), "big") + self.least

    def size(self, counts: Counts) -> int:
        return self.width


@dataclass(frozen=True)
class Exactly:
    """Bytes of one length."""

    length: int

    def write(self, value: bytes, out: bytearray) -> None:
        if len(value) != self.length:
            _impossible(f"{len(value)} bytes where {self.length} belong")
        out += value

    def read(self, reader: Reader) -> bytes:
        return bytes(reader.take(self.length))

    def size(self, counts: Counts) -> int:
        return self.length


@dataclass(frozen=True)
class Either:
    """Bytes of one length or another; the longer where keys are post-quantum."""

    short: int
    long: int

    def write(self, value: bytes, out: bytearray) -> None:
        if len(value) not in (self.short, self.long):
            _impossible(f"{len(value)} bytes where {self.short} or {self.long} belong")
        out.append(len(value) == self.long)
        out += value

    def read(self, reader: Reader) -> bytes:
        return bytes(reader.take(self.long if _flag(reader) else self.short))

    def size(self, counts: Counts) -> int:
        return 1 + (self.long if counts.post_quantum else self.short)


@dataclass(frozen=True)
class Name:
    """An id, in the same room whatever its length: a byte that tells the length, the text, zeros."""

    def write(self, value: str, out: bytearray) -> None:
        text = value.encode()
        if not 0 < len(text) <= NAME_BYTES:
            raise LocalProtocolError(
                "T572",
                f"an id of {len(text)} bytes, not 1 to {NAME_BYTES}",
                where=value[:NAME_BYTES],
                fix="Secure aggregation needs shorter ids of clients.",
            )
        out.append(len(text))
        out += text.ljust(NAME_BYTES, b"\0")

    def read(self, reader: Reader) -> str:
        length, text = reader.take(1)[0], bytes(reader.take(NAME_BYTES))
        if not 0 < length <= NAME_BYTES or any(text[length:]):
            malformed("an id is not written the one way it must be")
        try:
            return text[:length].decode()
        except UnicodeDecodeError:
            malformed("an id is no text")

    def size(self, counts: Counts) -> int:
        return 1 + NAME_BYTES


@dataclass(frozen=True)
class Maybe:
    """A value or its absence (``nothing``), told by one byte; present where ``present`` says so."""

    inner: Field
    nothing: Any
    present: Callable[[Counts], bool]

    def write(self, value: Any, out: bytearray) -> None:
        out.append(value != self.nothing)
        if value != self.nothing:
            self.inner.write(value, out)

    def read(self, reader: Reader) -> Any:
        return self.inner.read(reader) if _flag(reader) else self.nothing

    def size(self, counts: Counts) -> int:
        return 1 + (self.inner.size(counts) if self.present(counts) else 0)


@dataclass(frozen=True)
class Many:
    """A tuple of records after their number in four bytes; ``ordered``: ascending by what comes first."""

    inner: Field
    count: Callable[[Counts], int]
    ordered: bool = True

    def write(self, value: tuple[Any, ...], out: bytearray) -> None:
        if self.ordered and not _ascends(value):
            _impossible("records out of order")
        out += len(value).to_bytes(4, "big")
        for record in value:
            self.inner.write(record, out)

    def read(self, reader: Reader) -> tuple[Any, ...]:
        count = int.from_bytes(reader.take(4), "big")
        # Read one by one, no room made before: a count that lies ends at the last byte.
        value = tuple(self.inner.read(reader) for _ in range(count))
        if self.ordered and not _ascends(value):
            malformed("its records are out of order")
        return value

    def size(self, counts: Counts) -> int:
        return 4 + self.count(counts) * self.inner.size(counts)


@dataclass(frozen=True)
class Row:
    """Several fields one after the other: a plain tuple, or the ``names`` of what ``build`` makes of them."""

    inner: tuple[Field, ...]
    build: Callable[..., Any] | None = None
    names: tuple[str, ...] = ()

    def write(self, value: Any, out: bytearray) -> None:
        parts = [getattr(value, name) for name in self.names] if self.names else value
        for field, part in zip(self.inner, parts, strict=True):
            field.write(part, out)

    def read(self, reader: Reader) -> Any:
        parts = tuple([field.read(reader) for field in self.inner])
        return self.build(**dict(zip(self.names, parts, strict=True))) if self.build else parts

    def size(self, counts: Counts) -> int:
        return sum(field.size(counts) for field in self.inner)


@dataclass(frozen=True)
class Alike:
    """What many messages have in common: its bytes are kept, not made anew for each of them."""

    inner: Field

    def write(self, value: Hashable, out: bytearray) -> None:
        out += _bytes_of(self.inner, value)

    def read(self, reader: Reader) -> Any:
        return self.inner.read(reader)

    def size(self, counts: Counts) -> int:
        return self.inner.size(counts)


@dataclass(frozen=True)
class Rest:
    """All bytes that are left; a view of them unless they are ``copied``."""

    length: Callable[[Counts], int]
    multiple: int = 1
    copied: bool = True

    def write(self, value: bytes | memoryview, out: bytearray) -> None:
        body = memoryview(value).cast("B")
        if not len(body) or len(body) % self.multiple:
            _impossible(f"a body of {len(body)} bytes")
        out += body

    def read(self, reader: Reader) -> bytes | memoryview:
        if not reader.left or reader.left % self.multiple:
            malformed("its body has an impossible length")
        body = reader.take(reader.left)
        return bytes(body) if self.copied else body

    def size(self, counts: Counts) -> int:
        return self.length(counts)


@lru_cache(maxsize=4)
def _bytes_of(field: Field, value: Hashable) -> bytes:
    out = bytearray()
    field.write(value, out)
    return bytes(out)


def malformed(what: str) -> NoReturn:
    """Refuse what a peer sent (T551)."""
    raise RemoteProtocolError("T551", f"a malformed message: {what}")


def _impossible(what: str) -> NoReturn:
    raise LocalProtocolError("T571", f"no message can be made: {what}")


def _flag(reader: Reader) -> bool:
    flag = reader.take(1)[0]
    if flag > 1:
        malformed("a flag is neither 0 nor 1")
    return bool(flag)


def _ascends(records: Iterable[Any]) -> bool:
    keys = [record[0] for record in records]
    return all(a < b for a, b in itertools.pairwise(keys))
