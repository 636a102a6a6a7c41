"""Round an update to the grid on which a secure sum is taken."""

import math
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tacit.codec.adaptive_clip import WITHIN
from tacit.codec.clip import clip_rows
from tacit.core.errors import ConfigError, PlanError
from tacit.core.layout import Rows, Vector, rows_within
from tacit.core.part import Part
from tacit.core.randomness import generator
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.stage import Memory, StageContext, Total

Step = Annotated[float, Meta(ge=2.0**-120, le=2.0**120)]
"""Distance of two points of a grid: a power of two that float32 knows, and its inverse too."""
_BLOCK = 1 << 15  # coordinates handled at once: three blocks of float32 stay in the core's own cache


class OnGrid(Part, frozen=True, tag="on_grid"):
    """Round every coordinate to a grid, up or down by chance, so that the mean is left where it was.

    A secure sum adds integers. What leaves this stage, the last one of a chain, is an integer number of steps
    in every coordinate, and float32 holds it exactly; so the sum of many updates is the same to the bit
    whether they are added in the clear or under masks.

    Rounding is unbiased (to 2^-24 of a step): a coordinate a quarter of a step above a point is rounded up in
    one of four cases, by a draw whose address is the client's and the round's. It moves a coordinate by less
    than one step, and so makes most updates longer. ``plan`` declares by how much, and noise is scaled by
    what it declares. Where the clipping bound moves from round to round, an update is first made shorter by
    what rounding may add, since noise then follows the round's bound in proportion. A row that is not finite,
    or beyond a bound that was declared for it, becomes zero; and zero stays zero.

    Attributes:
        steps: The distance of two points of the grid for each segment, a power of two.

    >>> OnGrid(steps={"parameters": 0.25}).plan(UpdateSpec.of(parameters=4)).segment("parameters").size
    4
    """

    adds_noise: ClassVar[bool] = True  # a row that noise has hidden before must not be made zero behind it

    steps: Annotated[dict[str, Step], Meta(min_length=1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, step in self.steps.items():
            if math.frexp(step)[0] != 0.5:
                what = f"the step of segment {name!r} is {step:g}, no power of two"
                raise ConfigError("T104", what, where="OnGrid.steps", fix="For example 2.0**-20.")

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        if set(self.steps) != set(spec.names):
            raise PlanError(
                "T153",
                f"OnGrid has steps for {', '.join(sorted(self.steps))}",
                where=f"segments: {', '.join(spec.names)}",
                fix="Give every segment a step, and put OnGrid last in the chain.",
            )
        for segment in spec.segments:
            spec = spec.change(segment.name, **_rounded(segment, self.steps[segment.name]))
        return spec

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        if not ctx.is_bounded:
            rows[~_sound(rows, ctx.spec)] = 0.0
        if ctx.clipping_bound is not None:
            self._make_room(rows, ctx.spec, ctx.clipping_bound)
        for row, client in zip(rows, ctx.clients, strict=True):
            chance = generator(ctx.seed, ctx.round, "on_grid", client)
            for segment in ctx.spec.segments:
                _round(row[ctx.spec.slice(segment.name)], segment, self.steps[segment.name], chance)
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total

    def _make_room(self, rows: Rows, spec: UpdateSpec, bound: float) -> None:
        """Shorten rows so that rounding keeps them within this round's share of the declared bound.

        For a clip that may reach ``l2`` rounding is declared to make ``l2'`` of it. In a round whose bound is
        ``bound`` noise is scaled by ``bound * l2' / l2``, while rounding may add ``step * sqrt(size)`` to any
        update: what enters must not be longer than the difference.
        """
        for segment in spec.segments:
            if segment.l2_bound is None or segment.name == WITHIN:  # the bit is on the grid already
                continue
            step = self.steps[segment.name]
            declared = _rounded(segment, step)["l2_bound"]
            assert declared is not None
            left = bound * declared / segment.l2_bound - step * math.sqrt(segment.size)
            part = rows[:, spec.slice(segment.name)]
            if left > 0:
                clip_rows(part, left)
            else:
                part[:] = 0.0


def _rounded(segment: SegmentSpec, step: float) -> dict[str, float | None]:
    """Return the bounds of a segment once it is rounded: no coordinate moves by a whole step."""
    coordinate_bound, root = math.ceil(segment.coordinate_bound / step) * step, math.sqrt(segment.size)
    if segment.l2_bound is None:
        return {"coordinate_bound": coordinate_bound}
    # Never below what was declared before: a clip that moves stands in proportion to it.
    l2_bound = min(segment.l2_bound + step * root, max(segment.l2_bound, coordinate_bound * root))
    return {"coordinate_bound": coordinate_bound, "l2_bound": l2_bound}


def _sound(rows: Rows, spec: UpdateSpec) -> npt.NDArray[np.bool_]:
    """Tell which rows are finite and within the bounds that were declared for them, shape (clients,)."""
    sound = np.ones(len(rows), dtype=np.bool_)
    for segment in spec.segments:
        sound &= rows_within(rows[:, spec.slice(segment.name)], segment.coordinate_bound)
    return sound


def _round(part: Vector, segment: SegmentSpec, step: float, chance: np.random.Generator) -> None:
    """Round one client's segment, in place.

    Every operation but the draw is exact: steps are powers of two, and from 2^24 steps on a float32 is an
    integer number of them by itself.
    """
    most = _float32_below(math.ceil(segment.coordinate_bound / step))
    least = 0.0 if segment.is_nonnegative else -most
    size = min(_BLOCK, len(part))
    draws, wholes, ups = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):  # of a row that somebody wrongly called bounded
        for left in range(0, len(part), _BLOCK):
            block = part[left : left + _BLOCK]
            draw, whole, up = draws[: len(block)], wholes[: len(block)], ups[: len(block)]
            np.multiply(block, np.float32(1 / step), out=block)
            np.floor(block, out=whole)
            np.subtract(block, whole, out=block)
            chance.random(dtype=np.float32, out=draw)
            np.less(draw, block, out=up)
            np.add(whole, up, out=whole)
            np.clip(whole, least, most, out=whole)
            np.multiply(whole, np.float32(step), out=block)


def _float32_below(value: int) -> float:
    """Return the largest float32 that is not above an integer."""
    near = np.float32(value)
    return float(near if float(near) <= value else np.nextafter(near, np.float32(0)))
