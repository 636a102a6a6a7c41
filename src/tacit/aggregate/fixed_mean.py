"""The mean over a number that everybody knows."""

from typing import ClassVar

import numpy as np

from tacit.aggregate.mean import WeightedMean
from tacit.core.bounds import Positive
from tacit.core.layout import Rows, Vector
from tacit.core.part import Part
from tacit.core.rule import Grid, IntegerTotal, Partial, Sees
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Total


class FixedMean(Part, frozen=True, tag="fixed_mean"):
    """Sum updates exactly, then divide by a public constant, whoever has answered.

    With differential privacy the number of survivors is no public fact: dividing by it would let one client
    move the mean by more than the noise was made for (McMahan et al. 2018, section 2, the fixed-denominator
    estimator).

    Attributes:
        denominator: The constant: the expected cohort.
        segment: Which segment of the sum is the mean's.
    """

    sees: ClassVar[Sees] = "sum"

    denominator: Positive
    segment: str = "parameters"

    def empty(self, grid: Grid) -> Partial:
        return WeightedMean().empty(grid)

    def fold(self, rows: Rows, grid: Grid, total: IntegerTotal) -> None:
        grid.add_rows(rows, total)

    def lift(self, rows: Rows, grid: Grid) -> Partial:
        return WeightedMean().lift(rows, grid)

    def merge(self, a: Partial, b: Partial) -> Partial:
        return WeightedMean().merge(a, b)

    def finish(self, total: Total, spec: UpdateSpec) -> Vector:
        part = total[spec.slice(self.segment)]
        scale = 1.0 / self.denominator
        return np.multiply(part, scale, out=np.empty(len(part), np.float32), casting="same_kind")
