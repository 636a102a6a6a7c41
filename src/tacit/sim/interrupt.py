"""Ctrl-C and SIGTERM: stop at the next safe point; at once when asked twice, or before the run has begun."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Somebody asked the run to stop."""


class Interruption:
    """Remembers that somebody asked to stop.

    Attributes:
        asked: Whether somebody did.
        patient: Whether to wait for a safe point; until there is something to lose, stop at once.
    """

    def __init__(self) -> None:
        self.asked = self.patient = False

    def check(self) -> None:
        """Raise ``Interrupted`` if somebody asked to stop."""
        if self.asked:
            raise Interrupted

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM while a run goes on, where this thread may."""
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {number: signal.signal(number, state._ask) for number in (signal.SIGINT, signal.SIGTERM)}  # noqa: SLF001
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
