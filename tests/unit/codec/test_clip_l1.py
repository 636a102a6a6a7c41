"""The clip that Laplace noise is measured against."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.codec import ClipL1
from tacit.core.errors import PlanError
from tacit.core.layout import Rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext
from tacit.testing.strategies import rows

SPEC = UpdateSpec.of(parameters=12)


def clipped(sent: Rows, bound: float, spec: UpdateSpec = SPEC) -> Rows:
    ctx = StageContext(spec, 0, 1, tuple(f"c{i}" for i in range(len(sent))), np.ones(len(sent)))
    return ClipL1(bound=bound).encode(sent.copy(), {}, ctx)[0]


@given(sent=rows(), bound=st.floats(1e-20, 1e6))
def test_the_sum_of_absolute_values_is_within_the_bound(sent: Rows, bound: float) -> None:
    assert np.abs(clipped(sent, bound), dtype=np.float64).sum(axis=1).max() <= bound


def test_a_short_update_passes_as_it_is_and_a_long_one_keeps_its_direction() -> None:
    sent = np.array([[0.5, -0.5] + [0.0] * 10, [3.0, -1.0] + [0.0] * 10], np.float32)
    found = clipped(sent, 1.0)
    assert np.array_equal(found[0], sent[0])
    np.testing.assert_allclose(found[1, :2], [0.75, -0.25], rtol=3e-6)


def test_what_fits_in_l2_alone_is_shortened() -> None:
    sent = np.full((1, 12), 1 / np.sqrt(12), np.float32)
    assert np.linalg.norm(sent) == pytest.approx(1.0)
    assert np.abs(clipped(sent, 1.0)).sum() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 13])
def test_a_row_that_is_not_finite_anywhere_becomes_zero(value: float, place: int) -> None:
    sent = np.ones((2, 14), np.float32)
    sent[0, place] = value
    found = clipped(sent, 100.0, UpdateSpec.of(parameters=12, buffers=2))
    assert not found[0].any()
    assert found[1].all()


def test_it_declares_the_l2_bound_that_follows() -> None:
    planned = ClipL1(bound=3.0).plan(SPEC)
    assert (planned.l2_bound, planned.segment("parameters").coordinate_bound) == (3.0, 3.0)
    with pytest.raises(PlanError):
        ClipL1(bound=1.0, segment="control").plan(SPEC)
