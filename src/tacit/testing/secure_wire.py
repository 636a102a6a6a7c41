"""Attackers on the wire, for the ``wire`` of `play`: they hold no key, and change bytes."""

from tacit.secagg.messages import Message, limit_of
from tacit.testing.secure_group import SecureGroup


class FlippedByte:
    """Changes one byte of one message, the first of its kind from or to a client.

    Args:
        client: Whose.
        kind: Of which kind.
        index: Which byte.
        flip: What it is XORed with, not 0.

    Attributes:
        length: Bytes of the message, once it has passed.
    """

    def __init__(self, client: str, kind: type[Message], index: int, flip: int = 1) -> None:
        self._client, self._kind, self._index, self._flip = client, kind, index, flip
        self.length = 0

    def __call__(self, client: str, kind: type[Message], data: bytes, /) -> bytes:
        """Pass a message on."""
        if (client, kind) != (self._client, self._kind) or self.length:
            return data
        self.length = len(data)
        if self._index >= len(data):
            return data
        changed = bytearray(data)
        changed[self._index] ^= self._flip
        return bytes(changed)


class Oversized:
    """Makes one message longer than any of its kind can be in the group.

    Args:
        group: The group.
        client: Whose message.
        kind: Of which kind.
    """

    def __init__(self, group: SecureGroup, client: str, kind: type[Message]) -> None:
        self._group, self._client, self._kind = group, client, kind

    def __call__(self, client: str, kind: type[Message], data: bytes, /) -> bytes:
        """Pass a message on."""
        if (client, kind) != (self._client, self._kind):
            return data
        count = len(self._group.clients)
        return data.ljust(limit_of(kind, count, count - 1, self._group.chunk) + 1, b"\0")
