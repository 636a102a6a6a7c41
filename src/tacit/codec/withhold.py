"""Send less: what is not protected does not leave the client."""

from tacit.core.errors import PlanError
from tacit.core.layout import Rows, finite_rows
from tacit.core.part import Part
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, StageContext, Total


class Withhold(Part, frozen=True, tag="withhold"):
    """Keep the last segment of an update on the client, such as the metrics of its training.

    With differential privacy whatever is sent has to be bounded and paid for; what is not is withheld. The
    row still has to be sound as a whole: one that is not finite becomes zero.

    Attributes:
        segment: The segment, the last one.

    >>> Withhold().plan(UpdateSpec.of(parameters=4, metrics=1)).names
    ('parameters',)
    """

    segment: str = "metrics"

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        if spec.names[-1:] != (self.segment,):
            raise PlanError(
                "T153",
                f"Withhold has no last segment {self.segment!r} to keep back",
                where=f"segments: {', '.join(spec.names)}",
                fix="Put it first in the chain.",
            )
        return UpdateSpec(spec.segments[:-1])

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        if not ctx.is_bounded:
            rows[~finite_rows(rows)] = 0.0
        return rows[:, : ctx.spec.slice(self.segment).start], memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total
