"""Peak memory of a process and everything it started."""

import math
import os
import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

PROC = Path("/proc")
KIB_PER_MB = 1024


class PeakMemory:
    """Watch the summed PSS of a process and all its descendants while a block runs.

    PSS counts a page that is shared by n processes as 1/n in each, so the sum over a family of processes
    counts it once: a memory-mapped data set, or a model in shared memory, is not multiplied by the workers
    as it is in RSS. Pages shared with a stranger (another process that uses the same libraries) count in
    part, so compare figures that were taken in the same company.

    A thread looks every ``interval_s`` seconds, at the start and at the end; a shorter spike can be missed.
    ``peak_mb`` then holds the largest sum in MB of 2**20 bytes, or NaN where the system has no
    ``smaps_rollup``. A look takes one or two milliseconds a process and holds it up meanwhile: where every
    core is busy, do not time what is being watched.

    >>> with PeakMemory() as memory:
    ...     work = bytearray(2**20)
    >>> memory.peak_mb > 1 or not is_supported()
    True
    """

    def __init__(self, pid: int | None = None, *, interval_s: float = 0.1) -> None:
        if not interval_s > 0:
            raise ValueError(f"interval_s must be positive, not {interval_s}")
        self.pid = os.getpid() if pid is None else pid
        self.interval_s = interval_s
        self.peak_mb = math.nan
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        if is_supported():
            self.peak_mb = 0.0
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="peak-memory")
            self._watch: Future[None] = self._pool.submit(self._look_until_stopped)
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop.set()
        if is_supported():
            self._pool.shutdown()
            self._watch.result()

    def look(self) -> None:
        """Look once more, for instance after the block."""
        if is_supported():
            self.peak_mb = max(self.peak_mb, tree_pss_mb(self.pid))

    def _look_until_stopped(self) -> None:
        self.look()
        while not self._stop.wait(self.interval_s):
            self.look()
        self.look()


def is_supported() -> bool:
    """Say whether this system reports PSS (Linux 4.14 and later)."""
    return (PROC / "self" / "smaps_rollup").exists()


def tree_pss_mb(pid: int) -> float:
    """Sum the PSS of a process and all its descendants, now."""
    return sum(_pss_kib(member) for member in family(pid)) / KIB_PER_MB


def family(pid: int) -> list[int]:
    """List a process and all its living descendants."""
    children = _children_by_parent()
    members = [pid]
    for member in members:
        members.extend(children[member])
    return members


def _children_by_parent() -> defaultdict[int, list[int]]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            children[_parent(int(folder.name))].append(int(folder.name))
    return children


def _parent(pid: int) -> int:
    # The command name stands in brackets and may itself hold brackets and spaces: read from the last one.
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else -1


def _pss_kib(pid: int) -> int:
    for line in _read(PROC / str(pid) / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    """Read a file of /proc; a process that has ended meanwhile reads as empty."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
