"""How much noise there is, as canaries see it."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from tacit.privacy.audit.canaries import Exposure
from tacit.privacy.audit.guesses import Floats

_NODES = 128  # of an integral, for more digits than an audit has
_STEPS = 50  # of bisection
_LEAST = 3  # canaries


class NoiseSeen(NamedTuple):
    """How much noise the scores of canaries leave room for.

    Attributes:
        estimate: The noise multiplier they suggest; infinite where no canary is seen.
        most: With the stated confidence it is no larger than this.
    """

    estimate: float
    most: float


def noise_seen(found: Exposure, confidence: float) -> NoiseSeen:
    """Estimate the noise multiplier from canaries that were included and canaries that were left out.

    The canary statistic of Andrew et al. 2024, with an interval: scores are a line through zero over
    exposure, with slope 1 / noise multiplier. Under Gaussian noise the slope over its standard error has a
    noncentral t distribution, whatever the size of the noise; inverting that gives an exact bound.
    """
    exposed = np.where(found.included, found.weights, 0.0)
    energy, freedom = float(np.sum(exposed**2)), len(exposed) - 1
    slope = float(np.sum(exposed * found.scores)) / energy if energy else 0.0
    if slope <= 0 or freedom + 1 < _LEAST:
        return NoiseSeen(math.inf, math.inf)
    spread = math.sqrt(float(np.sum((found.scores - slope * exposed) ** 2)) / freedom)
    if spread <= slope * 1e-6:  # float32's own rounding
        return NoiseSeen(0.0, 0.0)
    shift = _least_shift(slope * math.sqrt(energy) / spread, freedom, confidence)
    return NoiseSeen(spread / slope, math.sqrt(energy) / shift if shift > 0 else math.inf)


def _least_shift(statistic: float, freedom: int, confidence: float) -> float:
    """Return the smallest shift of a noncentral t under which so large a value is not too rare.

    P(T >= t) is the mean of Phi(shift - t * s) over the distribution of s, the estimated over the true
    spread. SciPy's own noncentral t loses its digits where the shift is large.
    """
    from scipy.special import ndtr  # late: slow to import

    spreads, masses = _spreads(freedom)
    low, high = 0.0, statistic
    for _ in range(_STEPS):
        middle = (low + high) / 2
        tail = float(masses @ ndtr(middle - statistic * spreads))
        low, high = (middle, high) if tail < 1 - confidence else (low, middle)
    return low


@cache
def _spreads(freedom: int) -> tuple[Floats, Floats]:
    """Return values of the estimated over the true spread, and the probability that each stands for."""
    from scipy.special import gammaincinv

    nodes, masses = np.polynomial.legendre.leggauss(_NODES)
    return np.sqrt(gammaincinv(freedom / 2, (nodes + 1) / 2) * 2 / freedom), masses / 2
