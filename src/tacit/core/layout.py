"""Names and shapes of one flat vector: where each tensor of a model lies in it."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tacit.core.part import Settings

Vector = npt.NDArray[np.float32]
"""One flat float32 vector, shape (size,)."""
Rows = npt.NDArray[np.float32]
"""One flat vector per client, shape (clients, size)."""
ROOM = 2
"""Columns of free memory behind rows that ``empty_rows`` made: stages put there what they send along."""
_BLOCK = 1 << 15  # coordinates handled at once: a block of float64 stays in the core's own cache
_LARGEST = float(np.finfo(np.float32).max)
_SQUARES_UNDERFLOW = 2.0**-60  # the squares of coordinates below it may become zero in float32


def empty_rows(clients: int, size: int) -> Rows:
    """Return rows to be filled, shape (clients, size), with ``ROOM`` for more behind them."""
    return np.empty((clients, size + ROOM), dtype=np.float32)[:, :size]


def wider_rows(rows: Rows, columns: int, room: int) -> Rows:
    """Return rows to be filled that are that many columns wider.

    Where there is room behind ``rows`` they share its memory: a large update need not be copied to send
    a number along.
    """
    wide = (len(rows), rows.shape[1] + columns)
    if columns <= room:
        return np.lib.stride_tricks.as_strided(rows, wide, rows.strides)
    return np.empty(wide, dtype=rows.dtype)


def finite_rows(rows: Rows) -> npt.NDArray[np.bool_]:
    """Tell for each row whether all its coordinates are finite, shape (clients,)."""
    return rows_within(rows, _LARGEST)


def rows_within(rows: Rows, bound: float) -> npt.NDArray[np.bool_]:
    """Tell for each row whether all its coordinates are finite and at most ``bound`` in absolute value."""
    bound = min(bound, _LARGEST)
    if rows.shape[1] == 1:
        return np.abs(rows[:, 0].astype(np.float64)) <= bound
    # Nearly every row is far below, and its squared norm says so in one quick pass; float32's rounding
    # of that sum is well inside the factor of four. Only the others are looked at coordinate by coordinate.
    within: npt.NDArray[np.bool_] = np.einsum("ij,ij->i", rows, rows).astype(np.float64) <= bound * bound / 4
    if bound < _SQUARES_UNDERFLOW:  # a norm of zero says nothing
        within[:] = rows.shape[1] == 0
    if not within.all():
        unclear = rows if not within.any() else rows[~within]
        with np.errstate(invalid="ignore"):
            largest = np.maximum(unclear.max(axis=1), -unclear.min(axis=1))
        # In float64: NumPy would round the bound to float32, and that may be up.
        within[~within] = largest.astype(np.float64) <= bound
    return within


def squared_norms(rows: Rows) -> npt.NDArray[np.float64]:
    """Return the squared L2 norm of each row, shape (clients,), summed in float64.

    It is finite if and only if all coordinates are, and does not depend on the other rows.
    """
    squares, size = np.zeros(len(rows)), rows.shape[1]
    together = max(1, _BLOCK // max(size, 1))
    room = np.empty((min(together, len(rows)), min(size, _BLOCK)))
    for top in range(0, len(rows), together):
        for left in range(0, size, _BLOCK):
            part = rows[top : top + together, left : left + _BLOCK]
            block = room[: len(part), : part.shape[1]]
            np.copyto(block, part)  # by hand: einsum with a dtype takes three times as long
            squares[top : top + together] += np.einsum("ij,ij->i", block, block)
    return squares


class Tensor(Settings, frozen=True):
    """One tensor's place in a segment.

    Attributes:
        name: The tensor's name in the model.
        shape: Its shape; the vector holds it row by row.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return math.prod(self.shape)


class Segment(Settings, frozen=True):
    """A named run of coordinates that obey the same rule: parameters, buffers, metrics, ...

    Attributes:
        name: The segment's name, unique in its layout.
        tensors: The tensors it holds, in order.
    """

    name: str
    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(tensor.size for tensor in self.tensors)


class Layout(Settings, frozen=True):
    """What lies where in a flat vector: named segments, each a run of named tensors.

    Attributes:
        segments: The segments, in order.

    >>> layout = Layout.of(parameters={"weight": (2, 3), "bias": (2,)}, buffers={"mean": (3,)})
    >>> layout.size, layout.slice("buffers")
    (11, slice(8, 11, None))
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [segment.name for segment in self.segments]
        if len(set(names)) != len(names):
            raise ValueError(f"segment names must differ: {names}")

    @classmethod
    def of(cls, **segments: Mapping[str, tuple[int, ...]]) -> "Layout":
        """Build a layout from ``segment={tensor name: shape}``."""
        return cls(
            segments=tuple(
                Segment(
                    name=name,
                    tensors=tuple(Tensor(name=key, shape=tuple(shape)) for key, shape in tensors.items()),
                )
                for name, tensors in segments.items()
            )
        )

    @property
    def size(self) -> int:
        """Number of coordinates of the whole vector."""
        return sum(segment.size for segment in self.segments)

    def segment(self, name: str) -> Segment:
        """Return the segment of that name.

        Raises:
            KeyError: There is none.
        """
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)

    def slice(self, name: str) -> slice:
        """Return where the segment lies in the vector."""
        start = 0
        for segment in self.segments:
            if segment.name == name:
                return slice(start, start + segment.size)
            start += segment.size
        raise KeyError(name)

    def views(self, vector: npt.NDArray[np.generic], segment: str) -> dict[str, npt.NDArray[np.generic]]:
        """Return the segment's tensors as views into ``vector`` (shape ``(size,)``), by name."""
        start = self.slice(segment).start
        views = {}
        for tensor in self.segment(segment).tensors:
            views[tensor.name] = vector[start : start + tensor.size].reshape(tensor.shape)
            start += tensor.size
        return views
