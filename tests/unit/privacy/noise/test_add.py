"""Noise added in integers: exactly, on a grid that tells nothing, or not at all."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import PlanError
from tacit.core.rule import Grid
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.privacy.noise import FreshNoise, Noise, NoiseLane, SeededKeys, StoredNoise, add_noise, lanes_of
from tacit.privacy.noise.draws import BLOCK
from tests.unit.privacy.noise.checks import ALARM, noise_faults, variance_p

KEY = SeededKeys(0).key(0, "update")
FRESH = FreshNoise((KEY,))


def noised(total: np.ndarray, *lanes: NoiseLane, key: bytes = KEY) -> np.ndarray:
    result = total.copy()
    add_noise(result, lanes, FreshNoise((key,)))
    return result


def in_steps(lane: NoiseLane) -> list[int]:
    """Return the noise of a lane in steps of its grid, each rounded to the nearest integer."""
    blocks = FRESH.blocks(lane.size, lane.scale / lane.step)
    return [round(Fraction(x)) for block in blocks for x in block.tolist()]


@given(
    total=st.lists(st.integers(-(2**62), 2**62), min_size=5, max_size=5),
    scale=st.floats(1e-3, 1e3),
    exponent=st.integers(-44, -21),
)
def test_what_is_released_is_the_sum_and_its_noise_rounded_together(
    total: list[int], scale: float, exponent: int
) -> None:
    lane = NoiseLane(5, 2.0**exponent, scale)
    found = noised(np.array(total), lane).tolist()
    coarse = Fraction(lane.release_step) / Fraction(lane.step)
    exact = [
        math.floor((s + n) / coarse + Fraction(1, 2)) * int(coarse)
        for s, n in zip(total, in_steps(lane), strict=True)
    ]
    if lane.hidden_bits:
        assert found == exact
    else:
        assert found == [s + n for s, n in zip(total, in_steps(lane), strict=True)]


@given(scale=st.floats(1e-6, 1e6), exponent=st.integers(-60, 0))
def test_the_grid_of_release_is_a_millionth_of_the_noise_and_no_finer_than_the_sum(
    scale: float, exponent: int
) -> None:
    lane = NoiseLane(1, 2.0**exponent, scale)
    assert lane.release_step == max(lane.step, 2.0 ** (math.floor(math.log2(scale)) - 20))


def test_on_the_sums_own_grid_the_last_bits_would_shine_through() -> None:
    # Of noise of 2^57 steps float64 keeps 53 bits: most draws are multiples of 4 steps and more.
    noise = np.array(in_steps(NoiseLane(1000, 2.0**-57, 1.0)))
    assert (noise % 4 == 0).mean() > 0.5
    total = np.full(1000, 3)
    assert ((total + noise) % 4 == 3).mean() > 0.5


@pytest.mark.parametrize("total", [0, 1, 12345, 2**36 - 1, -1, -(2**35)])
def test_what_is_released_has_no_last_bits(total: int) -> None:
    lane = NoiseLane(1000, 2.0**-57, 1.0)
    assert lane.hidden_bits == 37
    assert not (noised(np.full(1000, total), lane) % 2**37).any()


def test_a_sum_below_the_grid_of_release_is_not_lost_but_rounded_with_its_noise() -> None:
    lane = NoiseLane(200_000, 2.0**-57, 1.0)
    quarter = np.full(lane.size, 2**35)
    moved = (noised(quarter, lane) - noised(quarter * 0, lane)) >> 37
    assert set(moved.tolist()) == {0, 1}
    assert moved.mean() == pytest.approx(0.25, abs=0.006)


def test_the_release_of_zero_has_no_bias() -> None:
    lane = NoiseLane(1_000_000, 2.0**-32, 1.0)
    released = noised(np.zeros(lane.size, dtype=np.int64), lane) * lane.step
    # Against the same draws unrounded, so that the draws' own scatter is out of the way.
    drawn = np.concatenate([block.copy() for block in FRESH.blocks(lane.size)])
    error = released - drawn
    assert abs(error.mean()) < 5 * lane.release_step / math.sqrt(12 * lane.size)
    assert np.abs(error).max() <= lane.release_step / 2 + lane.step


def test_every_segment_has_its_own_scale_whatever_the_grid_and_the_place() -> None:
    sizes, scales, exponents = (
        (1, BLOCK - 2, 3, 500_000, 700_000),
        (5.0, 0.01, 70.0, 1.0, 0.3),
        (-30, -50, -9, -40, -40),
    )
    lanes = tuple(NoiseLane(size, 2.0**e, s) for size, s, e in zip(sizes, scales, exponents, strict=True))
    total = noised(np.zeros(sum(sizes), dtype=np.int64), *lanes)
    stops = np.cumsum(sizes)
    for lane, stop in zip(lanes, stops, strict=True):
        standard = total[stop - lane.size : stop] * lane.step / lane.scale
        assert variance_p(standard) > ALARM
        assert standard.all()
    steps, all_scales = (np.repeat([getattr(lane, of) for lane in lanes], sizes) for of in ("step", "scale"))
    whole = total * steps / all_scales
    np.testing.assert_allclose(
        whole, np.concatenate([b.copy() for b in FRESH.blocks(len(total))]), atol=2.0**-9
    )


def test_the_grid_of_a_sum_gives_its_lanes_and_the_noise_arrives_in_the_sum() -> None:
    spec = UpdateSpec(
        (SegmentSpec("a", 900_000, coordinate_bound=1.0), SegmentSpec("b", 500_000, coordinate_bound=0.1))
    )
    grid = Grid.for_sum(spec, clients=1000)
    total = np.zeros(grid.size, dtype=np.int64)
    grid.add_rows(np.tile(np.float32([0.05]), (3, grid.size)), total)
    before = grid.to_float(total)
    add_noise(total, lanes_of(grid, [2.0, 0.5]), FRESH)
    noise = grid.to_float(total) - before
    noise[900_000:] *= 4
    assert noise_faults(noise[None], 2.0) == []


def test_noise_of_several_keys_is_their_weighted_sum() -> None:
    other = SeededKeys(0).key(1, "update")
    both = np.concatenate([b.copy() for b in FreshNoise((KEY, other), (1.0, -0.5)).blocks(BLOCK + 9, 3.0)])
    one, two = (np.concatenate([b.copy() for b in FreshNoise((k,)).blocks(BLOCK + 9)]) for k in (KEY, other))
    np.testing.assert_allclose(both, 3 * (one - 0.5 * two), rtol=0, atol=1e-13)


def test_stored_noise_is_added_as_it_stands_and_stays_as_it_is() -> None:
    vector = np.linspace(-3, 3, BLOCK + 5)
    noise, total = StoredNoise(vector.copy()), np.zeros(BLOCK + 5, dtype=np.int64)
    add_noise(total, (NoiseLane(BLOCK + 5, 2.0**-20, 2.0),), noise)
    np.testing.assert_allclose(total * 2.0**-20, 2 * vector, rtol=0, atol=2.0**-19)
    assert np.array_equal(noise.vector, vector)
    assert noise.largest == 3


def test_secrets_are_not_shown() -> None:
    assert repr(KEY) not in repr(FRESH)
    assert "array" not in repr(StoredNoise(np.ones(3)))


# --- what is refused ----------------------------------------------------------------------------


def refused(total: np.ndarray, *lanes: NoiseLane, noise: Noise = FRESH) -> str:
    before = total.copy()
    with pytest.raises(PlanError) as caught:
        add_noise(total, lanes, noise)
    assert np.array_equal(total, before)
    return caught.value.code


@given(scale=st.floats(1e-3, 1e3), bits=st.integers(0, 20))
def test_a_grid_of_less_than_a_thousand_steps_in_the_noise_is_refused(scale: float, bits: int) -> None:
    step = 2.0 ** (math.floor(math.log2(scale)) - bits)
    total = np.zeros(1, dtype=np.int64)
    if step > scale / 2**10:
        assert refused(total, NoiseLane(1, step, scale)) == "T180"
    else:
        add_noise(total, (NoiseLane(1, step, scale),), FRESH)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_segment_without_noise_is_refused_and_nothing_is_released(scale: float) -> None:
    assert (
        refused(np.zeros(4, np.int64), NoiseLane(3, 2.0**-40, 1.0), NoiseLane(1, 2.0**-40, scale)) == "T182"
    )


@pytest.mark.parametrize("sizes", [(3,), (5,), (3, 2), ()])
def test_segments_that_do_not_cover_the_sum_are_refused(sizes: tuple[int, ...]) -> None:
    lanes = [NoiseLane(size, 2.0**-40, 1.0) for size in sizes]
    assert refused(np.zeros(4, np.int64), *lanes) == "T183"


@settings(max_examples=300)
@given(scale=st.floats(1e-3, 1e9), exponent=st.integers(-70, -20), sign=st.sampled_from([-1, 1]))
def test_noise_never_overflows_the_largest_sum(scale: float, exponent: int, sign: int) -> None:
    lane, total = NoiseLane(1, 2.0**exponent, scale), np.array([sign * 2**62])
    worst = StoredNoise(np.array([sign * FRESH.largest]))
    if lane.step > scale / 2**10:
        assert refused(total, lane, noise=worst) == "T180"
    elif worst.largest * scale / lane.step > 2**62 - 2.0 ** (lane.hidden_bits + 1):
        assert refused(total, lane, noise=worst) == "T181"
    else:
        add_noise(total, (lane,), worst)
        exact = Fraction(sign * 2**62) + Fraction(worst.vector[0]) * Fraction(scale) / Fraction(lane.step)
        assert abs(total[0] - exact) <= Fraction(lane.release_step) / Fraction(lane.step) + 2**11


def test_what_is_refused_says_which_grid_would_do() -> None:
    with pytest.raises(PlanError, match=r"at most 0\.000976562"):
        add_noise(np.zeros(1, np.int64), (NoiseLane(1, 0.5, 1.0),), FRESH)
    with pytest.raises(PlanError, match="may overflow") as caught:
        add_noise(np.zeros(1, np.int64), (NoiseLane(1, 2.0**-62, 1.0),), FRESH)
    step = float(caught.value.fix.split()[-1].rstrip("."))
    add_noise(np.zeros(1, np.int64), (NoiseLane(1, 2.0 ** math.ceil(math.log2(step)), 1.0),), FRESH)


def test_an_empty_sum_stays_empty() -> None:
    add_noise(np.zeros(0, np.int64), (), FRESH)
