"""The exact weighted mean."""

from typing import ClassVar

import numpy as np

from tacit.core.errors import LocalProtocolError
from tacit.core.layout import Rows, Vector
from tacit.core.part import Part
from tacit.core.rule import Grid, IntegerTotal, Partial, Sees
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Total


class WeightedMean(Part, frozen=True, tag="weighted_mean"):
    """Sum updates exactly, then divide by the sum of their weights (McMahan et al. 2017, algorithm 1).

    The sum is an integer on the grid: any order and any grouping give the same bits.
    """

    sees: ClassVar[Sees] = "sum"

    def empty(self, grid: Grid) -> Partial:
        return Partial(np.zeros(grid.size, dtype=np.int64), clients=0)

    def fold(self, rows: Rows, grid: Grid, total: IntegerTotal) -> None:
        grid.add_rows(rows, total)

    def lift(self, rows: Rows, grid: Grid) -> Partial:
        partial = self.empty(grid)
        self.fold(rows, grid, partial.total)
        return Partial(partial.total, clients=len(rows))

    def merge(self, a: Partial, b: Partial) -> Partial:
        if a.total.shape != b.total.shape:
            raise LocalProtocolError(
                "T503", f"partial sums of lengths {len(a.total)} and {len(b.total)} do not merge"
            )
        return Partial(a.total + b.total, clients=a.clients + b.clients)

    def finish(self, total: Total, spec: UpdateSpec) -> Vector | None:
        weight = float(total[spec.slice("weight")][0])
        if not weight > 0:
            return None
        weighted = total[: spec.slice("weight").start]
        # Straight into float32, and by a product: a million coordinates should not pass through memory twice,
        # and a quotient takes the processor ten times as long.
        return np.multiply(
            weighted, 1.0 / weight, out=np.empty(len(weighted), np.float32), casting="same_kind"
        )
