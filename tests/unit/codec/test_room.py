"""Memory behind the rows: a stage that sends a number along may take it, and nobody else's."""

from dataclasses import replace

import numpy as np
import pytest

from tacit.codec import Chain, ClipL2, Weigh
from tacit.core.layout import ROOM, Rows, empty_rows, wider_rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext

SPEC = UpdateSpec.of(parameters=5)
VALUES = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
CONTEXT = StageContext(SPEC, seed=0, round=1, clients=("a", "b", "c"), examples=np.array([2, 9, 400]))


def with_room() -> Rows:
    rows = empty_rows(3, 5)
    rows[:] = VALUES
    return rows


def test_with_room_and_without_the_same_is_sent() -> None:
    weigh = Weigh(cap=100)
    plain, _ = weigh.encode(VALUES.copy(), {}, CONTEXT)
    roomy = with_room()
    sent, _ = weigh.encode(roomy, {}, replace(CONTEXT, room=ROOM))
    np.testing.assert_array_equal(sent, plain)
    assert np.shares_memory(sent, roomy)


def test_without_a_word_of_room_nothing_behind_the_rows_is_touched() -> None:
    wide = np.full((3, 8), 7.0, dtype=np.float32)
    wide[:, :5] = VALUES
    sent, _ = Weigh(cap=100).encode(wide[:, :5], {}, CONTEXT)
    assert not np.shares_memory(sent, wide)
    assert (wide[:, 5:] == 7.0).all()


@pytest.mark.parametrize("columns", [0, 1, ROOM, ROOM + 1])
def test_rows_grow_in_place_as_far_as_there_is_room(columns: int) -> None:
    rows = with_room()
    wide = wider_rows(rows, columns, ROOM)
    assert wide.shape == (3, 5 + columns)
    assert np.shares_memory(wide, rows) == (columns <= ROOM)


def test_room_is_taken_once() -> None:
    # What the first of two stages has taken is not offered to the second.
    chain = Chain((ClipL2(bound=1.0), Weigh(cap=100), _Again()))
    sent, _ = chain.encode(with_room(), {}, replace(CONTEXT, room=ROOM))
    plain, _ = chain.encode(VALUES.copy(), {}, CONTEXT)
    np.testing.assert_array_equal(sent, plain)


class _Again(Weigh, frozen=True, tag="test_again"):
    """Takes what room it is told of."""

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        return spec

    def encode(self, rows: Rows, memory: object, ctx: StageContext) -> tuple[Rows, object]:  # type: ignore[override]
        assert ctx.room in (0, ROOM - 1)
        return rows, memory
