"""A mean over a constant: who is missing counts as zero."""

import numpy as np
import pytest

from tacit.aggregate import FixedMean
from tacit.core.errors import ConfigError, LocalProtocolError
from tacit.core.rule import Grid, Partial
from tacit.core.spec import SegmentSpec, UpdateSpec

SPEC = UpdateSpec((SegmentSpec("parameters", 3), SegmentSpec("within_bound", 1, coordinate_bound=0.5)))
GRID = Grid.for_sum(SPEC, 8)
ROWS = np.array([[1, 2, 3, 0.5], [3, 2, 1, -0.5], [2, 2, 2, 0.5]], np.float32)


@pytest.mark.parametrize("answered", [0, 1, 2, 3])
def test_the_sum_is_divided_by_the_constant_whoever_answered(answered: int) -> None:
    partial = FixedMean(denominator=4.0).lift(ROWS[:answered], GRID)
    mean = FixedMean(denominator=4.0).finish(GRID.to_float(partial.total), SPEC)
    assert mean.tolist() == (ROWS[:answered, :3].sum(axis=0) / 4).tolist()
    assert mean.dtype == np.float32


def test_the_other_segments_are_no_part_of_the_mean() -> None:
    assert len(FixedMean(denominator=2.5).finish(np.ones(4), SPEC)) == 3


def test_partial_sums_of_other_lengths_do_not_merge() -> None:
    with pytest.raises(LocalProtocolError):
        FixedMean(denominator=1.0).merge(
            Partial(np.zeros(3, np.int64), 1), FixedMean(denominator=1.0).empty(GRID)
        )


@pytest.mark.parametrize("denominator", [0, -1, float("nan"), float("inf")])
def test_a_constant_is_a_positive_number(denominator: float) -> None:
    with pytest.raises(ConfigError):
        FixedMean(denominator=denominator)
