"""How much a process grows, at most, while a block runs."""

from pathlib import Path
from typing import Self

_SELF = Path("/proc/self")
KIB_PER_MB = 1024


class Peak:
    """The growth of this process's resident memory while a block runs, at its highest.

    The system keeps the highest mark itself: no spike is missed, and nothing is held up. ``mb`` holds it in
    MB of 2**20 bytes, or NaN where there is no such mark (it is Linux's). Memory that was freed before and
    not given back is there already and is not counted, so measure first what is large.

    >>> with Peak() as peak:
    ...     work = bytearray(b"1" * 2**24)
    >>> peak.mb >= 16 or not peak.mb >= 0
    True
    """

    def __enter__(self) -> Self:
        self.mb = float("nan")
        if not _is_supported():
            return self
        (_SELF / "clear_refs").write_text("5")  # the highest mark is now where the process stands
        self._before = _status_kib("VmRSS")
        return self

    def __exit__(self, *reason: object) -> None:
        if _is_supported():
            self.mb = (_status_kib("VmHWM") - self._before) / KIB_PER_MB


def _is_supported() -> bool:
    return (_SELF / "clear_refs").exists()


def _status_kib(name: str) -> int:
    for line in (_SELF / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)
