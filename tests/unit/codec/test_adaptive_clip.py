"""A clip whose bound comes with the round: never beyond what was declared, and a bit that says little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.codec import WITHIN, AdaptiveClip, Chain, Codec, Withhold
from tacit.codec.adaptive_clip import REACH
from tacit.core.errors import PlanError
from tacit.core.layout import Rows, empty_rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext
from tacit.testing.strategies import rows

SPEC = UpdateSpec.of(parameters=12)
CLIP = AdaptiveClip(initial=2.0)


def clipped(sent: Rows, bound: float | None = None, clip: AdaptiveClip = CLIP) -> tuple[Rows, Rows]:
    """Return what is sent of updates, and the bits."""
    ctx = StageContext(
        SPEC, 0, 1, tuple(f"c{i}" for i in range(len(sent))), np.ones(len(sent)), clipping_bound=bound
    )
    with np.errstate(over="ignore"):
        encoded, memory = clip.encode(sent.copy(), {}, ctx)
    assert memory == {}
    assert encoded.dtype == np.float32
    return encoded[:, :-1], encoded[:, -1]


@given(sent=rows(), bound=st.floats(1e-20, 1e6))
def test_updates_are_as_long_as_the_rounds_bound_at_most(sent: Rows, bound: float) -> None:
    updates, bits = clipped(sent, bound)
    norms = np.linalg.norm(updates.astype(np.float64), axis=1)
    assert norms.max() <= min(bound, 2.0 * REACH)
    before = np.linalg.norm(sent.astype(np.float64), axis=1)
    told = np.where(np.isfinite(before), np.where(before <= min(bound, 2.0 * REACH), 0.5, -0.5), 0.0)
    assert np.array_equal(bits, told)
    inside = np.isfinite(before) & (before <= bound)
    assert np.array_equal(updates[inside], sent[inside])


def test_the_direction_stays() -> None:
    sent = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32) * 100
    updates, _ = clipped(sent, 0.5)
    norms = np.linalg.norm(sent, axis=1, keepdims=True)
    np.testing.assert_allclose(updates, sent / norms * 0.5, rtol=3e-6)


def test_without_a_bound_of_the_round_the_first_one_holds() -> None:
    assert np.linalg.norm(clipped(np.ones((1, 12), np.float32))[0]) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("bound", [float("inf"), 1e300, 2.0 * REACH * 1.01])
def test_no_server_can_widen_the_bound_beyond_what_was_declared(bound: float) -> None:
    updates, bits = clipped(np.full((1, 12), 1e6, np.float32), bound)
    declared = CLIP.plan(SPEC).segment("parameters").l2_bound
    assert declared == 2.0 * REACH
    assert np.linalg.norm(updates.astype(np.float64)) <= declared
    assert bits.tolist() == [-0.5]


@pytest.mark.parametrize("bound", [float("nan"), -1.0, 0.0, -float("inf")])
def test_what_is_no_bound_lets_nothing_through(bound: float) -> None:
    updates, bits = clipped(np.ones((2, 12), np.float32), bound)
    assert not updates.any()
    assert np.abs(bits).max() <= 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_says_nothing_not_even_a_bit(value: float) -> None:
    sent = np.ones((3, 12), np.float32)
    sent[1, 5] = value
    updates, bits = clipped(sent, 1.0)
    assert not updates[1].any()
    assert bits.tolist() == [-0.5, 0.0, -0.5]
    assert updates[0].any()


def test_a_norm_on_the_bound_is_within() -> None:
    sent = np.zeros((2, 12), np.float32)
    sent[0, 3], sent[1, 3] = 1.0, np.nextafter(np.float32(1.0), np.float32(2.0))
    updates, bits = clipped(sent, 1.0)
    assert bits.tolist() == [0.5, -0.5]
    assert updates[0, 3] == 1.0
    assert updates[1, 3] < 1.0


def test_the_bit_is_half_a_unit_of_what_is_declared_and_the_update_comes_first() -> None:
    planned = CLIP.plan(SPEC)
    assert planned.names == ("parameters", WITHIN)
    assert planned.segment(WITHIN).l2_bound == planned.segment(WITHIN).coordinate_bound == 0.5
    assert planned.segment("parameters").coordinate_bound == 1024.0


def test_other_segments_must_be_withheld_first() -> None:
    with pytest.raises(PlanError, match="metrics") as caught:
        CLIP.plan(UpdateSpec.of(parameters=12, metrics=1))
    assert caught.value.code == "T153"


def test_the_bit_takes_the_place_of_what_was_withheld() -> None:
    codec = Codec(Chain((Withhold(), CLIP)), UpdateSpec.of(parameters=12, metrics=1))
    made = empty_rows(2, 13)
    made[:] = [[0.1] * 12 + [77.0], [9.0] * 12 + [78.0]]
    ctx = StageContext(codec.spec, 0, 1, ("a", "b"), np.ones(2), is_bounded=True, room=2, clipping_bound=1.0)
    sent, _ = codec.encode(made, {}, ctx)
    assert sent.shape == (2, 13)
    assert sent[:, -1].tolist() == [0.5, -0.5]
    assert 77.0 not in sent
    assert np.shares_memory(sent, made)
