"""Laws of every codec stage."""

import numpy as np
from hypothesis import given

from tacit.core.errors import PlanError
from tacit.core.layout import Rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Stage, Total
from tacit.testing.strategies import context, rows, sound_rows, spec
from tacit.wire import HEADER_BYTES, pack_update, unpack_update


def law_an_encoding_has_the_declared_size(stage: Stage) -> None:
    """Check: ``encode`` gives float32 rows of the size that ``plan`` declared."""

    @given(sent=sound_rows(size=entered(stage).size))
    def law(sent: Rows) -> None:
        encoded = _encode(stage, sent)
        assert encoded.shape == (len(sent), stage.plan(entered(stage)).size)
        assert encoded.dtype == np.float32

    law()


def law_an_encoding_stays_inside_its_declared_bounds(stage: Stage) -> None:
    """Check: no row, however hostile, exceeds the bounds that ``plan`` declared for what is sent."""

    @given(sent=rows(size=entered(stage).size))
    def law(sent: Rows) -> None:
        encoded, declared = _encode(stage, sent), stage.plan(entered(stage))
        for segment in declared.segments:
            part = encoded[:, declared.slice(segment.name)].astype(np.float64)
            assert np.abs(part).max(initial=0.0) <= segment.coordinate_bound
            if segment.l2_bound is not None:
                assert np.linalg.norm(part, axis=1).max(initial=0.0) <= segment.l2_bound

    law()


def law_a_row_that_is_not_finite_becomes_zero(stage: Stage) -> None:
    """Check: NaN and infinity count as zero, and touch no other client's row."""

    @given(sent=rows(size=entered(stage).size))
    def law(sent: Rows) -> None:
        bad = ~np.isfinite(sent).all(axis=1)
        encoded = _encode(stage, sent)
        assert np.isfinite(encoded).all()
        if encoded[bad].any():  # noise is added to what is zero, too
            zeros = np.zeros_like(sent)
            assert np.array_equal(encoded[bad], _encode(stage, zeros)[bad])

    law()


def law_rows_do_not_touch_each_other(stage: Stage) -> None:
    """Check: a group is encoded as its clients would be one by one, bit for bit."""

    @given(sent=rows(size=entered(stage).size))
    def law(sent: Rows) -> None:
        together = _encode(stage, sent)
        ctx = context(len(sent))
        for index in range(len(sent)):
            alone = context(1, entered(stage))
            alone = type(alone)(
                alone.spec,
                alone.seed,
                alone.round,
                ctx.clients[index : index + 1],
                ctx.examples[index : index + 1],
            )
            row, _ = stage.encode(sent[index : index + 1].copy(), {}, alone)
            assert np.array_equal(row[0], together[index])

    law()


def law_dropping_one_client_moves_the_sum_by_at_most_the_declared_bound(stage: Stage) -> None:
    """Check: the sensitivity of the decoded sum is what ``plan`` declared."""
    declared = stage.plan(entered(stage))

    @given(sent=rows(size=entered(stage).size))
    def law(sent: Rows) -> None:
        encoded = _encode(stage, sent).astype(np.float64)
        whole = _decode(stage, encoded.sum(axis=0), declared)
        without = _decode(stage, encoded[1:].sum(axis=0), declared)
        for segment in declared.segments:
            if segment.l2_bound is not None and len(whole) == declared.size:
                moved = (whole - without)[declared.slice(segment.name)]
                assert np.linalg.norm(moved) <= segment.l2_bound * (1 + 1e-9)

    law()


def law_the_wire_carries_what_plan_priced(stage: Stage) -> None:
    """Check: a message is exactly as long as ``plan(...).wire_bytes`` says, and gives the row back."""
    declared = stage.plan(entered(stage))
    if any(segment.bits != 32 for segment in declared.segments):
        return

    @given(sent=sound_rows(size=entered(stage).size))
    def law(sent: Rows) -> None:
        row = _encode(stage, sent)[0]
        message = pack_update(row, declared, 7)
        assert len(message) == HEADER_BYTES + declared.wire_bytes
        assert np.array_equal(unpack_update(message, declared, 7), row)

    law()


def entered(stage: Stage) -> UpdateSpec:
    """Return what enters the stage: parameters, buffers and a metric, or just parameters if it wants that."""
    try:
        stage.plan(spec())
    except PlanError:
        return UpdateSpec.of(parameters=spec().size)
    return spec()


def _encode(stage: Stage, sent: Rows) -> Rows:
    return stage.encode(sent.copy(), {}, context(len(sent), entered(stage)))[0]


def _decode(stage: Stage, total: Total, declared: UpdateSpec) -> Total:
    return stage.decode(total.copy(), declared, context(0, entered(stage)))
