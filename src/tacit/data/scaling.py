"""Standardising features: subtract the mean and divide by the standard deviation of the training rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError
from tacit.core.examples import Array, Examples

Scaling = Literal["none", "global", "client"]
"""Whose mean and standard deviation: nobody's, those of all clients together, each client's own."""

_CONSTANT = 1e-9  # relative spread below which a feature only differs by rounding


@dataclass(frozen=True, eq=False)
class Scaler:
    """The mean of every feature and what to multiply the rest with, float64; 0 for constant features.

    >>> scaler = Scaler.of([(np.array([[1.0, 5.0], [3.0, 5.0]]),)])
    >>> scaler.apply(Examples.of(np.array([[3.0, 7.0]]), np.zeros(1))).inputs[0]
    array([[1., 0.]])
    """

    means: tuple[npt.NDArray[np.float64], ...]
    factors: tuple[npt.NDArray[np.float64], ...]

    @classmethod
    def of(cls, chunks: Iterable[tuple[Array, ...]]) -> "Scaler":
        """Measure inputs that come in chunks of rows; NaN and infinite values are passed over.

        Raises:
            DataError: An input holds no real numbers (tokens have no mean).
        """
        totals: list[_Moments] = []
        for chunk in chunks:
            totals = totals or [_Moments.empty(array) for array in chunk]
            totals = [total.merge(_Moments.of(array)) for total, array in zip(totals, chunk, strict=True)]
        return cls(tuple(total.mean for total in totals), tuple(total.factor() for total in totals))

    def apply(self, examples: Examples) -> Examples:
        """Return the examples with standardised inputs, in the inputs' own dtype."""
        scaled = (
            ((array - mean) * factor).astype(array.dtype)
            for array, mean, factor in zip(examples.inputs, self.means, self.factors, strict=True)
        )
        return Examples(tuple(scaled), examples.target)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Count, mean and sum of squared deviations of every feature; chunks merge (Chan et al. 1979)."""

    count: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, like: Array) -> "_Moments":
        zero = np.zeros(like.shape[1:])
        return cls(zero, zero, zero)

    @classmethod
    def of(cls, rows: npt.NDArray[Any]) -> "_Moments":
        if rows.dtype.kind != "f":
            what = f"scaling needs real features, but an input is {rows.dtype}"
            raise DataError("T213", what, where="$.population.scaling", fix='Write scaling = "none".')
        finite = np.isfinite(rows)
        values = np.where(finite, rows, 0.0).astype(np.float64)
        count = finite.sum(axis=0).astype(np.float64)
        mean = values.sum(axis=0) / np.maximum(count, 1)
        return cls(count, mean, np.where(finite, (values - mean) ** 2, 0.0).sum(axis=0))

    def merge(self, other: "_Moments") -> "_Moments":
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        gap = other.mean - self.mean
        squares = self.squares + other.squares + gap**2 * self.count * share
        return _Moments(count, self.mean + gap * share, squares)

    def factor(self) -> npt.NDArray[np.float64]:
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        varies = deviation > _CONSTANT * np.abs(self.mean)
        return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
