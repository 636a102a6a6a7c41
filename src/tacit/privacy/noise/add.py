"""Adding noise to a sum in integers, and letting it out on a grid that does not depend on the data."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tacit.core.errors import PlanError
from tacit.core.layout import Rows, rows_within
from tacit.core.rule import Grid, IntegerTotal
from tacit.privacy.noise.draws import BLOCK, Draws
from tacit.privacy.noise.sources import Noise

RELEASE_BITS = 20
"""What is released has steps of 2^-20 of the noise's scale, or a little finer, where the sum's are finer."""
COARSEST_BITS = 10
"""The grid has at least 2^10 steps in the noise's scale."""
_ROOM_BITS = 62  # the sum takes half of int64 at most (``Grid.for_sum``), and the noise the other half


class NoiseLane(NamedTuple):
    """The noise that one segment gets.

    Attributes:
        size: Number of coordinates.
        step: Distance of two points of the sum's grid, a power of two.
        scale: What a standard draw is multiplied by: a normal's standard deviation, Laplace's scale.
    """

    size: int
    step: float
    scale: float

    @property
    def hidden_bits(self) -> int:
        """How many of the sum's last bits are rounded away before it is released."""
        return max(0, math.frexp(self.scale / self.step)[1] - 1 - RELEASE_BITS)

    @property
    def release_step(self) -> float:
        """Distance of two values that can be released."""
        return math.ldexp(self.step, self.hidden_bits)


def lanes_of(grid: Grid, scales: Sequence[float]) -> tuple[NoiseLane, ...]:
    """Give each segment of a sum's grid its noise.

    Args:
        grid: The grid on which the sum was taken.
        scales: The noise's scale, segment by segment; none is left out.
    """
    return tuple(
        NoiseLane(lane.size, lane.step, scale) for lane, scale in zip(grid.lanes, scales, strict=True)
    )


def add_noise(total: IntegerTotal, lanes: Sequence[NoiseLane], noise: Noise) -> None:
    """Add noise to a sum on its grid, in place, and round what comes out to the grid of release.

    Why integers. A sum of floating-point numbers gives its terms away: which values ``S + noise`` can take
    at all depends on ``S`` down to its last bits, as the noise has gaps that no formula of its density knows
    (Mironov 2012, "On significance of the least significant bits for differential privacy"). Here the noise
    is rounded to the grid on which ``S`` is an integer, so it is added without any error:
    ``S + round(noise) = round(S + noise)``. The grid follows from public values alone, so rounding is
    post-processing of ``S + noise``, and so costs nothing.

    Why it is rounded twice. A sum's grid is as fine as int64 allows, often finer than float64's 53 bits
    resolve the noise: large noise would then be a multiple of 2, 4, 8, ... steps, and the sum's last bits
    would shine through, bare. What leaves therefore lies on a coarser grid, of 2^-20 of the noise's scale,
    onto which signal and noise are rounded *together*; between two of its points float64 tells more than
    2^28 values apart, wherever the noise may lie. Such rounding adds 2^-43 to the noise's variance.

    Args:
        total: The sum in steps of its lanes' grids, as ``Grid.for_sum`` bounds it: 2^62 at most.
        lanes: The segments in order; together as long as ``total``.
        noise: This step's noise.

    Raises:
        PlanError: The grid does not suit the noise (``check_lanes``), or the segments are not as long as the
            sum (T183).
    """
    size = sum(lane.size for lane in lanes)
    if size != len(total):
        raise _wrong_size(size, len(total))
    check_lanes(lanes, noise.largest)
    on_grid = np.empty(min(BLOCK, len(total)), dtype=np.int64)
    scale = lanes[0].scale / lanes[0].step if lanes else 1.0  # of most coordinates, and free of cost
    stop = 0
    for block in noise.blocks(len(total), scale):
        start, stop = stop, stop + len(block)
        for lane, left, right in _pieces(lanes, start, stop):
            units = block[left - start : right - start]
            if lane.scale / lane.step != scale:
                np.multiply(units, lane.scale / lane.step / scale, out=units)
            _add_units(units, lane.hidden_bits, on_grid[: right - left], total[left:right])
    assert stop == len(total)


