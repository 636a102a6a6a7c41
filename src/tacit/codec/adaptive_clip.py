"""Clip to a bound that follows a quantile of the clients' norms."""

import numpy as np

from tacit.codec.clip import clip_rows
from tacit.core.bounds import Positive
from tacit.core.errors import PlanError
from tacit.core.layout import Rows, wider_rows
from tacit.core.part import Part
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.stage import Memory, StageContext, Total

WITHIN = "within_bound"
"""Name of the segment, one coordinate long, that says whether an update was within the bound."""
REACH = 2.0**16
"""The bound never leaves the range from its first value over this to its first value times this."""


class AdaptiveClip(Part, frozen=True, tag="adaptive_clip"):
    """Scale an update down to the round's bound, and say whether that was needed (Andrew et al. 2021).

    What is sent is ``[clip(update), b]`` with ``b = 1/2`` if the update was within the bound and ``-1/2`` if
    it was not: centred, so that one client moves the sum of the bits by a half. A row that is not finite
    becomes zero, its bit too. The bound comes with the round (``StageContext.clipping_bound``) and is never
    taken as larger than ``plan`` has declared, whoever sends it.

    Attributes:
        initial: The bound of the first round.
        segment: Which segment is clipped; it must be all there is.

    >>> AdaptiveClip(initial=1.0).plan(UpdateSpec.of(parameters=4)).names
    ('parameters', 'within_bound')
    """

    initial: Positive
    segment: str = "parameters"

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        if spec.names != (self.segment,):
            raise PlanError(
                "T153",
                f"AdaptiveClip bounds {self.segment!r} alone",
                where=f"segments: {', '.join(spec.names)}",
                fix="Withhold the others, or clip each segment to a bound of its own.",
            )
        largest = self.initial * REACH
        bounded = spec.change(
            self.segment,
            l2_bound=largest,
            coordinate_bound=min(largest, spec.segment(self.segment).coordinate_bound),
        )
        return bounded.append(SegmentSpec(WITHIN, 1, coordinate_bound=0.5, l2_bound=0.5))

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        bound = self._within_reach(ctx.clipping_bound)
        norms = clip_rows(rows, bound)
        sent = wider_rows(rows, 1, ctx.room)
        if sent.ctypes.data != rows.ctypes.data:
            sent[:, :-1] = rows
        sent[:, -1] = np.where(np.isfinite(norms), np.where(norms <= bound, 0.5, -0.5), 0.0)
        return sent, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total

    def _within_reach(self, bound: float | None) -> float:
        """Return a round's bound as far as it was declared; one that is no bound lets nothing through."""
        if bound is None:
            return self.initial
        return min(bound, self.initial * REACH) if bound > 0 else 0.0
