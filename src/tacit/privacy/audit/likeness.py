"""How close an attacker's guess at an input comes to the original."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.core.examples import Array


@dataclass(frozen=True)
class Likeness:
    """How close a reconstruction comes to the original.

    Attributes:
        mse: Mean squared error.
        psnr: Peak signal-to-noise ratio, decibels; infinite for an exact copy. Above 30 it looks the same.
        correlation: Of original and reconstruction, coordinate by coordinate; 1 is the same shape.
    """

    mse: float
    psnr: float
    correlation: float


def likeness(original: Array, guess: Array, width: float) -> Likeness:
    """Compare one input, any shape, with a guess at it.

    Args:
        original: The input.
        guess: The guess, of the same size.
        width: How far apart the smallest and the largest possible value are.

    >>> likeness(np.array([0.0, 1.0]), np.array([0.1, 0.9]), width=1.0).correlation
    1.0
    """
    one, other = (array.astype(np.float64).ravel() for array in (original, guess))
    mse = float(np.mean((one - other) ** 2))
    psnr = 10 * math.log10(width**2 / mse) if mse else math.inf
    spread = float(np.std(one) * np.std(other))
    covariance = float(np.mean((one - one.mean()) * (other - other.mean())))
    return Likeness(mse, psnr, covariance / spread if spread else 0.0)


def closest(original: Array, guesses: npt.NDArray[np.float32]) -> Array:
    """Return the guess that is closest to the original: the best match, where there are several."""
    errors = [float(np.mean((original.astype(np.float64) - guess) ** 2)) for guess in guesses]
    found: Array = guesses[int(np.argmin(errors))]
    return found
