"""Where tensors lie in a flat vector."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.layout import Layout, Segment, finite_rows, rows_within
from tacit.core.spec import SegmentSpec, UpdateSpec

shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


def layout_of(parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]]) -> Layout:
    return Layout.of(
        parameters={f"p{i}": shape for i, shape in enumerate(parameters)},
        buffers={f"b{i}": shape for i, shape in enumerate(buffers)},
    )


@given(parameters=shapes, buffers=shapes)
def test_views_cover_every_coordinate_once_in_order(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]]
) -> None:
    layout = layout_of(parameters, buffers)
    vector = np.arange(layout.size, dtype=np.float32)
    seen = [
        view.ravel() for segment in layout.segments for view in layout.views(vector, segment.name).values()
    ]
    assert np.array_equal(np.concatenate(seen), vector)
    assert layout.size == sum(math.prod(shape) for shape in (*parameters, *buffers))


def test_a_view_writes_into_the_vector() -> None:
    layout = layout_of([(2, 3), ()], [(2,)])
    vector = np.zeros(layout.size, dtype=np.float32)
    layout.views(vector, "parameters")["p1"][...] = 5
    layout.views(vector, "buffers")["b0"][1] = 7
    assert vector.tolist() == [0, 0, 0, 0, 0, 0, 5, 0, 7]


def test_a_scalar_takes_one_coordinate() -> None:
    assert layout_of([()], [()]).slice("buffers") == slice(1, 2)


def test_an_unknown_segment_is_a_key_error() -> None:
    layout, spec = layout_of([(2,)], [(1,)]), UpdateSpec.of(parameters=2)
    for missing in (layout.slice, layout.segment, spec.slice, spec.segment):
        with pytest.raises(KeyError, match="metrics"):
            missing("metrics")


def test_segments_of_one_name_are_refused() -> None:
    segment = Segment(name="a", tensors=())
    with pytest.raises(ValueError, match="must differ"):
        Layout(segments=(segment, segment))


def test_a_spec_has_the_layouts_segments_and_four_bytes_a_coordinate() -> None:
    layout = layout_of([(3, 2)], [(4,)])
    spec = UpdateSpec.for_layout(layout)
    assert spec.names == ("parameters", "buffers")
    assert spec.wire_bytes == 4 * layout.size
    assert spec.slice("buffers") == layout.slice("buffers")


def test_the_bound_of_a_whole_update_needs_a_bound_of_every_segment() -> None:
    spec = UpdateSpec.of(parameters=2, buffers=2).change("parameters", l2_bound=3.0)
    assert spec.l2_bound is None
    assert spec.change("buffers", l2_bound=4.0).l2_bound == 5.0


def test_bits_that_fill_no_byte_are_rounded_up_for_each_segment() -> None:
    spec = UpdateSpec((SegmentSpec("a", 3, bits=3), SegmentSpec("b", 1, bits=1)))
    assert spec.wire_bytes == 2 + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_only_finite_rows_are_called_finite(value: float) -> None:
    rows = np.zeros((3, 4), dtype=np.float32)
    rows[1, 2] = value
    assert finite_rows(rows).tolist() == [True, False, True]


def test_rows_without_coordinates_are_finite() -> None:
    assert finite_rows(np.empty((2, 0), dtype=np.float32)).tolist() == [True, True]
    assert finite_rows(np.empty((0, 3), dtype=np.float32)).tolist() == []


@given(
    bound=st.floats(1e-45, 1e38),
    factors=st.lists(
        st.sampled_from([0.0, 0.3, 0.5, 0.99999999, 1.0, 1.00000001, 1.001, 1e6]), min_size=1, max_size=6
    ),
    special=st.sampled_from([None, None, np.nan, np.inf, -np.inf, 3e38, -3e38]),
    negative=st.booleans(),
)
def test_only_rows_within_a_bound_are_called_so_whatever_its_size(
    bound: float, factors: list[float], special: float | None, negative: bool
) -> None:
    with np.errstate(over="ignore"):
        row = np.array([factor * bound for factor in factors], dtype=np.float64).astype(np.float32)
    if special is not None:
        row[-1] = special
    rows = np.stack([np.zeros_like(row), -row if negative else row])
    expected = all(abs(float(x)) <= bound for x in row)  # False for NaN
    assert rows_within(rows, bound).tolist() == [True, expected]


def test_a_single_coordinate_beyond_the_bound_is_found_among_many() -> None:
    rows = np.full((2, 100_000), 0.001, dtype=np.float32)
    rows[1, 77_777] = -1.0001
    assert rows_within(rows, 1.0).tolist() == [True, False]


@pytest.mark.parametrize(("bound", "beyond"), [(1e-25, 1e-24), (1e-44, 1e-43), (1e-18, 1e-17)])
def test_a_bound_so_small_that_squares_vanish_still_binds(bound: float, beyond: float) -> None:
    rows = np.array([[beyond, 0.0], [bound / 2, -bound / 2]], dtype=np.float32)
    assert rows_within(rows, bound).tolist() == [False, True]
