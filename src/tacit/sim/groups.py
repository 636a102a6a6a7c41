"""How a cohort is cut into groups that are trained together."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tacit.core.layout import Vector
from tacit.job import Plan
from tacit.sim.engine import Call

if TYPE_CHECKING:
    from tacit.secagg.masks import Mask

Integers = npt.NDArray[np.int64]
_LOADING = 2.0  # steps: what it costs about to load a client and to add its update to the sum
_MOST = 2**53  # steps: what clients claim to have may be more than 64 bits can count


class Cut(NamedTuple):
    """The groups of a wave as flat arrays: quick to send.

    Attributes:
        positions: Positions of all clients, group after group, shape (clients,).
        limits: Steps after which each one's time is up, shape (clients,).
        starts: Where each group begins, shape (groups,).
        buffers: What those of them that have local buffers start from, by their place in ``positions``.
        masks: What hides the updates of those of them that have masks, by their place.
    """

    positions: Integers
    limits: Integers
    starts: Integers
    buffers: dict[int, Vector]
    masks: "dict[int, tuple[Mask, ...]]"

    @classmethod
    def of(cls, groups: Sequence[Sequence[Call]]) -> "Cut":
        """Flatten groups, none of them empty."""
        calls = [call for group in groups for call in group]
        starts = np.cumsum([0, *map(len, groups[:-1])])
        buffers = {place: call.buffers for place, call in enumerate(calls) if call.buffers is not None}
        masks = {place: call.masks for place, call in enumerate(calls) if call.masks}
        return cls(_positions(calls), _limits(calls), starts, buffers, masks)

    def calls(self, group: int) -> list[Call]:
        """Return the calls of one group."""
        end = self.starts[group + 1] if group + 1 < len(self.starts) else len(self.positions)
        places = range(self.starts[group], end)
        positions, limits = (array[places.start : places.stop].tolist() for array in self[:2])
        return [
            Call(
                position,
                None if limit == _MOST else limit,
                self.buffers.get(place),
                self.masks.get(place, ()),
            )
            for place, position, limit in zip(places, positions, limits, strict=True)
        ]

    def steps(self, plan: Plan) -> Integers:
        """Return how many steps each client does, shape (clients,)."""
        return _steps(self.positions, self.limits, plan)


def groups_of(calls: Sequence[Call], plan: Plan, size: int) -> list[list[Call]]:
    """Cut a cohort into groups of about ``size``: clients of like cost together, the costliest group first.

    There are as many groups as if each had that size, and all have about as much to do: the costliest have
    fewer clients, and none more than twice ``size``.

    The partition follows from the cohort alone, never from the number of workers or from timing: an
    executor may round differently when it trains other clients together.
    """
    if not calls:
        return []
    positions = _positions(calls)
    steps = _steps(positions, _limits(calls), plan)
    order = np.lexsort((positions, -steps))
    starts = _starts(steps[order], size)
    sorted_calls = [calls[i] for i in order.tolist()]
    return [sorted_calls[start:stop] for start, stop in pairwise([*starts, len(calls)])]


def _starts(steps: Integers, size: int) -> list[int]:
    """Return where groups of about the same work begin, for clients sorted by their steps."""
    clients, groups = len(steps), -(-len(steps) // size)
    work = steps.astype(np.float64) + _LOADING
    done = np.cumsum(work)
    wanted = done[-1] * np.arange(groups) / groups
    starts: list[int] = np.searchsorted(done - work / 2, wanted).tolist()
    for group in reversed(range(1, groups)):
        behind = starts[group + 1] if group + 1 < groups else clients
        starts[group] = min(max(starts[group], behind - 2 * size), behind - 1)
    for group in range(1, groups):
        starts[group] = max(starts[group], starts[group - 1] + 1)
    return starts


def costs_of(calls: Sequence[Call], plan: Plan) -> list[int]:
    """Return the local steps of each call, the measure of its cost."""
    steps: list[int] = _steps(_positions(calls), _limits(calls), plan).tolist()
    return steps


def _positions(calls: Sequence[Call]) -> Integers:
    return np.fromiter((call.position for call in calls), dtype=np.int64, count=len(calls))


def _limits(calls: Sequence[Call]) -> Integers:
    limits = [_MOST if call.max_steps is None else min(call.max_steps, _MOST) for call in calls]
    return np.array(limits, dtype=np.int64)


def _steps(positions: Integers, limits: Integers, plan: Plan) -> Integers:
    local = plan.job.algorithm.local
    sizes, which = np.unique(np.maximum(plan.sizes[positions], 1), return_inverse=True)
    each = [min(local.total_steps(size), _MOST) for size in sizes.tolist()]
    return np.minimum(np.array(each, dtype=np.int64)[which], limits)
