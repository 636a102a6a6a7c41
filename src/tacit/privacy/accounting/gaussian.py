"""The Gaussian mechanism in closed form (Balle & Wang 2018, "Improving the Gaussian mechanism")."""

import math
from collections.abc import Callable

_STEPS = 200  # halvings of a bracket: more than a double can tell apart
_WIDTH = 1e-13  # relative width at which a bracket is narrow enough


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """Return the smallest delta of one release at that epsilon (Balle & Wang 2018, theorem 8).

    With ``mu = 1 / noise_multiplier`` it is ``Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)``.

    >>> round(gaussian_delta(1.0, epsilon=4.37718), 8)
    1e-05
    """
    from scipy.special import erfcx, ndtr  # slow to import

    mu = 1 / noise_multiplier
    upper, lower = mu / 2 - epsilon / mu, mu / 2 + epsilon / mu
    # e^eps Phi(-lower) overflows and cancels; as e^eps phi(lower) = phi(upper), it is half of
    # exp(-upper^2 / 2) erfcx(lower / sqrt 2), which does neither.
    rest = math.exp(-upper * upper / 2) * float(erfcx(lower / math.sqrt(2))) / 2
    return max(0.0, float(ndtr(upper)) - rest)


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Return the smallest epsilon of one release at that delta.

    >>> round(gaussian_epsilon(1.0, delta=1e-5), 5)
    4.37718
    """
    mu = 1 / noise_multiplier
    # From there on Phi(mu/2 - eps/mu) alone is below delta, by Phi(-x) <= exp(-x^2 / 2).
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    return _smallest(lambda epsilon: gaussian_delta(noise_multiplier, epsilon) <= delta, most)


def gaussian_noise_multiplier(epsilon: float, delta: float) -> float:
    """Return the least noise multiplier with which one release stays within epsilon and delta.

    >>> round(gaussian_noise_multiplier(4.377178, delta=1e-5), 5)
    1.0
    """
    # mu^2 / 2 + mu x = eps, with x = sqrt(2 ln(1 / delta)), holds at a mu that is safe for sure.
    x = math.sqrt(2 * math.log(1 / delta))
    most = (x + math.sqrt(x * x + 2 * epsilon)) / (2 * epsilon)
    return _smallest(lambda noise: noise > 0 and gaussian_delta(noise, epsilon) <= delta, most)


def _smallest(holds: Callable[[float], bool], most: float) -> float:
    """Return the least number up to ``most`` from which on a condition holds; it holds at ``most``."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
        if high - low <= _WIDTH * high:
            break
    return high
