"""Bound what one client can add to the cohort's sum."""

import numpy as np
import numpy.typing as npt

from tacit.core.bounds import Positive
from tacit.core.errors import PlanError
from tacit.core.layout import Rows, finite_rows, squared_norms
from tacit.core.part import Part
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, StageContext, Total

# A hair below the bound: float32 rounds the factor and each product, and must not lift a row above it.
_HAIR = 1 - 2**-20
_LEAST = 2.0**-100  # factors far below it have no good float32


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
        place = ctx.spec.slice(self.segment)
        rows[~(finite_rows(rows[:, : place.start]) & finite_rows(rows[:, place.stop :]))] = 0.0
        norms = clip_rows(rows[:, place], self.bound)
        rows[~np.isfinite(norms)] = 0.0
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total


def clip_rows(rows: Rows, bound: float) -> npt.NDArray[np.float64]:
    """Scale rows down to an L2 norm of at most ``bound``, in place; one that is not finite becomes zero.

    Returns:
        The norms they had, in float64, shape (clients,); not finite where a row was not.
    """
    with np.errstate(invalid="ignore"):
        norms: npt.NDArray[np.float64] = np.sqrt(squared_norms(rows))
    _shorten(rows, norms, bound)
    return norms


def _shorten(rows: Rows, norms: npt.NDArray[np.float64], bound: float) -> None:
    finite = np.isfinite(norms)
    rows[~finite] = 0.0
    long = finite & (norms > bound)
    if long.any():
        _scale(rows, np.divide(bound * _HAIR, norms, out=np.ones_like(norms), where=long))


class ClipL1(Part, frozen=True, tag="clip_l1"):
    """Scale one segment of an update down so that its L1 norm is at most ``bound``.

    Laplace noise is measured against this norm. As an L2 norm is never larger than the L1 norm, the segment
    is bounded in L2, too. A row that is not finite becomes zero.

    Attributes:
        bound: Largest L1 norm of the segment, before weighing.
        segment: Which segment is clipped; the others pass unchanged.

    >>> ClipL1(bound=1.0).plan(UpdateSpec.of(parameters=4)).l2_bound
    1.0
    """

    bound: Positive
    segment: str = "parameters"

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        return ClipL2(bound=self.bound, segment=self.segment).plan(spec)

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        place = ctx.spec.slice(self.segment)
        rows[~(finite_rows(rows[:, : place.start]) & finite_rows(rows[:, place.stop :]))] = 0.0
        part = rows[:, place]
        with np.errstate(invalid="ignore", over="ignore"):
            norms = np.array([np.abs(row, dtype=np.float64).sum() for row in part])
        _shorten(part, norms, self.bound)
        rows[~np.isfinite(norms)] = 0.0
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total


def _scale(part: Rows, factors: npt.NDArray[np.float64]) -> None:
    """Multiply each row by its factor, in place; a factor of 1 leaves every bit."""
    tiny = factors < _LEAST
    part[tiny] = part[tiny] * factors[tiny, None]
    factors[tiny] = 1.0
    np.multiply(part, factors.astype(np.float32)[:, None], out=part)
