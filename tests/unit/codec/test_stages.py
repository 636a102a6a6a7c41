"""Clipping, weighing, and chains of both; the laws of every stage are in tests/laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.codec import Chain, ClipL2, Codec, Weigh
from tacit.core.errors import ConfigError, PlanError, RemoteProtocolError
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext

SPEC = UpdateSpec.of(parameters=4, metrics=1)


def context(*examples: int) -> StageContext:
    return StageContext(SPEC, 0, 1, tuple(f"c{i}" for i in range(len(examples))), np.array(examples))


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


# --- clip --------------------------------------------------------------------------------------


def test_a_long_update_is_scaled_to_the_bound_and_keeps_its_direction() -> None:
    sent, _ = ClipL2(bound=1.0).encode(rows([3, 0, 4, 0, 7]), {}, context(1))
    np.testing.assert_allclose(sent[0], [0.6, 0, 0.8, 0, 7], rtol=2e-6)


def test_a_clipped_update_has_the_bounds_length_and_not_much_less() -> None:
    rng = np.random.default_rng(0)
    sent, _ = ClipL2(bound=2.5).encode(
        (rng.standard_normal((20, 5)) * 100).astype(np.float32), {}, context(*[1] * 20)
    )
    norms = np.linalg.norm(sent[:, :4].astype(np.float64), axis=1)
    assert (norms <= 2.5).all()
    assert (norms > 2.5 * (1 - 2e-6)).all()


def test_a_short_update_passes_bit_for_bit() -> None:
    short = rows([0.1, -0.2, 0.3, 0.4, 9])
    sent, _ = ClipL2(bound=1.0).encode(short.copy(), {}, context(1))
    assert np.array_equal(sent, short)


def test_clipping_one_segment_leaves_the_others_alone() -> None:
    sent, _ = ClipL2(bound=1.0, segment="metrics").encode(rows([30, 0, 40, 0, 7]), {}, context(1))
    np.testing.assert_allclose(sent[0], [30, 0, 40, 0, 1], rtol=2e-6)


def test_each_client_is_clipped_by_its_own_norm() -> None:
    sent, _ = ClipL2(bound=1.0).encode(rows([30, 0, 40, 0, 0], [0.3, 0, 0.4, 0, 0]), {}, context(1, 1))
    np.testing.assert_allclose(np.linalg.norm(sent, axis=1), [1.0, 0.5], rtol=2e-6)


def test_an_update_whose_squares_overflow_float32_is_still_clipped() -> None:
    sent, _ = ClipL2(bound=1.0).encode(rows([3e38, 3e38, 0, 0, 0]), {}, context(1))
    np.testing.assert_allclose(np.linalg.norm(sent.astype(np.float64)), 1.0, rtol=2e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("stage", [ClipL2(bound=1.0), Weigh(), Chain((ClipL2(bound=1.0), Weigh()))])
@pytest.mark.parametrize("place", [0, 4])
def test_an_update_that_is_not_finite_counts_as_none_at_all(value: float, stage: Chain, place: int) -> None:
    bad = rows([1, 1, 1, 1, 1], [1, 1, 1, 1, 1])
    bad[0, place] = value
    sent, _ = stage.encode(bad, {}, context(5, 5))
    assert not sent[0].any()
    assert sent[1].all()


def test_nothing_that_is_not_finite_passes_an_empty_chain() -> None:
    sent, _ = Codec(Chain(()), SPEC).encode(rows([np.nan, 1, 1, 1, 1]), {}, context(5))
    assert not sent.any()


def test_the_plan_declares_the_bound_of_the_clipped_segment_alone() -> None:
    planned = ClipL2(bound=2.0).plan(SPEC)
    assert planned.segment("parameters").l2_bound == 2.0
    assert planned.segment("parameters").coordinate_bound == 2.0
    assert planned.segment("metrics") == SPEC.segment("metrics")
    assert planned.l2_bound is None


def test_a_bound_above_the_coordinate_limit_does_not_lift_that_limit() -> None:
    planned = ClipL2(bound=1e6).plan(SPEC)
    assert planned.segment("parameters").coordinate_bound == SPEC.segment("parameters").coordinate_bound


def test_a_segment_that_is_not_there_cannot_be_clipped() -> None:
    with pytest.raises(PlanError, match="'buffers'") as caught:
        ClipL2(bound=1.0, segment="buffers").plan(SPEC)
    assert caught.value.code == "T153"
    assert caught.value.where == "segments: parameters, metrics"


# --- weigh -------------------------------------------------------------------------------------


def test_an_update_is_multiplied_by_its_weight_and_the_weight_sent_along() -> None:
    sent, _ = Weigh().encode(rows([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]), {}, context(3, 10))
    assert sent.tolist() == [[3, 6, 9, 12, 15, 3], [10, 10, 10, 10, 10, 10]]


@pytest.mark.parametrize("claimed", [100, 101, 10**12, 2**62])
def test_nobody_weighs_more_than_the_cap(claimed: int) -> None:
    sent, _ = Weigh(cap=100).encode(rows([1, 1, 1, 1, 1]), {}, context(claimed))
    assert sent.tolist() == [[100.0] * 6]


@pytest.mark.parametrize("claimed", [1, 7, 10**12])
def test_uniform_weights_are_one_whatever_is_claimed(claimed: int) -> None:
    sent, _ = Weigh(by="uniform", cap=50).encode(rows([1, 2, 3, 4, 5]), {}, context(claimed))
    assert sent.tolist() == [[1, 2, 3, 4, 5, 1]]


def test_the_plan_multiplies_every_bound_by_the_largest_weight() -> None:
    planned = Chain((ClipL2(bound=2.0), Weigh(cap=30))).plan(SPEC)
    assert planned.segment("parameters").l2_bound == 60.0
    assert planned.segment("parameters").coordinate_bound == 60.0
    assert planned.segment("metrics").coordinate_bound == 30 * SPEC.segment("metrics").coordinate_bound
    assert planned.segment("weight").coordinate_bound == 30.0
    assert planned.segment("weight").l2_bound == 30.0
    assert Weigh(by="uniform", cap=30).plan(SPEC).segment("weight").coordinate_bound == 1.0


@given(cap=st.integers(1, 2**24), examples=st.integers(0, 2**60))
def test_a_weight_in_float32_never_exceeds_its_declared_bound(cap: int, examples: int) -> None:
    weigh = Weigh(cap=cap)
    sent, _ = weigh.encode(rows([0, 0, 0, 0, 0]), {}, context(examples))
    assert float(sent[0, -1]) == min(examples, cap) <= weigh.plan(SPEC).segment("weight").coordinate_bound


def test_a_cap_that_float32_cannot_count_to_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Weigh\.cap"):
        Weigh(cap=2**24 + 1)


# --- chains ------------------------------------------------------------------------------------


def test_a_chain_clips_before_it_weighs() -> None:
    codec = Codec(Chain((ClipL2(bound=1.0), Weigh())), SPEC)
    sent, _ = codec.encode(rows([3, 0, 4, 0, 0]), {}, context(10))
    np.testing.assert_allclose(sent[0], [6, 0, 8, 0, 0, 10], rtol=2e-6)


def test_a_chain_without_stages_changes_nothing() -> None:
    codec = Codec(Chain(()), SPEC)
    sent = rows([1, 2, 3, 4, 5])
    assert np.array_equal(codec.encode(sent.copy(), {}, context(1))[0], sent)
    assert codec.sent == SPEC
    total = np.arange(5.0)
    assert np.array_equal(codec.decode(total, context(1)), total)


class _Traced:
    """A stage that adds one coordinate and notes which specs it is shown."""

    def __init__(self, name: str, seen: list[tuple[str, str, tuple[str, ...]]]) -> None:
        self.name, self.seen = name, seen

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        return spec.append(type(spec.segments[0])(self.name, 1))

    def encode(self, rows, memory, ctx):  # type: ignore[no-untyped-def]
        self.seen.append(("encode", self.name, ctx.spec.names))
        return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1), {
            **memory,
            self.name: rows,
        }

    def decode(self, total, sent, ctx):  # type: ignore[no-untyped-def]
        self.seen.append(("decode", self.name, sent.names))
        return total[:-1]


def test_stages_encode_first_to_last_and_decode_last_to_first_each_with_its_own_spec() -> None:
    seen: list[tuple[str, str, tuple[str, ...]]] = []
    codec = Codec(Chain((_Traced("a", seen), _Traced("b", seen))), SPEC)
    sent, memory = codec.encode(rows([1, 2, 3, 4, 5]), {}, context(1))
    back = codec.decode(sent[0].astype(np.float64), context(1))
    assert back.tolist() == [1, 2, 3, 4, 5]
    assert set(memory) == {"a", "b"}
    base = SPEC.names
    assert seen == [
        ("encode", "a", base),
        ("encode", "b", (*base, "a")),
        ("decode", "b", (*base, "a", "b")),
        ("decode", "a", (*base, "a")),
    ]


@pytest.mark.parametrize("shape", [(1, 4), (1, 6), (5,), (1, 5, 1)])
def test_rows_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Codec(Chain((Weigh(),)), SPEC).encode(np.zeros(shape, np.float32), {}, context(1))
    assert caught.value.code == "T501"
