"""Several values as one string of bytes that can be read in one way only, and hashes of it."""

import hashlib

Item = bytes | bytearray | str | int
"""What can be framed: bytes, a word, or a whole number from 0 to 2^64 - 1."""
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
        kind, data = _plain(item)
        parts += (kind, len(data).to_bytes(8, "big"), data)
    return b"".join(parts)


def digest(label: str, *items: Item) -> bytes:
    """Return SHA-256 of the items under a label, 32 bytes."""
    return hashlib.sha256(framed(PROTOCOL, label, *items)).digest()


def _plain(item: Item) -> tuple[bytes, bytes | bytearray]:
    if isinstance(item, str):
        return b"s", item.encode()
    if isinstance(item, bool) or not isinstance(item, int | bytes | bytearray):
        raise TypeError(f"a {type(item).__name__} cannot be framed")
    if isinstance(item, int):
        return b"i", item.to_bytes(8, "big")
    return b"b", item
