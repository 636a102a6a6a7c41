"""Packing: what comes out of a sum of words is the sum of what went in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError
from tacit.secagg.ring import Integers, LaneGroup, Ring, Words, lane_bits, lane_share

GROUPS = st.builds(LaneGroup, size=st.integers(1, 40), bits=st.integers(2, 63))
RINGS = st.builds(Ring, st.lists(GROUPS, min_size=1, max_size=4).map(tuple))


def bounds_of(ring: Ring, clients: int) -> Integers:
    """Return the largest value each coordinate may have so that ``clients`` of them fit."""
    return np.concatenate([np.full(group.size, lane_share(group.bits, clients)) for group in ring.lanes])


def pack_plainly(row: Integers, ring: Ring) -> Words:
    """Pack one integer after the other, with Python's integers."""
    words: list[int] = []
    begin = 0
    for group in ring.lanes:
        block = [0] * group.words
        for c, value in enumerate(row[begin : begin + group.size].tolist()):
            block[c % group.words] += value << (c // group.words * group.bits)
        words += block
        begin += group.size
    return np.array([word % 2**64 for word in words], dtype=np.uint64)


def unpack_plainly(words: Words, ring: Ring) -> Integers:
    """Unpack from lane 0 up: read what is signed, take it off, shift."""
    row: list[int] = []
    begin = 0
    for group in ring.lanes:
        block = words[begin : begin + group.words].tolist()
        values = []
        for _ in range(64 // group.bits):
            low = [word % 2**group.bits for word in block]
            signed = [v - 2**group.bits if v >= 2 ** (group.bits - 1) else v for v in low]
            block = [(word - v) >> group.bits for word, v in zip(block, signed, strict=True)]
            values += signed
        row += values[: group.size]
        begin += group.words
    return np.array(row, dtype=np.int64)


@st.composite
def sums(draw: st.DrawFn) -> tuple[Ring, list[Integers]]:
    ring, clients = draw(RINGS), draw(st.integers(1, 9))
    bounds = bounds_of(ring, clients)
    rows = [[draw(st.integers(-bound, bound)) for bound in bounds.tolist()] for _ in range(clients)]
    return ring, [np.array(row, dtype=np.int64) for row in rows]


@given(case=sums())
def test_a_sum_of_words_holds_the_exact_sum_of_the_rows(case: tuple[Ring, list[Integers]]) -> None:
    ring, rows = case
    total = sum((ring.pack(row) for row in rows), np.zeros(ring.words, np.uint64))
    np.testing.assert_array_equal(ring.unpack(total), np.sum(rows, axis=0))


@given(case=sums())
def test_packing_agrees_with_plain_integers(case: tuple[Ring, list[Integers]]) -> None:
    ring, rows = case
    words = ring.pack(rows[0])
    np.testing.assert_array_equal(words, pack_plainly(rows[0], ring))
    np.testing.assert_array_equal(unpack_plainly(words, ring), rows[0])


@given(ring=RINGS, clients=st.integers(1, 1000), sign=st.sampled_from([1, -1]))
def test_everybody_at_the_bound_is_exact(ring: Ring, clients: int, sign: int) -> None:
    row = sign * bounds_of(ring, clients)
    # Multiplied, for the words of equal rows are equal: clients times one of them, modulo 2**64.
    total = ring.pack(row) * np.uint64(clients)
    np.testing.assert_array_equal(ring.unpack(total), row * clients)


@pytest.mark.parametrize("bits", range(2, 33))
def test_one_above_the_bound_runs_over_as_predicted(bits: int) -> None:
    lanes = 64 // bits
    ring = Ring((LaneGroup(size=lanes, bits=bits),))
    row = np.zeros(lanes, np.int64)
    row[0] = 2 ** (bits - 1)
    wrong = ring.unpack(ring.pack(row))
    # The lane turns negative and the next one gets what it lost.
    assert wrong[:2].tolist() == [-(2 ** (bits - 1)), 1]
    assert not wrong[2:].any()


@pytest.mark.parametrize("bits", [2, 3, 7, 8, 12, 16, 21, 22, 31, 32, 33, 52, 63])
@pytest.mark.parametrize("size", [1, 99_991, 131_072])
def test_long_rows_of_every_width_come_back(bits: int, size: int) -> None:
    most = 2 ** (bits - 1) - 1
    row = np.random.default_rng(bits).integers(-most, most, size, endpoint=True)
    ring = Ring((LaneGroup(size=3, bits=52), LaneGroup(size=size, bits=bits)))
    row = np.concatenate([np.array([-5, 0, 2**51 - 1]), row])
    words = ring.pack(row)
    assert words.shape == (ring.words,) == (3 + -(-size // (64 // bits)),)
    np.testing.assert_array_equal(ring.unpack(words), row)


@given(largest=st.integers(0, 2**40), clients=st.integers(1, 2**20))
def test_a_lane_is_as_wide_as_its_sum_needs_and_no_wider(largest: int, clients: int) -> None:
    bits = lane_bits(largest, clients)
    assert largest * clients <= 2 ** (bits - 1) - 1
    assert bits == 2 or largest * clients > 2 ** (bits - 2) - 1
    assert largest <= lane_share(bits, clients)
    assert (
        lane_share(bits, clients) * clients <= 2 ** (bits - 1) - 1 < (lane_share(bits, clients) + 1) * clients
    )


@pytest.mark.parametrize(
    ("clients", "widths"),
    [
        (10, (8, 12, 16, 20)),
        (100, (11, 15, 19, 23)),
        (1000, (14, 18, 22, 26)),
        (10_000, (18, 22, 26, 30)),
    ],
)
def test_lanes_have_the_usual_widths(clients: int, widths: tuple[int, ...]) -> None:
    # ceil(log2(n * (2**b - 1) + 1)) for values of b = 4, 8, 12, 16 bits.
    assert tuple(lane_bits(2 ** (b - 1) - 1, clients) for b in (4, 8, 12, 16)) == widths


@pytest.mark.parametrize(("largest", "clients"), [(2**62, 1), (2**40, 2**22), (-1, 1), (1, 0)])
def test_a_sum_that_no_lane_holds_is_refused(largest: int, clients: int) -> None:
    with pytest.raises(ValueError, match="lane"):
        lane_bits(largest, clients)


@pytest.mark.parametrize(("size", "bits"), [(0, 8), (1, 1), (1, 64)])
def test_a_group_of_impossible_lanes_is_refused(size: int, bits: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        LaneGroup(size, bits)
    with pytest.raises(ValueError, match="must not be empty"):
        Ring(())


def test_results_are_written_where_the_caller_wants_them() -> None:
    ring = Ring((LaneGroup(5, 16), LaneGroup(1, 52)))
    row = np.array([1, -2, 3, -4, 5, 6])
    words, back = np.full(ring.words, 7, np.uint64), np.full(6, 7)
    assert ring.pack(row, out=words) is words
    assert ring.unpack(words, out=back) is back
    np.testing.assert_array_equal(back, row)
    assert row.tolist() == [1, -2, 3, -4, 5, 6]


def test_what_does_not_fit_the_ring_is_refused() -> None:
    ring = Ring((LaneGroup(5, 16),))
    right = np.zeros(5, np.int64)
    for row in (np.zeros(4, np.int64), np.zeros((1, 5), np.int64), np.zeros(5, np.int32), np.zeros(5)):
        with pytest.raises(LocalProtocolError, match="T554"):
            ring.pack(row)  # type: ignore[arg-type, unused-ignore]
    for words in (np.zeros(1, np.uint64), np.zeros(2, np.int64)):
        with pytest.raises(LocalProtocolError, match="T554"):
            ring.unpack(words)  # type: ignore[arg-type, unused-ignore]
        with pytest.raises(LocalProtocolError, match="T554"):
            ring.pack(right, out=words)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(LocalProtocolError, match="T554"):
        ring.unpack(np.zeros(2, np.uint64), out=np.zeros(6, np.int64))


def test_a_value_beyond_its_bound_is_refused_and_not_named() -> None:
    ring = Ring((LaneGroup(3, 16), LaneGroup(1, 52)))
    ring.check(np.array([-7, 0, 7, 7]), 7)
    ring.check(np.array([-7, 0, 7, 1000]), (7, 1000))
    wrong: list[tuple[list[int], int | tuple[int, int]]] = [
        ([0, 0, 0, 4321], 7),
        ([0, 0, 0, -4321], (5000, 7)),
        ([4321, 0, 0, 0], (7, 5000)),
        ([-(2**63), 0, 0, 4321], 2**62),
    ]
    for row, largest in wrong:
        with pytest.raises(LocalProtocolError, match="T554: a coordinate of the row is beyond") as refusal:
            ring.check(np.array(row), largest)
        assert "4321" not in str(refusal.value)
