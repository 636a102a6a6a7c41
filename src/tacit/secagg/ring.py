"""Pack small signed integers into the 64-bit words in which a secure sum is added up.

All arithmetic on words is modulo 2**64, where masks are uniform. Several coordinates share one word, each in
a lane of its own: a word is ``sum(lane[j] * 2**(j * bits))``, lanes being signed, so that adding words adds
all lanes at once. That gives the exact sums as long as each lane's *sum* fits its bits (`lane_bits`); no lane
is reduced on the way, since what is left over would run into the next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.core.errors import LocalProtocolError

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

WORD_BITS = 64
LEAST_BITS, MOST_BITS = 2, 63

_BLOCK = 2**14  # words that are packed at a time: 128 KiB stay in cache between the passes over them


def lane_bits(largest: int, clients: int) -> int:
    """Return the bits of a lane for the sum of ``clients`` values of at most ``largest``, of either sign.

    >>> lane_bits(largest=127, clients=1), lane_bits(largest=127, clients=100)
    (8, 15)
    """
    if largest < 0 or clients < 1:
        raise ValueError(
            f"a lane holds values of at least 0 of at least 1 client, not {largest} of {clients}"
        )
    bits = max((largest * clients).bit_length() + 1, LEAST_BITS)
    if bits > MOST_BITS:
        raise ValueError(f"{clients} values of up to {largest} need {bits} bits, and a lane has {MOST_BITS}")
    return bits


def lane_share(bits: int, clients: int) -> int:
    """Return the largest value that each of ``clients`` may add to a lane.

    >>> lane_share(bits=15, clients=100)
    163
    """
    return ((1 << (bits - 1)) - 1) // clients


@dataclass(frozen=True)
class LaneGroup:
    """Coordinates with lanes of one width; they begin a word of their own.

    Coordinate ``c`` is lane ``c // words`` of word ``c % words``: what is in one lane lies together in a row.

    Attributes:
        size: How many coordinates.
        bits: Width of the lane that holds the *sum* of one coordinate.
    """

    size: int
    bits: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, not {self.size}")
        if not LEAST_BITS <= self.bits <= MOST_BITS:
            raise ValueError(f"bits must be from {LEAST_BITS} to {MOST_BITS}, not {self.bits}")

    @property
    def lanes(self) -> int:
        """Lanes of one word."""
        return WORD_BITS // self.bits

    @property
    def words(self) -> int:
        """Words that hold them all."""
        return -(-self.size // self.lanes)


@dataclass(frozen=True)
class Ring:
    """How a row of integers lies in words; each end of a secure sum has the same one.

    Attributes:
        lanes: Runs of coordinates, in order.

    >>> ring = Ring((LaneGroup(size=3, bits=32), LaneGroup(size=1, bits=52)))
    >>> words = ring.pack(np.array([1, -2, 3, 40])) + ring.pack(np.array([-5, 2, 3, 2]))
    >>> ring.words, ring.unpack(words)
    (3, array([-4,  0,  6, 42]))
    """

    lanes: tuple[LaneGroup, ...]

    def __post_init__(self) -> None:
        if not self.lanes:
            raise ValueError("lanes must not be empty")

    @property
    def size(self) -> int:
        """Coordinates of a row."""
        return sum(group.size for group in self.lanes)

    @property
    def words(self) -> int:
        """Words of a packed row."""
        return sum(group.words for group in self.lanes)

    def pack(self, row: Integers, out: Words | None = None) -> Words:
        """Return the row's words, written to ``out`` if given.

        That each value is within its share of the lane is the caller's to know (`check`).
        """
        _expect(row, np.int64, self.size, "a row")
        words = np.empty(self.words, np.uint64) if out is None else out
        _expect(words, np.uint64, self.words, "packed words")
        for group, coordinates, place in self._places():
            _pack(row[coordinates].view(np.uint64), words[place], group)
        return words

    def unpack(self, words: Words, out: Integers | None = None) -> Integers:
        """Return the row that these words, or this sum of words, hold; written to ``out`` if given."""
        _expect(words, np.uint64, self.words, "packed words")
        row = np.empty(self.size, np.int64) if out is None else out
        _expect(row, np.int64, self.size, "a row")
        for group, coordinates, place in self._places():
            _unpack(words[place], row[coordinates].view(np.uint64), group)
        return row

    def check(self, row: Integers, largest: int | Sequence[int]) -> None:
        """Refuse a row with a value beyond ``largest``, of either sign.

        Args:
            largest: For all coordinates, or for each group of lanes.

        Raises:
            LocalProtocolError: T554, and it names no value, for those are a client's own.
        """
        _expect(row, np.int64, self.size, "a row")
        bounds = [largest] * len(self.lanes) if isinstance(largest, int) else largest
        for (_, coordinates, _), bound in zip(self._places(), bounds, strict=True):
            part = row[coordinates]
            if not -bound <= int(part.min()) <= int(part.max()) <= bound:
                raise LocalProtocolError("T554", f"a coordinate of the row is beyond its bound of {bound}")

    def _places(self) -> Iterator[tuple[LaneGroup, slice, slice]]:
        """Yield each group, where its coordinates are in a row, and where in the words."""
        coordinate = word = 0
        for group in self.lanes:
            ends = coordinate + group.size, word + group.words
            yield group, slice(coordinate, ends[0]), slice(word, ends[1])
            coordinate, word = ends


def _expect(array: npt.NDArray[np.generic], kind: type[np.generic], size: int, what: str) -> None:
    if array.dtype != kind or array.shape != (size,):
        raise LocalProtocolError(
            "T554", f"{what} of this ring has {size} {kind.__name__}, not {array.shape} {array.dtype}"
        )


def _pack(row: Words, words: Words, group: LaneGroup) -> None:
    """Write ``sum(lane[j] << (j * bits))``, the highest lane first; two's complement borrows by itself."""
    if group.lanes == 1:
        words[:] = row
        return
    shift = np.uint64(group.bits)
    for begin in range(0, len(words), _BLOCK):
        block = words[begin : begin + _BLOCK]
        block[:] = 0
        for lane in reversed(range(group.lanes)):
            values = row[lane * len(words) + begin :][: _in_lane(row, words, lane, begin, len(block))]
            block <<= shift
            block[: len(values)] += values


def _unpack(words: Words, row: Words, group: LaneGroup) -> None:
    if group.lanes == 1:
        row[:] = words
        return
    # Half of a lane's range added to every lane makes all of them non-negative: then none borrows from the
    # next, and each can be read by itself.
    half = 1 << (group.bits - 1)
    halves = np.uint64(sum(half << (lane * group.bits) for lane in range(group.lanes)))
    mask = np.uint64(2 * half - 1)
    buffer = np.empty(min(len(words), _BLOCK), np.uint64)
    for begin in range(0, len(words), _BLOCK):
        block = np.add(words[begin : begin + _BLOCK], halves, out=buffer[: len(words) - begin])
        for lane in range(group.lanes):
            length = _in_lane(row, words, lane, begin, len(block))
            values = row[lane * len(words) + begin :][:length]
            np.right_shift(block[:length], np.uint64(lane * group.bits), out=values)
            values &= mask
            values -= np.uint64(half)


def _in_lane(row: Words, words: Words, lane: int, begin: int, most: int) -> int:
    """Return how many of the block's coordinates this lane has: the last lanes may be shorter, or empty."""
    return max(min(most, len(row) - lane * len(words) - begin), 0)
