"""The fixed-point grid: exact sums, no overflow, nothing beyond a declared bound."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.codec import Weigh
from tacit.core.errors import RemoteProtocolError
from tacit.core.rule import Grid, Lane
from tacit.core.spec import SegmentSpec, UpdateSpec

bounds = st.floats(1e-6, 1e12)


def grid_of(bound: float, clients: int, size: int = 1) -> Grid:
    return Grid.for_sum(UpdateSpec((SegmentSpec("a", size, coordinate_bound=bound),)), clients)


def summed(rows: np.ndarray, grid: Grid) -> np.ndarray:
    total = np.zeros(grid.size, dtype=np.int64)
    grid.add_rows(rows, total)
    return total


def one_by_one(rows: np.ndarray, grid: Grid) -> np.ndarray:
    total = np.zeros(grid.size, dtype=np.int64)
    for row in rows:
        grid.add_rows(row[None], total)
    return total


@given(bound=bounds, clients=st.integers(1, 2**37))
def test_a_sum_of_the_largest_coordinates_of_all_clients_fits_64_bits(bound: float, clients: int) -> None:
    step = grid_of(bound, clients).lanes[0].step
    assert math.frexp(step)[0] == 0.5  # a power of two
    largest = round(Fraction(bound) / Fraction(step))
    assert clients * largest <= 2**63 - 1


def drawn_rows(data: st.DataObject, bound: float, most: int) -> np.ndarray:
    shares = data.draw(st.lists(st.tuples(*[st.floats(-1, 1)] * 2), min_size=1, max_size=min(most, 6)))
    largest = np.float32(bound)
    if float(largest) > bound:
        largest = np.nextafter(largest, np.float32(0))
    return (np.array(shares) * largest).astype(np.float32).clip(-largest, largest)


@given(bound=bounds, clients=st.integers(1, 1000), data=st.data())
def test_rows_added_one_by_one_are_the_sum_of_the_rounded_coordinates_in_big_integers(
    bound: float, clients: int, data: st.DataObject
) -> None:
    grid = grid_of(bound, clients, size=2)
    step = grid.lanes[0].step
    rows = drawn_rows(data, bound, clients)
    expected = [sum(round(Fraction(float(x)) / Fraction(step)) for x in column) for column in rows.T]
    assert one_by_one(rows, grid).tolist() == expected


@given(bound=bounds, clients=st.integers(1, 1000), data=st.data())
def test_a_group_differs_from_its_rows_one_by_one_by_half_a_step_each_and_the_rounding_of_float64(
    bound: float, clients: int, data: st.DataObject
) -> None:
    grid = grid_of(bound, clients, size=2)
    step = Fraction(grid.lanes[0].step)
    rows = drawn_rows(data, bound, clients)
    for column, found in zip(rows.T, summed(rows, grid).tolist(), strict=True):
        exact = sum(Fraction(float(x)) / step for x in column)
        rounding = len(rows) * sum(abs(Fraction(float(x)) / step) for x in column) / 2**53
        assert abs(found - exact) <= Fraction(1, 2) + rounding
        assert abs(found - sum(round(Fraction(float(x)) / step) for x in column)) <= (
            Fraction(1, 2) + Fraction(len(rows), 2) + rounding
        )


@given(
    rows=st.lists(st.lists(st.integers(-(2**24), 2**24), min_size=3, max_size=3), min_size=1, max_size=40),
    exponent=st.integers(-30, 30),
)
def test_rows_that_lie_on_the_grid_are_added_exactly(rows: list[list[int]], exponent: int) -> None:
    grid = Grid((Lane(3, 2.0**exponent, -(2.0**exponent) * 2**24, 2.0**exponent * 2**24),), clients=64)
    on_grid = np.array(rows, dtype=np.float32) * np.float32(2.0**exponent)
    assert summed(on_grid, grid).tolist() == np.array(rows).sum(axis=0).tolist()


@given(clients=st.integers(1, 2000), bound=bounds)
def test_an_update_loses_no_more_than_half_a_step_and_a_step_is_finer_than_float32(
    clients: int, bound: float
) -> None:
    grid = grid_of(bound, clients)
    step = grid.lanes[0].step
    row = np.array([[np.float32(bound) / np.float32(3)]], dtype=np.float32)
    back = grid.to_float(summed(row, grid))
    assert abs(back[0] - float(row[0, 0])) <= step / 2
    assert step <= bound * 2**-24


def test_groups_may_come_in_any_order_and_differ_from_their_clients_by_half_a_step_each() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 40_000)).astype(np.float32)  # several blocks
    grid = grid_of(8.0, 50, size=40_000)
    groups = np.split(rows, [3, 4, 20, 43])
    whole = np.zeros(grid.size, dtype=np.int64)
    again = whole.copy()
    for index in range(5):
        grid.add_rows(groups[index], whole)
        grid.add_rows(groups[(3 * index + 1) % 5], again)
    assert np.array_equal(whole, again)
    assert np.abs(whole - one_by_one(rows, grid)).max() <= (50 + 5) / 2
    np.testing.assert_allclose(grid.to_float(whole), rows.astype(np.float64).sum(axis=0), atol=1e-12)


def test_a_small_coordinate_survives_beside_a_large_one_of_the_group() -> None:
    grid = grid_of(2.0**10, 4, size=1)
    rows = np.array([[2.0**10], [2.0**-30], [-(2.0**10)]], dtype=np.float32)
    assert grid.to_float(summed(rows, grid)).tolist() == [2.0**-30]  # float32 would have lost it


def test_adding_does_not_change_the_rows() -> None:
    rows = np.full((2, 3), 0.1, dtype=np.float32)
    before = rows.copy()
    summed(rows, grid_of(1.0, 2, size=3))
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0001, -1.0001, 3e38])
@pytest.mark.parametrize("place", [0, 4])
def test_a_coordinate_beyond_its_bound_is_refused_and_adds_nothing(value: float, place: int) -> None:
    spec = UpdateSpec((SegmentSpec("a", 3, coordinate_bound=1.0), SegmentSpec("b", 2, coordinate_bound=1.0)))
    grid = Grid.for_sum(spec, 4)
    rows = np.zeros((2, 5), dtype=np.float32)
    rows[1, place] = value
    rows[0] = 0.5
    total = np.zeros(5, dtype=np.int64)
    with pytest.raises(RemoteProtocolError) as caught:
        grid.add_rows(rows, total)
    assert caught.value.code == "T502"
    assert not total.any()


def test_hostile_rows_that_cancel_out_are_refused_all_the_same() -> None:
    rows = np.array([[3.0], [-3.0]], dtype=np.float32)
    with pytest.raises(RemoteProtocolError, match="T502"):
        summed(rows, grid_of(1.0, 4))


def test_each_segment_is_held_to_its_own_bound() -> None:
    spec = UpdateSpec((SegmentSpec("a", 1, coordinate_bound=1.0), SegmentSpec("b", 1, coordinate_bound=9.0)))
    grid = Grid.for_sum(spec, 4)
    assert grid.to_float(summed(np.array([[1.0, -9.0]], np.float32), grid)).tolist() == [1.0, -9.0]
    with pytest.raises(RemoteProtocolError, match="outside -1 to 1"):
        summed(np.array([[2.0, 2.0]], np.float32), grid)


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,), (1, 3, 1), (0, 2)])
def test_a_row_of_another_length_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        summed(np.zeros(shape, dtype=np.float32), grid_of(1.0, 4, size=3))
    assert caught.value.code == "T501"


def test_a_sum_of_nobody_is_zero() -> None:
    assert summed(np.zeros((0, 3), dtype=np.float32), grid_of(1.0, 4, size=3)).tolist() == [0, 0, 0]


def test_a_negative_weight_does_not_get_in() -> None:
    spec = Weigh().plan(UpdateSpec.of(parameters=1))
    grid = Grid.for_sum(spec, clients=10)
    total = np.zeros(2, dtype=np.int64)
    with pytest.raises(RemoteProtocolError, match="T502"):
        grid.add_rows(np.array([[1.0, 10.0], [1.0, -89.0]], dtype=np.float32), total)
    assert not total.any()


def test_the_smallest_bound_has_a_grid_that_still_computes() -> None:
    grid = grid_of(1e-300, 4)
    assert grid.to_float(summed(np.array([[0.0]], np.float32), grid)).tolist() == [0.0]
    tiny = np.float32(1e-45)  # the smallest float32 there is
    assert grid_of(1e-44, 4).to_float(summed(np.array([[tiny]]), grid_of(1e-44, 4)))[0] == float(tiny)
