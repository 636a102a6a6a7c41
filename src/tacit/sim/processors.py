"""Which processor a process runs on: a round may be over before the system has found out what is best."""

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache


def processors_of(workers: int) -> Sequence[int | None]:
    """Return on which processor each worker is to stay, where they are to use all of them.

    The system may let two share one for as long as a short round lasts. With fewer workers than processors
    it is left to the system: somebody else's may be among them.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    processors = sorted(os.sched_getaffinity(0))
    return processors if len(processors) == workers else [None] * workers


def processor_here() -> int | None:
    """Return on which processor this thread runs at this moment; None where nobody can tell."""
    number = _getcpu()()
    return number if number >= 0 else None


@cache
def _getcpu() -> Callable[[], int]:
    try:
        getcpu = ctypes.CDLL(None).sched_getcpu
    except (OSError, AttributeError, TypeError):  # not Linux
        return lambda: -1
    getcpu.restype = ctypes.c_int
    found: Callable[[], int] = getcpu
    return found
