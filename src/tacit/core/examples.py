"""A client's data: arrays whose first axis counts examples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError

Array = npt.NDArray[Any]
"""A NumPy array of any dtype."""


@dataclass(frozen=True)
class Examples:
    """Examples of one client, or of a test set.

    Attributes:
        inputs: What the model is called with, one array per argument, each of shape (examples, ...).
        target: What it should say, shape (examples, ...).

    >>> Examples.of(np.zeros((3, 2)), np.zeros(3)).take(np.array([0, 2])).inputs[0].shape
    (2, 2)

    Raises:
        DataError: The arrays differ in their number of examples.
    """

    inputs: tuple[Array, ...]
    target: Array

    def __post_init__(self) -> None:
        length = len(self.target)
        for array in self.inputs:
            if len(array) != length:
                lengths = sorted({len(array) for array in (*self.inputs, self.target)})
                what = f"inputs and target differ in length: {lengths}"
                raise DataError("T201", what, fix="Pass one row per example.")

    @classmethod
    def of(cls, inputs: Any, target: Any) -> "Examples":
        """Build from anything NumPy understands; several inputs come as a tuple."""
        several = inputs if isinstance(inputs, tuple) else (inputs,)
        return cls(tuple(np.asarray(array) for array in several), np.asarray(target))

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: npt.NDArray[np.integer[Any]] | slice) -> "Examples":
        """Return the examples at these positions."""
        return Examples(tuple(array[index] for array in self.inputs), self.target[index])
