"""The least noise that keeps a run within epsilon and delta."""

import math
from collections.abc import Callable

from tacit.core.errors import PlanError
from tacit.core.events import PrivacyEvent
from tacit.core.privacy import Adjacency
from tacit.privacy.accounting.convergence import converged, epsilon_at_interval, first_interval, needs_grid
from tacit.privacy.accounting.grouping import Spend

_LEAST, _MOST = 1e-3, 1e7  # noise multipliers: below nothing is protected, above nothing is left
_WIDTH = 1e-4  # relative width of the last bracket of a noise multiplier
_WASTE = 5e-4  # share of epsilon that may be left over
_TRIES = 20

Noise = tuple[float, float]
"""A noise multiplier, and the logarithm of the factor by which its epsilon is too large."""


def calibrate(
    event_of: Callable[[float], PrivacyEvent],
    count: int,
    epsilon: float,
    delta: float,
    adjacency: Adjacency,
) -> float:
    """Return a noise multiplier with which so many events stay within epsilon and delta, barely.

    What is returned keeps the limit by ``epsilon``'s own account, and leaves less than 0.05 % of it over.
    The search goes over a rough grid; how much rougher it is than a fine one is found out on the way.

    Args:
        event_of: The event of one release with a given noise multiplier.
        count: How many releases there are.
        epsilon: The limit.
        delta: The delta of the limit.
        adjacency: The relation to account under.

    Raises:
        PlanError: No noise does it, or nothing is known of the event under that relation.

    >>> from tacit.core.events import GaussianEvent
    >>> round(calibrate(lambda z: GaussianEvent(noise_multiplier=z), 100, 4.37718, 1e-5, "add_remove"), 2)
    10.0
    """

    def spend(noise: float) -> Spend:
        return Spend.of({event_of(noise): count})

    def rough(noise: float) -> float:
        spent = spend(noise)
        # In a tail some five deviations out, epsilon^2 / 25 is about the variance the grid must not blur.
        interval = first_interval(spent, adjacency, min(0.03, epsilon**2 / 80)) if needs_grid(spent) else 0.0
        return epsilon_at_interval(spent, delta, adjacency, interval)

    aim, noise = epsilon * (1 - _WASTE / 4), 1.0
    for _ in range(_TRIES):
        noise = _root(rough, aim, noise)
        if noise >= _MOST:
            break
        fine = converged(spend(noise), delta, adjacency)[0]
        if epsilon * (1 - _WASTE) <= fine <= epsilon or (fine < epsilon and noise <= _LEAST):
            return noise
        aim *= epsilon * (1 - _WASTE / 2) / fine if fine else 2.0
    what = f"no noise keeps {count} releases within epsilon {epsilon:g} at delta {delta:g}"
    raise PlanError("T167", what, fix="Allow a larger epsilon or delta, or fewer rounds.")


def _root(rough: Callable[[float], float], aim: float, start: float) -> float:
    """Return the noise multiplier at which a falling function comes down to ``aim``, from above."""
    low, high = (_LEAST, math.inf), (_MOST, -math.inf)  # their epsilons are not computed: it would take long
    noise, tried = start, 0
    while high[0] > low[0] * (1 + _WIDTH):
        value, tried = rough(noise), tried + 1
        point = (noise, math.log(value / aim) if value else -math.inf)
        low, high = (point, high) if point[1] > 0 else (low, point)
        noise = _between(low, high, halve=tried % 4 == 0)
    return high[0]


def _between(low: Noise, high: Noise, *, halve: bool) -> float:
    """Return the noise multiplier to try next, between one that is too small and one that is not.

    The logarithm of epsilon is about linear in that of the noise, with a slope near -1.
    """
    left, right = math.log(low[0]), math.log(high[0])
    guess = middle = (left + right) / 2
    if math.isfinite(low[1]) and math.isfinite(high[1]):
        root = left + (right - left) * low[1] / (low[1] - high[1])
        # A little to the far side of the root, so that the next bracket is a narrow one.
        guess = root + _WIDTH / 3 * math.copysign(1, middle - root)
    elif math.isfinite(low[1]):
        guess = left + min(1.2 * low[1] + _WIDTH, 3.0)
    elif math.isfinite(high[1]):
        guess = right + max(1.2 * high[1] - _WIDTH, -3.0)
    return math.exp(guess if left < guess < right and not halve else middle)
