"""Rounding to the grid of a secure sum; the laws of every stage are in tests/laws."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.codec import AdaptiveClip, Chain, ClipL2, OnGrid, Weigh
from tacit.core.errors import ConfigError, PlanError
from tacit.core.layout import Rows
from tacit.core.rule import Grid, Lane
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.stage import StageContext
from tacit.privacy import LocalNoise

SIZE = 40
SPEC = UpdateSpec.of(parameters=SIZE)
CLIPPED = ClipL2(bound=1.0).plan(SPEC)
Exponents = st.integers(-60, 6)


def context(clients: int, spec: UpdateSpec = SPEC, **more: object) -> StageContext:
    ids = tuple(f"c{i}" for i in range(clients))
    return StageContext(spec, 7, 3, ids, np.full(clients, 5), **more)  # type: ignore[arg-type]


def stage(step: float) -> OnGrid:
    return OnGrid(steps={"parameters": step})


def rounded(rows: Rows, step: float, spec: UpdateSpec = SPEC, **more: object) -> Rows:
    return stage(step).encode(rows.copy(), {}, context(len(rows), spec, **more))[0]


def normals(clients: int, size: int = SIZE, scale: float = 1.0) -> Rows:
    return (np.random.default_rng(0).standard_normal((clients, size)) * scale).astype(np.float32)


# --- what comes out lies on the grid -----------------------------------------------------------


@given(exponent=Exponents, scale=st.sampled_from([1e-30, 1e-6, 1.0, 100.0]))
def test_every_coordinate_is_a_whole_number_of_steps_and_moves_by_less_than_one(
    exponent: int, scale: float
) -> None:
    step, sent = 2.0**exponent, normals(3, scale=scale)
    found = rounded(sent, step).astype(np.float64)
    assert np.array_equal(found / step, np.rint(found / step))
    assert (np.abs(found - sent) < step).all()


def test_sums_are_the_same_in_any_order_and_grouping() -> None:
    sent = rounded(normals(9, scale=0.1), 2.0**-20)
    grid = Grid((Lane(SIZE, 2.0**-20, -1024.0, 1024.0),), clients=9)
    one_by_one, together = np.zeros(SIZE, np.int64), np.zeros(SIZE, np.int64)
    for row in sent[::-1]:
        grid.add_rows(row[None], one_by_one)
    grid.add_rows(sent, together)
    assert np.array_equal(one_by_one, together)
    assert np.array_equal(together * 2.0**-20, sent.astype(np.float64).sum(axis=0))


def test_what_lies_on_the_grid_already_is_left_alone() -> None:
    on_it = np.rint(normals(4, scale=1000.0)) * np.float32(0.25)
    assert np.array_equal(rounded(on_it, 0.25), on_it)
    assert not rounded(np.zeros((1, SIZE), np.float32), 0.25).any()


# --- unbiased ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.25, 0.5, 0.9, -0.1, -0.7, 3.3])
def test_rounding_leaves_the_mean_where_it_was(value: float) -> None:
    size = 200_000
    sent = np.full((1, size), value, np.float32)
    found = rounded(sent, 1.0, UpdateSpec.of(parameters=size))[0].astype(np.float64)
    part = value - math.floor(value)
    assert set(found) <= {math.floor(value), math.floor(value) + 1}
    deviation = math.sqrt(part * (1 - part) / size)
    assert abs(found.mean() - value) < 5 * deviation


def test_draws_follow_from_seed_round_and_client_alone() -> None:
    sent = np.full((2, 1000), 0.5, np.float32)
    spec = UpdateSpec.of(parameters=1000)
    ctx = context(2, spec)

    def encoded(ctx: StageContext) -> Rows:
        return stage(1.0).encode(sent.copy(), {}, ctx)[0]

    first = encoded(ctx)
    assert np.array_equal(first, encoded(ctx))
    assert not np.array_equal(first[0], first[1])
    swapped = encoded(replace(ctx, clients=ctx.clients[::-1]))
    assert np.array_equal(swapped, first[::-1])
    assert not np.array_equal(first, encoded(replace(ctx, round=4)))
    assert not np.array_equal(first, encoded(replace(ctx, seed=8)))


# --- bounds ------------------------------------------------------------------------------------


@given(exponent=Exponents, bound=st.floats(1e-6, 1000.0))
def test_nothing_is_rounded_beyond_the_bounds_that_are_declared(exponent: int, bound: float) -> None:
    spec = ClipL2(bound=bound).plan(SPEC)
    declared = stage(2.0**exponent).plan(spec).segment("parameters")
    hostile = np.zeros((4, SIZE), np.float32)
    hostile[0, 0], hostile[1, 5] = bound, -bound
    hostile[2], hostile[3] = bound / math.sqrt(SIZE), -bound / math.sqrt(SIZE)
    clipped = ClipL2(bound=bound).encode(hostile, {}, context(4))[0]
    found = rounded(clipped, 2.0**exponent, spec).astype(np.float64)
    assert np.abs(found).max() <= declared.coordinate_bound
    assert declared.l2_bound is not None
    assert np.linalg.norm(found, axis=1).max() <= declared.l2_bound


def test_the_plan_declares_what_rounding_adds() -> None:
    declared = stage(0.25).plan(ClipL2(bound=1.1).plan(SPEC)).segment("parameters")
    assert declared.coordinate_bound == 1.25
    assert declared.l2_bound == pytest.approx(1.1 + 0.25 * math.sqrt(SIZE))
    assert stage(0.25).plan(SPEC).l2_bound is None
    one = OnGrid(steps={"weight": 0.25}).plan(UpdateSpec((SegmentSpec("weight", 1, 0.9, l2_bound=0.9),)))
    assert one.l2_bound == 1.0  # a single coordinate's norm is its size


def test_rounding_does_lengthen_updates_so_that_the_clips_own_bound_would_be_a_lie() -> None:
    step, size = 2.0**-4, 10_000
    spec = ClipL2(bound=1.0).plan(UpdateSpec.of(parameters=size))
    short = np.full((1, size), 1 / math.sqrt(size), np.float32) * np.float32(0.999)
    length = float(np.linalg.norm(rounded(short, step, spec)[0].astype(np.float64)))
    declared = stage(step).plan(spec).l2_bound
    assert declared is not None
    assert 2.0 < length <= declared


@pytest.mark.parametrize("bound", [0.001, 0.2, 0.7, 2.0**12])
def test_where_the_bound_moves_an_update_stays_within_the_share_that_noise_is_scaled_by(bound: float) -> None:
    size, step = 400, 2.0**-8
    spec = AdaptiveClip(initial=1.0).plan(UpdateSpec.of(parameters=size))
    chain = OnGrid(steps={"parameters": step, "within_bound": 2.0**-40})
    declared = chain.plan(spec)
    clip, sent = spec.segment("parameters").l2_bound, declared.segment("parameters").l2_bound
    assert clip is not None
    assert sent is not None
    assert sent >= clip
    rows = normals(6, size + 1)
    rows[:, :-1] *= (bound * (1 - 2**-20) / np.linalg.norm(rows[:, :-1], axis=1))[:, None]
    rows[:, -1] = 0.5
    found = chain.encode(rows, {}, context(6, spec, clipping_bound=bound))[0].astype(np.float64)
    assert (np.linalg.norm(found[:, :-1], axis=1) <= bound * sent / clip).all()
    assert (found[:, -1] == 0.5).all()  # the bit is on the grid: its sensitivity stays a half


def test_a_bound_that_is_none_lets_nothing_through() -> None:
    for bound in (float("nan"), -1.0, 0.0):
        assert not rounded(normals(2), 0.25, CLIPPED, clipping_bound=bound).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, 1e30])
def test_a_row_that_is_not_finite_or_beyond_its_bound_counts_as_none_at_all(value: float) -> None:
    sent = np.full((2, SIZE), 0.1, np.float32)
    sent[0, 3] = value
    found = rounded(sent, 2.0**-10, CLIPPED)
    assert not found[0].any()
    assert found[1].all()


def test_a_row_that_somebody_wrongly_called_bounded_cannot_overflow_the_ring() -> None:
    sent = np.full((2, SIZE), 3e38, np.float32)
    sent[1] = -np.inf
    found = rounded(sent, 2.0**-10, CLIPPED, is_bounded=True)
    assert np.abs(found).max() <= stage(2.0**-10).plan(CLIPPED).segment("parameters").coordinate_bound


def test_a_weight_is_never_negative_and_stays_what_it_is() -> None:
    chain = Chain((ClipL2(bound=1.0), Weigh(cap=100), OnGrid(steps={"parameters": 2.0**-10, "weight": 1.0})))
    sent, _ = chain.encode(normals(2), {}, StageContext(SPEC, 0, 1, ("a", "b"), np.array([3, 4000])))
    assert sent[:, -1].tolist() == [3.0, 100.0]


def test_noise_that_a_client_has_added_hides_a_bad_row_behind_the_grid_too() -> None:
    noise = LocalNoise(scale=1.0, randomness="seeded")
    spec = Chain((ClipL2(bound=1.0), noise)).plan(SPEC)
    chain = Chain((ClipL2(bound=1.0), noise, stage(2.0**-10)))
    bad = normals(2)
    bad[0, 0] = np.nan
    sent, _ = chain.encode(bad, {}, context(2))
    assert np.count_nonzero(sent[0]) > SIZE / 2
    assert np.abs(sent).max() <= stage(2.0**-10).plan(spec).segment("parameters").coordinate_bound


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.3, 3.0, 0.1, 2.0**-10 * 1.5])
def test_a_step_that_is_no_power_of_two_is_refused(step: float) -> None:
    with pytest.raises(ConfigError, match="no power of two") as caught:
        stage(step)
    assert caught.value.code == "T104"


@pytest.mark.parametrize("step", [0.0, -1.0, 2.0**-130, 2.0**130, math.nan])
def test_a_step_that_float32_cannot_divide_by_is_refused(step: float) -> None:
    with pytest.raises(ConfigError):
        stage(step)


@pytest.mark.parametrize("names", [("buffers",), ("parameters", "buffers")])
def test_every_segment_has_a_step_and_no_other_has(names: tuple[str, ...]) -> None:
    with pytest.raises(PlanError) as caught:
        OnGrid(steps=dict.fromkeys(names, 1.0)).plan(SPEC)
    assert caught.value.code == "T153"
