"""A data set in memory, before anybody knows which client holds which row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError
from tacit.core.examples import Array, Examples

Rows = npt.NDArray[np.int64]
"""Positions of rows of a table."""
Transform = Callable[[tuple[Array, ...]], tuple[Array, ...]]
"""From inputs as they are stored to inputs as the model is called with them; a module-level function."""


@dataclass(frozen=True, eq=False)
class Table:
    """A data set as a source returns it.

    Attributes:
        inputs: What the model is called with, one array per argument, each of shape (rows, ...).
        target: What it should say, shape (rows, ...); 1-D integers are labels.
        groups: The natural columns: for each its value in every row, text or integers of shape (rows,).
        test: The official test set, where there is one.
        transform: Applied to a client's inputs when they are loaded, so that images stay uint8 in memory.

    >>> Table((np.zeros((3, 2)),), np.array([0, 1, 1])).take(np.array([0, 2])).target
    array([0, 1])

    Raises:
        DataError: The arrays differ in their number of rows.
    """

    inputs: tuple[Array, ...]
    target: Array
    groups: Mapping[str, Array] = field(default_factory=dict)
    test: "Table | None" = None
    transform: Transform | None = None

    def __post_init__(self) -> None:
        lengths = {len(array) for array in (*self.inputs, self.target, *self.groups.values())}
        if len(lengths) != 1:
            fix = "Return one row per example in every array."
            raise DataError("T201", f"inputs, target and groups differ in length: {sorted(lengths)}", fix=fix)

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: Rows) -> "Table":
        """Return the table of these rows, without the official test set."""
        groups = {name: column[rows] for name, column in self.groups.items()}
        return Table(
            tuple(array[rows] for array in self.inputs), self.target[rows], groups, None, self.transform
        )

    def examples(self, rows: Rows | slice = slice(None)) -> Examples:
        """Return these rows as the model wants them."""
        inputs = tuple(array[rows] for array in self.inputs)
        return Examples(self.transform(inputs) if self.transform else inputs, self.target[rows])


def labels(target: Array) -> tuple[Array, Rows] | None:
    """Return the distinct labels and each row's position among them; None where the target is no label.

    Labels are one whole number a row: integers, booleans, or floats that hold 0 and 1 alone.
    """
    if target.ndim != 1 or not len(target):
        return None
    if target.dtype.kind == "f" and not np.isin(target, (0, 1)).all():
        return None
    if target.dtype.kind not in "iubf":
        return None
    values, positions = np.unique(target, return_inverse=True)
    return values, positions.astype(np.int64)