def add_local_noise(rows: Rows, lanes: Sequence[NoiseLane], noises: Sequence[Noise]) -> None:
    """Add to each client's own row, in place, the whole noise that protects it alone.

    As ``add_noise`` does: on the grid, in integers, released on the coarser grid. A row that is not finite,
    or too large for the grid, becomes zero first, and is then noise alone.

    Args:
        rows: Clipped updates, shape (clients, size).
        lanes: The segments in order.
        noises: Independent noise, one for each row.

    Raises:
        PlanError: As ``add_noise`` does.
    """
    rows[~rows_within(rows, 2.0**_ROOM_BITS * min(lane.step for lane in lanes))] = 0.0
    steps = np.repeat([lane.step for lane in lanes], [lane.size for lane in lanes])
    if rows.shape[1] != len(steps):
        raise _wrong_size(len(steps), rows.shape[1])
    for row, noise in zip(rows, noises, strict=True):
        on_grid = np.rint(row / steps).astype(np.int64)
        add_noise(on_grid, lanes, noise)
        np.multiply(on_grid, steps, out=row, casting="same_kind")


def check_lanes(lanes: Sequence[NoiseLane], largest: float) -> None:
    """Refuse, before any data exists, a grid that does not suit its noise.

    Args:
        lanes: The segments in order.
        largest: No coordinate of the noise, before it is scaled, is larger (``Noise.largest``).

    Raises:
        PlanError: A segment without noise (T182), a grid too coarse for its noise (T180), or noise that may
            overflow the grid (T181).
    """
    for index, lane in enumerate(lanes):
        where = f"segment {index}"
        if not 0 < lane.scale < math.inf:
            raise PlanError(
                "T182",
                f"the scale of noise is {lane.scale:g}",
                where=where,
                fix="Give every segment that is released noise of its own, above zero.",
            )
        if lane.step > lane.scale * 2.0**-COARSEST_BITS:
            raise PlanError(
                "T180",
                f"a grid of step {lane.step:g} is too coarse for noise of scale {lane.scale:g}",
                where=where,
                fix=f"Take a step of at most {lane.scale * 2.0**-COARSEST_BITS:g}.",
            )
        if largest * lane.scale / lane.step > 2.0**_ROOM_BITS - 2.0 ** (lane.hidden_bits + 1):
            raise PlanError(
                "T181",
                f"noise of scale {lane.scale:g} may overflow a grid of step {lane.step:g}",
                where=where,
                fix=f"Take a step of at least {largest * lane.scale * 2.0 ** (1 - _ROOM_BITS):g}.",
            )


def _add_units(noise: Draws, hidden_bits: int, on_grid: IntegerTotal, total: IntegerTotal) -> None:
    """Add noise, in steps of the grid, to a part of a sum and round away its last bits."""
    if hidden_bits:
        np.add(noise, 1 << (hidden_bits - 1), out=noise)  # to nearest, as what follows rounds down
    np.rint(noise, out=noise)
    np.copyto(on_grid, noise, casting="unsafe")
    np.add(total, on_grid, out=total)
    if hidden_bits:
        np.bitwise_and(total, -1 << hidden_bits, out=total)


def _pieces(lanes: Sequence[NoiseLane], start: int, stop: int) -> Iterator[tuple[NoiseLane, int, int]]:
    """Yield where the lanes lie between two coordinates."""
    left = 0
    for lane in lanes:
        right = left + lane.size
        if max(left, start) < min(right, stop):
            yield lane, max(left, start), min(right, stop)
        left = right


def _wrong_size(expected: int, found: int) -> PlanError:
    return PlanError("T183", f"noise for {expected} coordinates does not fit a sum of {found}")
