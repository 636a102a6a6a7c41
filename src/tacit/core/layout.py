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
_SQUARES_UNDERFLOW = 2.0**-60  # the squares of coordinates below it may become zero in float32


def finite_rows(rows: Rows) -> npt.NDArray[np.bool_]:
    """Tell for each row whether all its coordinates are finite, shape (clients,)."""
    return rows_within(rows, float(np.finfo(np.float32).max))


def rows_within(rows: Rows, bound: float) -> npt.NDArray[np.bool_]:
    """Tell for each row whether all its coordinates are finite and at most ``bound`` in absolute value."""
    # Nearly every row is far below, and its squared norm says so in one quick pass; float32's rounding
    # of that sum is well inside the factor of two. Only the others are looked at coordinate by coordinate.
    with np.errstate(over="ignore", invalid="ignore"):
        within: npt.NDArray[np.bool_] = np.sqrt(np.einsum("ij,ij->i", rows, rows)) <= bound / 2
        if bound < _SQUARES_UNDERFLOW:  # a norm of zero says nothing
            within[:] = rows.shape[1] == 0
        for index in np.flatnonzero(~within):
            # As Python's floats: NumPy would round the bound to float32, and that may be up.
            within[index] = float(rows[index].max()) <= bound and float(rows[index].min()) >= -bound
    return within


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
