"""Masked vectors on their way from one process to another, in files that only memory holds.

Unlike a pipe they never make the reader wait, so that what is timed there does not begin with a cold cache,
and they are nobody's memory: what a process has read is.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

_MEMORY = Path("/dev/shm")
_LENGTH = 4


class Mailbox:
    """One client's messages, all there before they are read; used again for another client's."""

    def __enter__(self) -> Self:
        folder = _MEMORY if _MEMORY.is_dir() else None
        handle, name = tempfile.mkstemp(prefix="tacit-", dir=folder)
        os.close(handle)
        self.name = name.encode()
        return self

    def __exit__(self, *reason: object) -> None:
        Path(self.name.decode()).unlink()

    def read(self, buffers: list[bytearray]) -> Iterator[memoryview]:
        """Yield the messages, each read into a buffer of its own, where it stays until that is used again."""
        with Path(self.name.decode()).open("rb", buffering=0) as file:
            number = 0
            while length := file.read(_LENGTH):
                size = int.from_bytes(length, "big")
                if number == len(buffers):
                    buffers.append(bytearray())
                buffer = buffers[number]
                buffer.extend(bytes(max(size - len(buffer), 0)))
                view = memoryview(buffer)[:size]
                file.readinto(view)
                yield view
                number += 1


def post(name: bytes, messages: Iterable[bytes]) -> None:
    """Put messages into the mailbox of a name, in place of those before."""
    with Path(name.decode()).open("wb") as file:
        for message in messages:
            file.write(len(message).to_bytes(_LENGTH, "big"))
            file.write(message)
