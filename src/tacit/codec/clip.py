"""Bound what one client can add to the cohort's sum."""

import numpy as np

from tacit.core.bounds import Positive
from tacit.core.errors import PlanError
from tacit.core.layout import Rows, finite_rows
from tacit.core.part import Part
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, StageContext, Total


class ClipL2(Part, frozen=True, tag="clip_l2"):
    """Scale one segment of an update down so that its L2 norm is at most ``bound``.

    What one client can add to the cohort's sum follows from it and from what comes after: weighed by at
    most ``cap``, it is ``cap * bound``. ``plan`` says so. A row that is not finite becomes zero.

    Attributes:
        bound: Largest L2 norm of the segment, before weighing.
        segment: Which segment is clipped; the others pass unchanged.

    >>> ClipL2(bound=1.0).plan(UpdateSpec.of(parameters=4)).l2_bound
    1.0
    """

    bound: Positive
    segment: str = "parameters"

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        if self.segment not in spec.names:
            raise PlanError(
                "T153",
                f"ClipL2 has no segment {self.segment!r} to clip",
                where=f"segments: {', '.join(spec.names)}",
                fix="Name one of them.",
            )
        coordinate_bound = min(self.bound, spec.segment(self.segment).coordinate_bound)
        return spec.change(self.segment, l2_bound=self.bound, coordinate_bound=coordinate_bound)

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        rows[~finite_rows(rows)] = 0.0
        part = rows[:, ctx.spec.slice(self.segment)]
        norm = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))[:, None]
        # A hair below the bound, so that rounding to float32 cannot lift a row above it.
        scale = np.divide(self.bound * (1 - 2**-20), norm, out=np.ones_like(norm), where=norm > self.bound)
        np.multiply(part, scale, out=part, casting="same_kind")
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total
