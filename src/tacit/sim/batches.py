"""Groups on their way to the workers of a cluster: some at a time, so that few messages are needed."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tacit.sim.engine import Call
from tacit.sim.groups import Cut

_PARTS = 4  # a batch is one of so many parts of what is left for each worker


@dataclass(eq=False)
class Batch:
    """Some groups that are sent together.

    Attributes:
        groups: The groups.
        losses: How many workers died while they had it in hand.
    """

    groups: Cut
    losses: int = 0

    def __len__(self) -> int:
        return len(self.groups.starts)


class Queue:
    """What no worker has in hand: large batches first, single groups in the end, so that all end together.

    Args:
        groups: All groups, the costliest first.
        steps: How much each of them costs.
        workers: Among how many they are dealt out.
    """

    def __init__(self, groups: Sequence[Sequence[Call]], steps: Sequence[int], workers: int) -> None:
        self._groups, self._steps, self._workers = groups, steps, workers
        self._next, self._left = 0, sum(steps)
        self._returned: deque[Batch] = deque()

    def __len__(self) -> int:
        """Return how many groups it holds."""
        return len(self._groups) - self._next + sum(map(len, self._returned))

    def take(self) -> Batch:
        """Return the next batch."""
        if self._returned:
            return self._returned.popleft()
        begin, end = self._next, self._next + 1
        share, cost = self._left / (_PARTS * self._workers), self._steps[begin]
        while end < len(self._groups) and cost + self._steps[end] <= share:
            cost += self._steps[end]
            end += 1
        self._next, self._left = end, self._left - cost
        return Batch(Cut.of(self._groups[begin:end]))

    def put_back(self, batches: Iterable[Batch]) -> None:
        """Take back what a worker had that is lost."""
        self._returned.extend(batches)
