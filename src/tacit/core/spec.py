"""What is declared about an update before any data exists: sizes, bounds, bits."""

import math
from dataclasses import dataclass, replace

from tacit.core.layout import Layout

COORDINATE_LIMIT = 2.0**10
"""Largest absolute value of one coordinate of an update that is not clipped: anything beyond is refused."""


@dataclass(frozen=True)
class SegmentSpec:
    """Declared facts about one segment of what a client sends.

    Attributes:
        name: The segment's name, unique in its spec.
        size: Number of coordinates.
        coordinate_bound: Largest absolute value of one coordinate.
        l2_bound: Largest L2 norm of the segment, or None where no stage bounds it.
        bits: Bits per coordinate on the wire.
        is_nonnegative: Whether no coordinate may be below zero, as of a weight.
    """

    name: str
    size: int
    coordinate_bound: float = COORDINATE_LIMIT
    l2_bound: float | None = None
    bits: int = 32
    is_nonnegative: bool = False


@dataclass(frozen=True)
class UpdateSpec:
    """Declared facts about one client's update, segment by segment, in order.

    Attributes:
        segments: Declared facts about each segment.

    >>> spec = UpdateSpec.of(parameters=4, buffers=2)
    >>> spec.size, spec.wire_bytes, spec.slice("buffers")
    (6, 24, slice(4, 6, None))
    """

    segments: tuple[SegmentSpec, ...]

    @classmethod
    def of(cls, **sizes: int) -> "UpdateSpec":
        """Declare unbounded float32 segments by name and size."""
        return cls(tuple(SegmentSpec(name, size) for name, size in sizes.items()))

    @classmethod
    def for_layout(cls, layout: Layout) -> "UpdateSpec":
        """Declare the update of a model: one segment for each of its layout's."""
        return cls.of(**{segment.name: segment.size for segment in layout.segments})

    @property
    def names(self) -> tuple[str, ...]:
        """The segments' names, in order."""
        return tuple(segment.name for segment in self.segments)

    @property
    def size(self) -> int:
        """Number of coordinates of all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def wire_bytes(self) -> int:
        """Bytes of one client's update on the wire, without the message's header."""
        return sum(math.ceil(segment.size * segment.bits / 8) for segment in self.segments)

    @property
    def l2_bound(self) -> float | None:
        """Largest L2 norm of the whole update, or None if a segment is unbounded."""
        bounds = [segment.l2_bound for segment in self.segments]
        if any(bound is None for bound in bounds):
            return None
        return math.sqrt(sum(bound**2 for bound in bounds if bound is not None))

    def segment(self, name: str) -> SegmentSpec:
        """Return the segment of that name.

        Raises:
            KeyError: There is none.
        """
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)

    def slice(self, name: str) -> slice:
        """Return where the segment lies in the vector.

        Raises:
            KeyError: There is no such segment.
        """
        start = 0
        for segment in self.segments:
            if segment.name == name:
                return slice(start, start + segment.size)
            start += segment.size
        raise KeyError(name)

    def append(self, segment: SegmentSpec) -> "UpdateSpec":
        """Return the spec with one more segment at its end."""
        return UpdateSpec((*self.segments, segment))

    def change(self, name: str, **facts: object) -> "UpdateSpec":
        """Return the spec with other facts about one segment."""
        self.segment(name)
        return UpdateSpec(tuple(replace(s, **facts) if s.name == name else s for s in self.segments))  # type: ignore[arg-type]
