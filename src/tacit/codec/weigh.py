"""Give each update its weight in the mean, capped in public."""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from tacit.core.layout import Rows, finite_rows, wider_rows
from tacit.core.part import Part
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.stage import Memory, StageContext, Total

WEIGHT = "weight"
"""Name of the segment, one coordinate long, that carries the weight."""


class Weigh(Part, frozen=True, tag="weigh"):
    """Multiply each update by its weight and send the weight along: ``[w * update, w]``.

    The sum of both over the cohort gives the exact weighted mean, and is all that anybody needs to see.
    A row that is not finite becomes zero, its weight included.

    Attributes:
        by: ``"examples"`` weighs a client by its number of training examples (McMahan et al. 2017),
            ``"uniform"`` gives every client the weight 1.
        cap: Largest weight; a public constant, so that no client's size says more than "at least cap".

    >>> Weigh(cap=100).plan(UpdateSpec.of(parameters=4)).names
    ('parameters', 'weight')
    """

    by: Literal["examples", "uniform"] = "examples"
    cap: Annotated[int, Meta(ge=1, le=2**24)] = 100_000  # up to 2^24 float32 counts exactly

    @property
    def largest(self) -> int:
        """The largest weight a client can have."""
        return 1 if self.by == "uniform" else self.cap

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        for segment in spec.segments:
            l2_bound = None if segment.l2_bound is None else segment.l2_bound * self.largest
            coordinate_bound = segment.coordinate_bound * self.largest
            spec = spec.change(segment.name, l2_bound=l2_bound, coordinate_bound=coordinate_bound)
        largest = float(self.largest)
        return spec.append(
            SegmentSpec(WEIGHT, 1, coordinate_bound=largest, l2_bound=largest, is_nonnegative=True)
        )

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        finite = None if ctx.is_bounded else finite_rows(rows)
        weights = np.minimum(ctx.examples, self.largest).astype(np.float32)[:, None]
        sent = wider_rows(rows, 1, ctx.room)
        np.multiply(rows, weights, out=sent[:, :-1])
        sent[:, -1:] = weights
        if finite is not None:
            sent[~finite] = 0.0
        return sent, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total
