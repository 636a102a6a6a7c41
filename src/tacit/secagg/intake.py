"""Add masked vectors up as they arrive, without keeping more than a few of them."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.keys import ChunkTags
from tacit.secagg.messages import VectorChunk
from tacit.secagg.ring import Words

Body = bytes | bytearray | memoryview
_WORD = 8


@dataclass
class _Arriving:
    """One vector on its way: the pieces of it that are in the sum already."""

    tags: ChunkTags
    parts: list[Body] = field(default_factory=list)


class VectorIntake:
    """The sum of all vectors that came whole.

    A few clients at a time are *admitted* to send theirs; the others wait in the order in which they asked.
    So the memory is that of the sum and of ``at_once`` vectors, whatever the group. A piece is verified and
    added when it comes, while it is in the processor's cache, and kept, not copied, until all are there:
    one that breaks off is taken off again.

    Args:
        words: Of one vector.
        chunk: Bytes of every piece but the last.
        at_once: How many vectors may be under way.
    """

    def __init__(self, words: int, chunk: int, at_once: int) -> None:
        self._total: Words = np.zeros(words, np.uint64)
        self._chunk, self._at_once = chunk, at_once
        self._pieces = -(-words * _WORD // chunk)
        self._arriving: dict[str, _Arriving] = {}
        self._queue: deque[tuple[str, ChunkTags]] = deque()

    def asks(self, client: str) -> bool:
        """Tell whether the client has announced its vector, and it is not in the sum."""
        return client in self._arriving or any(client == waiting for waiting, _ in self._queue)

    def announce(self, client: str, tags: ChunkTags) -> None:
        """Let a client wait for its turn."""
        self._queue.append((client, tags))

    def admit(self) -> tuple[str, ...]:
        """Return the clients whose turn has come."""
        admitted = []
        while self._queue and len(self._arriving) < self._at_once:
            client, tags = self._queue.popleft()
            self._arriving[client] = _Arriving(tags)
            admitted.append(client)
        return tuple(admitted)

    def take(self, client: str, chunk: VectorChunk) -> bool:
        """Take the next piece of a client's vector; tell whether the whole is in the sum now.

        Raises:
            RemoteProtocolError: T555, it is not the client's turn; T565, it is not the next piece, or is of a
                wrong length; T561, its tag is wrong. The client is to be dropped then.
        """
        arriving = self._arriving.get(client)
        if arriving is None:
            raise RemoteProtocolError("T555", "a piece of a vector came before its turn")
        done = len(arriving.parts)
        size = min(self._chunk, len(self._total) * _WORD - done * self._chunk)
        if chunk.index != done or len(chunk.body) != size:
            what = f"piece {chunk.index} of {len(chunk.body)} bytes, where piece {done} of {size} is due"
            raise RemoteProtocolError("T565", what)
        arriving.tags.check(done, chunk.body, chunk.tag)
        place = self._place(done)
        np.add(place, _words(chunk.body), out=place)
        arriving.parts.append(chunk.body)
        if done + 1 < self._pieces:
            return False
        del self._arriving[client]
        return True

    def drop(self, client: str) -> None:
        """Take off what has come of a client's vector; it has no turn any more. A whole vector stays."""
        arriving = self._arriving.pop(client, None)
        for index, body in enumerate(arriving.parts if arriving else ()):
            place = self._place(index)
            np.subtract(place, _words(body), out=place)
        self._queue = deque(waiting for waiting in self._queue if waiting[0] != client)

    def add(self, total: Words) -> None:
        """Add a sum of vectors that came whole elsewhere."""
        self._total += total

    def close(self) -> Words:
        """Take off every vector that has not come whole, and return the sum of those that have."""
        self._queue.clear()
        for client in tuple(self._arriving):
            self.drop(client)
        return self._total

    def _place(self, index: int) -> Words:
        return self._total[index * self._chunk // _WORD :][: self._chunk // _WORD]


def _words(body: Body) -> Words:
    return np.frombuffer(body, np.dtype("<u8"))
