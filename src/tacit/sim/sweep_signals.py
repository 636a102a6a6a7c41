"""Ctrl-C and SIGTERM during a sweep, also those that one of its runs has caught for itself."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tacit.sim.interrupt import Interruption, interruption

_STOPPING = frozenset({signal.SIGINT, signal.SIGTERM})


class SweepInterruption:
    """Remembers that somebody asked to stop, whoever was listening.

    A run handles signals itself while it goes on. One that comes after its last safe point, while it draws
    its report, would be forgotten with the run; the sweep overhears it at the operating system's own pipe.

    Args:
        own: What was asked between runs.
        reader: Where the operating system's signals arrive; None where this thread gets none.
    """

    def __init__(self, own: Interruption, reader: socket.socket | None) -> None:
        self._own, self._reader, self._heard = own, reader, False

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""
        if self._reader is not None and not self._heard:
            self._heard = bool(_STOPPING & set(_arrived(self._reader)))
        return self._own.asked or self._heard


@contextmanager
def sweep_interruption() -> Iterator[SweepInterruption]:
    """Catch SIGINT and SIGTERM while a sweep goes on, where this thread may."""
    with interruption() as own:
        own.patient = True  # what is complete stays, and there are files to be written
        if threading.current_thread() is not threading.main_thread():
            yield SweepInterruption(own, None)
            return
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)
            writer.setblocking(False)
            before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                yield SweepInterruption(own, reader)
            finally:
                signal.set_wakeup_fd(before)


def _arrived(reader: socket.socket) -> bytes:
    try:
        return reader.recv(4096)
    except BlockingIOError:
        return b""
