"""What somebody has checked is not looked at again, and what nobody has still does not get through."""

import numpy as np
import pytest
from hypothesis import given

from tacit.codec import Chain, ClipL2, Codec, Weigh
from tacit.core.errors import RemoteProtocolError
from tacit.core.layout import Rows, rows_within, squared_norms
from tacit.core.rule import Grid
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Stage, StageContext
from tacit.testing.strategies import context, sound_rows, spec

STAGES = [
    ClipL2(bound=1.0),
    ClipL2(bound=1e-3, segment="buffers"),
    Weigh(),
    Chain((ClipL2(bound=1.0), Weigh(cap=7))),
    Chain(()),
]


def bounded(clients: int) -> StageContext:
    known = context(clients)
    return StageContext(known.spec, known.seed, known.round, known.clients, known.examples, is_bounded=True)


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_rows_known_to_be_bounded_are_encoded_as_any_others(stage: Stage) -> None:
    @given(sent=sound_rows())
    def law(sent: Rows) -> None:
        looked_at, _ = stage.encode(sent.copy(), {}, context(len(sent)))
        trusted, _ = stage.encode(sent.copy(), {}, bounded(len(sent)))
        assert np.array_equal(looked_at, trusted)

    law()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("stages", [(), (Weigh(),), (Weigh(by="uniform"),)])
def test_a_caller_who_wrongly_calls_rows_bounded_gets_nothing_into_the_sum(
    value: float, stages: tuple[Stage, ...]
) -> None:
    codec = Codec(Chain(stages), spec())
    rows = np.ones((2, codec.spec.size), np.float32)
    rows[1, 0] = value
    sent, _ = codec.encode(rows, {}, bounded(2))
    grid = Grid.for_sum(codec.sent, clients=2)
    total = np.zeros(grid.size, np.int64)
    with pytest.raises(RemoteProtocolError, match="T502"):
        grid.add_rows(sent, total)
    assert not total.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 4, 9, 11])
def test_a_clip_needs_nobody_to_look_before_it(value: float, place: int) -> None:
    rows = np.ones((2, spec().size), np.float32)
    rows[0, place] = value
    sent, _ = ClipL2(bound=1.0).encode(rows, {}, bounded(2))
    assert not sent[0].any()
    assert sent[1].all()


@pytest.mark.parametrize("size", [1, 2, 5, 1000, 5000, 40_000, 70_000])
def test_a_clients_norm_does_not_depend_on_its_group(size: int) -> None:
    rng = np.random.default_rng(size)
    rows = (rng.standard_normal((11, size)) * 10.0 ** rng.integers(-6, 6, (11, 1))).astype(np.float32)
    together = squared_norms(rows)
    assert [squared_norms(row[None])[0] for row in rows] == together.tolist()
    wider = np.concatenate([rows, rows], axis=1)[:, :size]  # rows that do not lie one after another
    assert np.array_equal(squared_norms(wider), together)
    np.testing.assert_allclose(together, np.square(rows.astype(np.float64)).sum(axis=1), rtol=1e-13)


def test_norms_of_nobody_and_of_nothing() -> None:
    assert squared_norms(np.zeros((0, 5), np.float32)).tolist() == []
    assert squared_norms(np.zeros((2, 0), np.float32)).tolist() == [0.0, 0.0]


def test_the_largest_float32_has_a_finite_norm_and_what_is_not_finite_has_none() -> None:
    rows = np.full((3, 50_000), np.finfo(np.float32).max)
    rows[1, 49_999], rows[2, 7] = np.nan, np.inf
    assert np.isfinite(squared_norms(rows)).tolist() == [True, False, False]


@pytest.mark.parametrize("bound", [1e-30, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e20, 3e38])
def test_no_clipped_update_of_any_size_exceeds_its_bound(bound: float, length: float) -> None:
    size = 40_000
    codec = Codec(Chain((ClipL2(bound=bound),)), UpdateSpec.of(parameters=size))
    rng = np.random.default_rng(1)
    rows = rng.uniform(-1, 1, (3, size)).astype(np.float32) * np.float32(length)
    one = StageContext(codec.spec, 0, 1, ("a", "b", "c"), np.ones(3, np.int64))
    before = np.sqrt(squared_norms(rows))
    sent, _ = codec.encode(rows.copy(), {}, one)
    after = np.linalg.norm(sent.astype(np.float64), axis=1)
    assert (after <= bound).all()
    np.testing.assert_allclose(after, np.minimum(before, bound), rtol=2e-6)


@pytest.mark.parametrize("bound", [1e-44, 1e-20, 1.0, 1e19, 3e38, 1e300])
@pytest.mark.parametrize("width", [1, 2, 50])
def test_what_is_within_a_bound_is_told_for_one_coordinate_as_for_many(width: int, bound: float) -> None:
    largest = float(np.finfo(np.float32).max)
    values = [0.0, bound / 3, bound, -bound, bound * 1.001, -bound * 1.001, np.inf, -np.inf, np.nan]
    rows = np.zeros((len(values), width), np.float32)
    with np.errstate(over="ignore"):
        rows[:, width // 2] = np.array(values).astype(np.float32)
    expected = [abs(float(x)) <= min(bound, largest) for x in rows[:, width // 2]]
    assert rows_within(rows, bound).tolist() == expected
    assert not any(expected[-3:])
    assert expected[0]
