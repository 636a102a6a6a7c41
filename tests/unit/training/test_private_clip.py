"""The clipped sum and its noise: no record, however hostile, moves the sum by more than the bound."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.training.private_clip import add_clipped, add_noise

SIZES = (7, 1, 12)
BOUND = 0.7
LARGEST = float(np.finfo(np.float32).max)
Matrix = npt.NDArray[np.float32]


def summed(rows: Matrix, bound: float = BOUND, *, sizes: tuple[int, ...] = SIZES) -> npt.NDArray[np.float64]:
    total = np.zeros(rows.shape[1])
    add_clipped(total, np.split(rows, np.cumsum(sizes)[:-1], axis=1), bound)
    return total


def ordinary(examples: int, scale: float = 1.0) -> Matrix:
    rng = np.random.default_rng(examples)
    return (scale * rng.standard_normal((examples, sum(SIZES)))).astype(np.float32)


def one(value: float, *, at: slice = slice(None)) -> Matrix:
    row = np.zeros((1, sum(SIZES)), np.float32)
    row[:, at] = value
    return row


HOSTILE = {
    "huge": one(LARGEST),
    "huge-spike": one(-LARGEST, at=slice(3, 4)),
    "infinite": one(np.inf),
    "one-infinity": one(-np.inf, at=slice(8, 9)),
    "nan": one(np.nan),
    "one-nan": one(np.nan, at=slice(0, 1)),
    "zero": one(0.0),
    "denormal": one(1e-44),
    "every-layer-large": one(1e4),
    "just-over": one(BOUND / np.sqrt(sum(SIZES)) * (1 + 1e-6)),
    "ordinary": ordinary(1),
}


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("scale", [0.01, 1.0, 1e6])
def test_one_record_moves_the_sum_by_at_most_the_bound(name: str, place: int, scale: float) -> None:
    others = ordinary(6, scale)
    with_it = np.insert(others, place, HOSTILE[name], axis=0)
    moved = np.linalg.norm(summed(with_it) - summed(others))
    assert moved <= BOUND


@pytest.mark.parametrize("name", ["infinite", "one-infinity", "nan", "one-nan", "zero"])
def test_a_gradient_that_is_not_finite_counts_as_zero(name: str) -> None:
    others = ordinary(5)
    assert np.array_equal(summed(np.concatenate([others, HOSTILE[name]])), summed(others))


@given(
    values=st.lists(
        st.lists(st.floats(width=32), min_size=20, max_size=20),
        min_size=1,
        max_size=8,
    ),
    bound=st.floats(1e-6, 1e6),
)
def test_no_gradients_make_a_record_move_the_sum_by_more_than_the_bound(
    values: list[list[float]], bound: float
) -> None:
    rows = np.array(values, np.float32)
    for place in range(len(rows)):
        without = np.delete(rows, place, axis=0)
        assert np.linalg.norm(summed(rows, bound) - summed(without, bound)) <= bound


def test_a_long_gradient_keeps_its_direction_and_gets_the_length_of_the_bound() -> None:
    row = ordinary(1)
    row *= 3 / np.linalg.norm(row)
    np.testing.assert_allclose(summed(row), BOUND / 3 * row[0], rtol=1e-6)


def test_a_short_gradient_is_left_as_it_is() -> None:
    row = ordinary(1)
    row *= 0.5 / np.linalg.norm(row)
    assert np.array_equal(summed(row), row[0].astype(np.float64))


def test_the_norm_runs_over_all_parameters_together() -> None:
    rows = one(10.0)
    assert np.linalg.norm(summed(rows)) == pytest.approx(BOUND, rel=1e-6)


def test_the_sum_is_the_sum_of_the_clipped_gradients_one_by_one() -> None:
    rows = ordinary(40, 0.3)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert (norms > BOUND).any()
    assert (norms < BOUND * 2).any()
    wanted = (rows * np.minimum(1, BOUND / norms)).sum(axis=0)
    np.testing.assert_allclose(summed(rows), wanted, rtol=1e-8, atol=1e-8)


def test_a_gradient_longer_than_one_block_is_added_whole() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 100_000)).astype(np.float32)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    total = summed(rows, 2.0, sizes=(99_000, 1_000))
    np.testing.assert_allclose(total, (rows * 2.0 / norms).sum(axis=0), rtol=1e-6, atol=1e-12)


# --- noise -----------------------------------------------------------------------------------------


def test_noise_is_the_normals_times_the_standard_deviation() -> None:
    total, normals = np.arange(5.0), np.array([-1.0, 0.0, 0.5, 2.0, 3.0])
    np.testing.assert_allclose(add_noise(total, normals, 0.4), total + 0.4 * normals, atol=1e-6)


@pytest.mark.parametrize("std", [1e-9, 0.3, 1.0, 7e8])
def test_what_is_released_lies_on_a_grid_that_the_data_cannot_move(std: float) -> None:
    rng = np.random.default_rng(0)
    grid = 2.0 ** (np.floor(np.log2(std)) - 20)
    for scale in (1e-12, 1.0, 1e3):
        noisy = add_noise(std * scale * rng.standard_normal(100), rng.standard_normal(100), std)
        assert np.array_equal(noisy / grid, np.rint(noisy / grid))


def test_noise_of_another_size_is_not_broadcast() -> None:
    with pytest.raises(AssertionError):
        add_noise(np.zeros(3), np.zeros(1), 1.0)
