"""A table whose rows have been dealt to clients: positions only, the rows themselves are not copied."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tacit.core.examples import Array, Examples
from tacit.data.partition import Assignment
from tacit.data.scaling import Scaler, Scaling
from tacit.data.shares import choose
from tacit.data.table import Rows, Table

_CHUNK = 1 << 15  # rows measured at once


@dataclass(frozen=True, eq=False)
class TableHoldings:
    """Clients that hold rows of one table.

    Attributes:
        ids: The clients.
        table: All rows.
        order: The clients' rows one after another, each client's training rows before its held-out ones.
        offsets: Client ``i`` holds ``order[offsets[i]:offsets[i + 1]]``; shape (clients + 1,).
        sizes: Training rows of each client, shape (clients,).
        has_holdout: Whether clients keep rows for evaluation.
        test_rows: The central test set taken out of the table, or None.
        test_offsets: Where the test rows were taken within each client: which are whose; as ``offsets``.
        scaling: Whose mean and deviation features are scaled by.
        scaler: Those of all training rows, where they are needed.
    """

    ids: Sequence[str]
    table: Table
    order: Rows
    offsets: Rows
    sizes: Rows
    has_holdout: bool
    test_rows: Rows | None = None
    test_offsets: Rows | None = None
    scaling: Scaling = "none"
    scaler: Scaler | None = None

    @classmethod
    def of(cls, table: Table, dealt: Assignment, holdout: float, seed: int) -> "TableHoldings":
        """Take the held-out share of each client's rows."""
        kept_back = choose(dealt.order, dealt.offsets, holdout, seed, "holdout")
        client = np.repeat(np.arange(len(dealt.ids)), dealt.sizes)
        order = dealt.order[np.lexsort((dealt.order, kept_back, client))]
        trained = dealt.sizes - np.bincount(client[kept_back], minlength=len(dealt.ids))
        return cls(dealt.ids, table, order, dealt.offsets, trained, holdout > 0)

    def scaled(self, scaling: Scaling) -> "TableHoldings":
        """Return the same with scaled features.

        Raises:
            DataError: The features are no real numbers.
        """
        # A test set that is nobody's is scaled by everybody's statistics.
        needed = scaling == "global" or (scaling == "client" and self._has_test and self.test_offsets is None)
        return replace(self, scaling=scaling, scaler=Scaler.of(self._train_chunks()) if needed else None)

    @property
    def is_steady(self) -> bool:
        return True

    def train(self, index: int) -> Examples:
        return self._scale(self.table.examples(self._train_rows(index)), index)

    def holdout(self, index: int) -> Examples | None:
        rows = self.order[self.offsets[index] + self.sizes[index] : self.offsets[index + 1]]
        return self._scale(self.table.examples(rows), index) if len(rows) else None

    def target(self, index: int) -> Array:
        return self.table.target[self._train_rows(index)]

    def test(self) -> Examples | None:
        if self.test_rows is None:
            return self._scale(self.table.test.examples()) if self.table.test is not None else None
        if self.scaling != "client" or self.test_offsets is None:
            return self._scale(self.table.examples(self.test_rows))
        pieces = [self._own_test(int(index)) for index in np.flatnonzero(np.diff(self.test_offsets))]
        inputs = zip(*(piece.inputs for piece in pieces), strict=True)
        target = np.concatenate([piece.target for piece in pieces])
        return Examples(tuple(map(np.concatenate, inputs)), target)

    @property
    def _has_test(self) -> bool:
        return self.test_rows is not None or self.table.test is not None

    def _train_rows(self, index: int) -> Rows:
        return self.order[self.offsets[index] : self.offsets[index] + self.sizes[index]]

    def _own_test(self, index: int) -> Examples:
        assert self.test_rows is not None
        assert self.test_offsets is not None
        rows = self.test_rows[self.test_offsets[index] : self.test_offsets[index + 1]]
        return self._scale(self.table.examples(rows), index)

    def _scale(self, examples: Examples, index: int | None = None) -> Examples:
        if self.scaling == "client" and index is not None:
            return Scaler.of([self.table.examples(self._train_rows(index)).inputs]).apply(examples)
        return self.scaler.apply(examples) if self.scaler else examples

    def _train_chunks(self) -> Iterator[tuple[Array, ...]]:
        position = np.arange(len(self.order)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        rows = self.order[position < np.repeat(self.sizes, np.diff(self.offsets))]
        for start in range(0, len(rows), _CHUNK):
            yield self.table.examples(rows[start : start + _CHUNK]).inputs
