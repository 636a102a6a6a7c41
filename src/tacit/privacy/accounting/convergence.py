"""A grid of privacy losses that is just fine enough."""

import math
from functools import lru_cache

from tacit.core.privacy import Adjacency
from tacit.privacy.accounting.distribution import epsilon_on_grid, laplace_loss, largest_loss
from tacit.privacy.accounting.gaussian import gaussian_epsilon
from tacit.privacy.accounting.grouping import Spend

CLOSED_FORM = 0.0
"""Stands for an interval where epsilon needs no grid."""
_TOLERANCE = 3e-4
"""Share of epsilon by which a grid may be too coarse, as far as its error can be told."""
_LEAST = 2e-6  # or this much
_FINEST = 2.0**-18
_POINTS = 2.0**20  # largest number of points of a grid, roughly


@lru_cache(maxsize=256)
def converged(spend: Spend, delta: float, adjacency: Adjacency) -> tuple[float, float]:
    """Return epsilon and the interval of the grid it was found on.

    The error of a grid falls with the square of its interval. Two grids tell how large it is, and which
    interval makes it small enough; that is tried, and compared, in turn.
    """
    if not needs_grid(spend):
        return epsilon_at_interval(spend, delta, adjacency, CLOSED_FORM), CLOSED_FORM
    finest = max(_FINEST, largest_loss(spend, adjacency) / _POINTS)
    interval, halvings = first_interval(spend, adjacency), 1
    value = epsilon_on_grid(spend, delta, adjacency, interval)
    while math.isfinite(value) and interval > finest:
        interval /= 2**halvings
        coarser, value = value, epsilon_on_grid(spend, delta, adjacency, interval)
        error = (coarser - value) / (4**halvings - 1)
        allowed = max(_TOLERANCE * value, _LEAST)
        if error <= allowed:
            break
        wanted, possible = math.log2(error / allowed) / 2, math.log2(interval / finest)
        halvings = max(1, min(math.ceil(wanted), math.ceil(possible), 3))
    return value, interval


def needs_grid(spend: Spend) -> bool:
    """Tell whether epsilon has no closed form: something was sampled, or was not Gaussian."""
    return spend.is_private and bool(spend.others)


def epsilon_at_interval(spend: Spend, delta: float, adjacency: Adjacency, interval: float) -> float:
    """Return epsilon on a grid of that interval, or in closed form where none is needed."""
    if needs_grid(spend):
        return epsilon_on_grid(spend, delta, adjacency, interval)
    if not spend.is_private:
        return math.inf
    mu = math.sqrt(spend.doubled_if(adjacency))
    return gaussian_epsilon(1 / mu, delta) if mu else 0.0


def first_interval(spend: Spend, adjacency: Adjacency, share: float = 0.03) -> float:
    """Return an interval to begin with: a power of two, so that the same grids come up again.

    Rounding to a grid adds about ``interval^2 / 12`` to the mean loss of each release; ``share`` is twelve
    times what that may come to over all of them. Laplace noise has a largest loss, met with a probability
    of its own: the grid is laid so that it falls on a point.
    """
    releases = sum(count for _, count in spend.others)
    widest = max(min(math.sqrt(share / releases), 2.0**-5), largest_loss(spend, adjacency) / 2**16)
    unit = laplace_loss(spend, adjacency) or 1.0
    return unit * 2.0 ** math.floor(math.log2(widest / unit))
