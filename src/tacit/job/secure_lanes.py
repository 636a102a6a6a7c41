"""How wide the lanes of a secure sum are, and what grid follows from that."""

import math
from dataclasses import dataclass

from tacit.codec import OnGrid
from tacit.core.rule import Grid, Lane
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.secagg.ring import LaneGroup, Ring

WIDE_BITS = 52
"""Lanes of small segments, and of those that only a coarse limit bounds; float64 still adds them exactly."""
SMALL = 64
"""Segments with fewer coordinates have wide lanes: they weigh nothing."""
_FINEST = 2.0**-120  # of a stage's steps


@dataclass(frozen=True)
class Lanes:
    """What follows from what a client sends, and from how many clients, for lanes of any width.

    Attributes:
        spec: Declared facts about what is rounded.
        clients: Most clients in one group.
        whole: The finest grid for the sum of all groups, with its noise.
    """

    spec: UpdateSpec
    clients: int
    whole: Grid

    def with_bits(self, lane_bits: int) -> tuple[OnGrid, Grid, Ring]:
        """Return stage, grid and ring for parameters in lanes of so many bits."""
        bits = [lane_bits if _is_narrow(segment) else WIDE_BITS for segment in self.spec.segments]
        each = zip(self.spec.segments, bits, self.whole.lanes, strict=True)
        steps = {
            s.name: max(_step(s.coordinate_bound, self.clients, b), whole.step, _FINEST)
            for s, b, whole in each
        }
        stage = OnGrid(steps=steps)
        lanes = tuple(
            Lane(s.size, steps[s.name], 0.0 if s.is_nonnegative else -s.coordinate_bound, s.coordinate_bound)
            for s in stage.plan(self.spec).segments
        )
        ring = Ring(tuple(LaneGroup(s.size, b) for s, b in zip(self.spec.segments, bits, strict=True)))
        return stage, Grid(lanes, self.whole.clients), ring


def _is_narrow(segment: SegmentSpec) -> bool:
    """Tell whether a segment is long, and bounded well enough for narrow lanes."""
    return segment.size >= SMALL and segment.l2_bound is not None


def _step(bound: float, clients: int, bits: int) -> float:
    """Return the finest step with which a signed lane of so many bits holds so many rounded values."""
    most = 2 ** (bits - 1) - 1
    step = 2.0 ** math.ceil(math.log2(bound / most * clients))
    while math.ceil(bound / step) * clients > most:  # rounding goes up to the next point of the grid
        step *= 2
    return step
