"""The Gaussian mechanism in closed form, written a second time: an auditor must not trust the accountant.

A mechanism is mu-GDP (Dong, Roth, Su 2022) if telling two neighbours apart is never easier than telling
N(0, 1) from N(mu, 1). The Gaussian mechanism with noise multiplier z is 1/z-GDP, and exactly so.
"""

import math
from statistics import NormalDist

_NORMAL = NormalDist()
_HOPELESS = 200.0  # a mu beyond it hides nothing: epsilon would be above 20,000


def epsilon_of(mu: float, delta: float) -> float:
    """Return the smallest epsilon such that a mu-GDP mechanism is (epsilon, delta)-DP; inf if mu is huge.

    Balle and Wang 2018, theorem 8, with mu the ratio of sensitivity and standard deviation.

    >>> round(epsilon_of(1.0, 1e-5), 2), epsilon_of(0.0, 1e-5)
    (4.38, 0.0)
    """
    if mu > _HOPELESS:
        return math.inf
    if mu <= 0 or delta_of(mu, 0.0) <= delta:
        return 0.0
    if delta <= 0:
        return math.inf
    low, high = 0.0, 1.0
    while delta_of(mu, high) > delta:
        low, high = high, 2 * high
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(mu, middle) > delta else (low, middle)
    return low  # a lower bound must not be rounded up


def delta_of(mu: float, epsilon: float) -> float:
    """Return the smallest delta such that a mu-GDP mechanism is (epsilon, delta)-DP."""
    if mu <= 0:
        return 0.0
    # In logarithms: exp(epsilon) overflows where the factor beside it vanishes.
    second = math.exp(min(0.0, epsilon + _log_cdf(-epsilon / mu - mu / 2)))
    return max(0.0, cdf(mu / 2 - epsilon / mu) - second)


def cdf(value: float) -> float:
    """Return the standard normal distribution function, precise in its lower tail."""
    return 0.5 * math.erfc(-value / math.sqrt(2))


def quantile(probability: float) -> float:
    """Return the standard normal quantile; infinite at 0 and 1."""
    if probability <= 0:
        return -math.inf
    return math.inf if probability >= 1 else _NORMAL.inv_cdf(probability)


def _log_cdf(value: float) -> float:
    if value > -30:
        return math.log(cdf(value))
    # The tail's asymptotic series (Abramowitz and Stegun 26.2.12), to 1e-8 from here on.
    square = value * value
    series = 1 - 1 / square + 3 / square**2 - 15 / square**3
    return -square / 2 - math.log(-value * math.sqrt(2 * math.pi)) + math.log(series)
