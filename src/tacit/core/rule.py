"""How updates become one: an exact sum on a fixed-point grid, and the protocol of a rule over it."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tacit.core.errors import PlanError, RemoteProtocolError
from tacit.core.layout import Rows, Vector, rows_within
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Total

Sees = Literal["sum", "individuals"]
"""What a rule needs to see: the cohort's sum alone, or every client's update."""
IntegerTotal = npt.NDArray[np.int64]
"""A partial sum on the grid, int64, shape (size,)."""

_FINEST = -149  # float32 knows nothing finer than 2^-149, and 1 / step must stay finite
_BLOCK = 1 << 14  # lanes handled at once: a block of float64 stays in the core's own cache


@dataclass(frozen=True)
class Partial:
    """A mergeable part of the cohort's sum.

    Attributes:
        total: The sum on the grid, shape (size,).
        clients: How many updates it holds.
    """

    total: IntegerTotal
    clients: int


@dataclass(frozen=True)
class Grid:
    """The fixed-point grid that makes sums exact: in any order, in any grouping, the same bits.

    Attributes:
        lanes: For each segment its size, its step (a power of two) and its largest coordinate.
        clients: How many updates one sum may hold without overflow.
    """

    lanes: tuple[tuple[int, float, float], ...]
    clients: int

    @classmethod
    def for_sum(cls, spec: UpdateSpec, clients: int) -> "Grid":
        """Find the finest grid on which the sum of ``clients`` updates cannot overflow int64.

        Raises:
            PlanError: The grid would be coarser than float32 is at the largest coordinate.
        """
        lanes = []
        for segment in spec.segments:
            largest = math.log2(segment.coordinate_bound)
            exponent = math.ceil(largest) + math.ceil(math.log2(max(clients, 1))) - 62
            if exponent > largest - 24:
                raise PlanError(
                    "T151",
                    f"a sum of {clients} updates with coordinates up to {2**largest:g} does not fit 64 bits",
                    where=f"segment {segment.name!r}",
                    fix="Lower the largest weight or the cohort, or set a clipping bound.",
                )
            lanes.append((segment.size, 2.0 ** max(exponent, _FINEST), segment.coordinate_bound))
        return cls(tuple(lanes), clients)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(size for size, _, _ in self.lanes)

    def add_rows(self, rows: Rows, total: IntegerTotal) -> None:
        """Add every row, rounded to the grid, to ``total`` in place.

        Raises:
            RemoteProtocolError: Wrong length, or a coordinate not finite or beyond its declared bound.
        """
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise RemoteProtocolError("T501", f"an update has shape {rows.shape}, not (clients, {self.size})")
        start = 0
        for size, step, bound in self.lanes:
            _check_bound(rows[:, start : start + size], bound)
            for left in range(start, start + size, _BLOCK):
                block = slice(left, min(left + _BLOCK, start + size))
                scaled = np.multiply(rows[:, block], 1.0 / step, dtype=np.float64)
                on_grid = np.rint(scaled, out=scaled).astype(np.int64)
                total[block] += on_grid[0] if len(on_grid) == 1 else on_grid.sum(axis=0)
            start += size

    def to_float(self, total: IntegerTotal) -> Total:
        """Return the sum off the grid, float64."""
        result = np.empty(len(total), dtype=np.float64)
        start = 0
        for size, step, _ in self.lanes:
            lane = slice(start, start + size)
            np.multiply(total[lane], step, out=result[lane])
            start += size
        return result


def _check_bound(rows: Rows, bound: float) -> None:
    if not rows_within(rows, bound).all():
        raise RemoteProtocolError(
            "T502", f"an update has a coordinate that is not finite or beyond {bound:g}"
        )


@runtime_checkable
class Rule(Protocol):
    """How updates become one: a commutative monoid over encoded updates, and what its sum means."""

    sees: ClassVar[Sees]

    def empty(self, grid: Grid) -> Partial:
        """Return the neutral element: a sum of nothing."""
        ...

    def lift(self, rows: Rows, grid: Grid) -> Partial:
        """Turn encoded rows of shape (clients, size) into a partial sum."""
        ...

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Join two partial sums; associative and commutative to the last bit."""
        ...

    def finish(self, total: Total, spec: UpdateSpec) -> Vector | None:
        """Turn the decoded sum into the mean update, or None if it holds nothing."""
        ...
