"""Which worker trains which group: longest first, by measured cost; who has none left takes others'."""

import fcntl
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tacit.sim.groups import Cut, Integers
from tacit.sim.shared import SharedBlock

Floats = npt.NDArray[np.float64]
_CLAIM = 9  # bytes: a float64 and a flag
_NEWEST = 0.5  # share of a client's pace that the last measurement has


class Dealer:
    """Deals groups to workers by what their clients were measured to cost.

    It decides who trains what first, and so how long a round takes; it changes no result.

    Args:
        clients: How many the population has.
    """

    def __init__(self, clients: int) -> None:
        self._pace = np.full(clients, np.nan, dtype=np.float32)  # seconds a step; NaN: not known yet

    def deal(self, cut: Cut, steps: Integers, workers: int) -> list[list[int]]:
        """Return for each worker the numbers of its groups, longest first: all get about as much to do.

        Args:
            cut: The groups.
            steps: How many steps each of their clients does, shape (clients,).
            workers: How many there are.
        """
        costs = self._costs(cut, steps)
        shares: list[list[int]] = [[] for _ in range(workers)]
        loads = [0.0] * workers
        for group in np.argsort(-costs, kind="stable").tolist():
            lightest = loads.index(min(loads))
            shares[lightest].append(group)
            loads[lightest] += costs[group]
        return shares

    def note(self, cut: Cut, steps: Integers, seconds: Floats) -> None:
        """Learn how long each group took, shape (groups,)."""
        pace = seconds / np.maximum(np.add.reduceat(steps, cut.starts), 1)
        new = np.repeat(pace, np.diff(cut.starts, append=len(steps))).astype(np.float32)
        old = self._pace[cut.positions]
        self._pace[cut.positions] = np.where(np.isnan(old), new, old + np.float32(_NEWEST) * (new - old))

    def _costs(self, cut: Cut, steps: Integers) -> Floats:
        pace = self._pace[cut.positions].astype(np.float64)
        known = ~np.isnan(pace)
        pace[~known] = pace[known].mean() if known.any() else 1.0
        costs: Floats = np.add.reduceat(steps * pace, cut.starts)
        return costs


class Claims:
    """Which groups of a round are taken: memory that all workers share, so that none waits for its parent.

    Attributes:
        seconds: How long each group took, shape (most,).

    Args:
        block: The shared memory, as large as ``bytes_for`` says; a worker's descriptor is its lock.
    """

    def __init__(self, block: SharedBlock) -> None:
        most = block.size // _CLAIM
        self._handle = block.handle
        self.seconds: Floats = block.array(np.float64, most)
        self._taken = block.view(8 * most, most)

    @staticmethod
    def bytes_for(groups: int) -> int:
        """Return how many bytes the claims of that many groups take."""
        return _CLAIM * groups

    def clear(self) -> None:
        """Begin a round: nothing is taken. Only while no worker trains."""
        self._taken[:] = bytes(len(self._taken))

    def take(self, first: Sequence[int], count: int) -> Iterator[int]:
        """Take one's own groups one by one, then what nobody has begun of all ``count``, the last first."""
        for group in (*first, *reversed(range(count))):
            if self._is_mine(group):
                yield group

    def _is_mine(self, group: int) -> bool:
        if self._taken[group]:
            return False
        fcntl.lockf(self._handle, fcntl.LOCK_EX)  # the kernel lets go of it if this process is killed
        try:
            if self._taken[group]:
                return False
            self._taken[group] = 1
            return True
        finally:
            fcntl.lockf(self._handle, fcntl.LOCK_UN)
