"""How updates become one: an exact sum on a fixed-point grid, and the protocol of a rule over it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tacit.core.errors import RemoteProtocolError
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


class Lane(NamedTuple):
    """Where one segment lies on the grid.

    Attributes:
        size: Number of coordinates.
        step: Distance of two points of the grid, a power of two.
        lowest: Smallest coordinate that is let in.
        largest: Largest one.
    """

    size: int
    step: float
    lowest: float
    largest: float


@dataclass(frozen=True)
class Grid:
    """The fixed-point grid that makes sums exact: in any order, in any grouping, the same bits.

    Attributes:
        lanes: One for each segment, in order.
        clients: How many updates one sum may hold without overflow.
    """

    lanes: tuple[Lane, ...]
    clients: int

    @classmethod
    def for_sum(cls, spec: UpdateSpec, clients: int) -> "Grid":
        """Find the finest grid on which the sum of ``clients`` updates cannot overflow int64."""
        more = math.ceil(math.log2(max(clients, 1))) - 62
        lanes = []
        for segment in spec.segments:
            exponent = max(math.ceil(math.log2(segment.coordinate_bound)) + more, _FINEST)
            lowest = 0.0 if segment.is_nonnegative else -segment.coordinate_bound
            lanes.append(Lane(segment.size, 2.0**exponent, lowest, segment.coordinate_bound))
        return cls(tuple(lanes), clients)

    @cached_property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(lane.size for lane in self.lanes)

    def add_rows(self, rows: Rows, total: IntegerTotal) -> None:
        """Add a group of rows to ``total`` in place: summed in float64, then rounded to the grid.

        The group's sum follows from its rows and their order, and groups may come in any order. It differs
        from the rows rounded one by one by at most half a step for each of them and half a step for itself,
        beside float64's own rounding. Rows that lie on the grid already are added exactly, as long as no
        coordinate of the group exceeds 2^53 steps on the way.

        Raises:
            RemoteProtocolError: Wrong length, or a coordinate not finite or beyond its declared bound.
        """
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise RemoteProtocolError("T501", f"an update has shape {rows.shape}, not (clients, {self.size})")
        for lane, part in self._parts:  # all of them first: what is refused must not be in the sum in part
            _check_bound(rows[:, part], lane)
        group, on_grid = np.empty(min(_BLOCK, self.size)), np.empty(min(_BLOCK, self.size), dtype=np.int64)
        for lane, part in self._parts:
            for left in range(part.start, part.stop if len(rows) else 0, _BLOCK):
                block = slice(left, min(left + _BLOCK, part.stop))
                size = block.stop - left
                _add_block(rows[:, block], 1.0 / lane.step, total[block], group[:size], on_grid[:size])

    def to_float(self, total: IntegerTotal) -> Total:
        """Return the sum off the grid, float64."""
        result = np.empty(len(total), dtype=np.float64)
        for lane, part in self._parts:
            np.multiply(total[part], lane.step, out=result[part])
        return result

    @cached_property
    def _parts(self) -> list[tuple[Lane, slice]]:
        stops = np.cumsum([lane.size for lane in self.lanes]).tolist()
        return [(lane, slice(stop - lane.size, stop)) for lane, stop in zip(self.lanes, stops, strict=True)]


def _add_block(
    rows: Rows, scale: float, total: IntegerTotal, group: npt.NDArray[np.float64], on_grid: IntegerTotal
) -> None:
    """Add rows to a total by way of two blocks of memory that are used again."""
    if len(rows) == 1:
        np.multiply(rows[0], scale, out=group, dtype=np.float64)  # a sum in less than half the time
    else:
        np.add.reduce(rows, axis=0, dtype=np.float64, out=group)
        np.multiply(group, scale, out=group)
    np.rint(group, out=group)
    np.copyto(on_grid, group, casting="unsafe")
    np.add(total, on_grid, out=total)


def _check_bound(rows: Rows, lane: Lane) -> None:
    # A negative weight would let one client turn the mean of all others around.
    if not rows_within(rows, lane.largest).all() or (lane.lowest == 0.0 and (rows < 0).any()):
        what = f"an update has a coordinate that is not finite or outside {lane.lowest:g} to {lane.largest:g}"
        raise RemoteProtocolError("T502", what)


@runtime_checkable
class Rule(Protocol):
    """How updates become one: a commutative monoid over encoded updates, and what its sum means."""

    sees: ClassVar[Sees]

    def empty(self, grid: Grid) -> Partial:
        """Return the neutral element: a sum of nothing."""
        ...

    def fold(self, rows: Rows, grid: Grid, total: IntegerTotal) -> None:
        """Add encoded rows of shape (clients, size) to a sum under way, in place."""
        ...

    def lift(self, rows: Rows, grid: Grid) -> Partial:
        """Turn encoded rows into a partial sum of their own: ``fold`` into an empty one."""
        ...

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Join two partial sums; associative and commutative to the last bit."""
        ...

    def finish(self, total: Total, spec: UpdateSpec) -> Vector | None:
        """Turn the decoded sum into the mean update, or None if it holds nothing."""
        ...
