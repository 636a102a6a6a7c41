"""Several values as one string of bytes that can be read in one way only, and hashes of it."""

import hashlib
from functools import lru_cache

Item = bytes | bytearray | str | int
"""What can be framed: bytes, a word, or a whole number from 0 to 2^64 - 1."""
_BYTES = (bytes, bytearray)  # a tuple: a union would be made anew for every item
PROTOCOL = "tacit/secagg/1"
"""Stands in every hash, signature and derived key: a new version shares none of them with this one."""


def framed(*items: Item) -> bytes:
    """Return the items with their kind and length before each, so that different items never look alike.

    >>> framed("ab", "c") == framed("a", "bc"), framed(1) == framed("1")
    (False, False)

    Raises:
        TypeError: An item is none of ``Item``.
        OverflowError: A number is negative or beyond 64 bits.
    """
    parts: list[bytes | bytearray] = []
    for item in items:
        if isinstance(item, _BYTES):
            parts += (_head(b"b", len(item)), item)
        elif isinstance(item, str):
            data = item.encode()
            parts += (_head(b"s", len(data)), data)
        elif type(item) is int:
            parts += (_NUMBER, item.to_bytes(8, "big"))
        else:
            raise TypeError(f"a {type(item).__name__} cannot be framed")
    return b"".join(parts)


def digest(label: str, *items: Item) -> bytes:
    """Return SHA-256 of the items under a label, 32 bytes."""
    return hashlib.sha256(framed(PROTOCOL, label, *items)).digest()


@lru_cache(maxsize=4096)
def _head(kind: bytes, length: int) -> bytes:
    return kind + length.to_bytes(8, "big")


_NUMBER = _head(b"i", 8)
