"""How much noise adds up over a run, relative to independent noise at equal privacy."""

import math

import numpy as np

from tacit.privacy.mechanisms.banded_inverse import BandedInverse
from tacit.privacy.mechanisms.mechanism import Coefficients, Mechanism
from tacit.privacy.mechanisms.toeplitz import check_run


def prefix_error(mechanism: Mechanism, steps: int, min_separation: int) -> float:
    """Return the noise of the run's prefix sums, relative to independent normal noise at equal privacy.

    That is the sensitivity times the root mean square of the entries of ``A C^-1``, row by row: what a model
    that adds up its updates has gathered in noise, averaged over the run. Below 1 the mechanism gains.

    >>> round(prefix_error(BandedInverse(bands=16), steps=200, min_separation=20), 3)
    0.341
    """
    check_run(steps, min_separation)
    mean_square = float((prefix_deviations(mechanism, steps, min_separation) ** 2).mean())
    participations = math.ceil(steps / min_separation)
    independent = math.sqrt(participations * (steps + 1) / 2)
    sensitivity = math.sqrt(participations)
    if mechanism.is_correlated:
        sensitivity = mechanism.sensitivity(steps, min_separation)
    return sensitivity * math.sqrt(mean_square) / independent


def step_deviations(mechanism: Mechanism, steps: int, min_separation: int) -> Coefficients:
    """Return the standard deviation of each step's noise, in units of that of a draw, shape (steps,).

    >>> step_deviations(BandedInverse(bands=2), steps=3, min_separation=20).round(3).tolist()
    [1.0, 1.118, 1.118]
    """
    return np.sqrt(np.cumsum(_column(mechanism, steps, min_separation) ** 2))


def prefix_deviations(mechanism: Mechanism, steps: int, min_separation: int) -> Coefficients:
    """Return the standard deviation of the noise that has added up at each step, shape (steps,).

    >>> prefix_deviations(BandedInverse(bands=2), steps=3, min_separation=20).round(3).tolist()
    [1.0, 1.118, 1.225]
    """
    # Row t of A C^-1 holds the first t + 1 prefix sums of the column of C^-1.
    return np.sqrt(np.cumsum(np.cumsum(_column(mechanism, steps, min_separation)) ** 2))


def _column(mechanism: Mechanism, steps: int, min_separation: int) -> Coefficients:
    """Return the first column of ``C^-1``, filled up with zeros."""
    column = np.zeros(steps)
    weights = mechanism.weights(steps - 1, min_separation)
    column[: len(weights)] = weights
    return column


def best_bands(steps: int, min_separation: int, at_most: int = 64) -> int:
    """Return the number of bands, up to ``at_most``, for which ``BandedInverse`` adds up least noise.

    Each band costs one more draw a step. Without separation the best is 1: independent noise.

    >>> best_bands(steps=200, min_separation=20), best_bands(steps=100, min_separation=1)
    (12, 1)
    """
    sizes = [bands for bands in _SIZES if bands <= min(at_most, steps)]
    return min(sizes, key=lambda bands: prefix_error(BandedInverse(bands=bands), steps, min_separation))


_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
