"""Let an update count for less the older the model is that it was trained from."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from tacit.codec.adaptive_clip import WITHIN
from tacit.core.errors import PlanError
from tacit.core.layout import Rows, finite_rows
from tacit.core.part import Part
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, StageContext, Total
from tacit.core.staleness import staleness_weight


class Discount(Part, frozen=True, tag="discount"):
    """Multiply the whole row, its weight included, by ``(1 + staleness) ** -exponent``.

    In buffered-asynchronous training a sum mixes updates of several versions of the model, and under masks
    nobody but the client can weigh its own. The staleness comes with the epoch (``StageContext.staleness``)
    and is public, as is the exponent: who knows when a client checked in knows its factor, and nothing else.

    It stands behind the stage that weighs, so that ``[s w update, s w]`` is sent and a weighted mean divides
    by what was added; behind every clip, which would undo it; and before the rounding to a secure sum's grid.
    No coordinate grows, so the bounds declared before still hold. A row that is not finite becomes zero.

    Attributes:
        exponent: How fast old updates fade; 1/2 is FedBuff's (Nguyen et al. 2022), 0 changes nothing.

    >>> Discount().plan(UpdateSpec.of(parameters=4, weight=1)).names
    ('parameters', 'weight')
    """

    adds_noise: ClassVar[bool] = True  # a row that noise has hidden before must not be made zero behind it

    exponent: Annotated[float, Meta(ge=0, le=8)] = 0.5

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        if WITHIN in spec.names:
            raise PlanError(
                "T153",
                f"Discount would fade {WITHIN!r}, and the clipping bound follows a count of whole clients",
                where=f"segments: {', '.join(spec.names)}",
                fix="Use a clipping bound that stays.",
            )
        return spec

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        if not ctx.is_bounded:
            rows[~finite_rows(rows)] = 0.0
        factor = np.float32(staleness_weight(ctx.staleness, self.exponent))
        if factor != 1:
            # Rounded to nearest, a product with a factor below 1 is never beyond what was multiplied.
            np.multiply(rows, factor, out=rows)
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total
