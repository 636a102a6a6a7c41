"""Epsilon of a list of events, along a run, and how much further a limit reaches."""

import itertools
import math
from collections.abc import Callable

from tacit.core.errors import PlanError
from tacit.core.events import PrivacyEvent
from tacit.core.privacy import Adjacency
from tacit.privacy.accounting.convergence import converged, epsilon_at_interval
from tacit.privacy.accounting.grouping import Spend, Spent

Curve = tuple[tuple[int, float], ...]
"""Epsilon along a run: pairs of a count and its epsilon, ascending."""
_MOST = 2**20  # how many further events are asked for at most: far more than anybody's rounds
_FIRST = 1024  # how many are tried first


def epsilon(spent: Spent, delta: float, adjacency: Adjacency, interval: float | None = None) -> float:
    """Return epsilon of everything that was spent, rounded up.

    Gaussian releases that are not sampled are computed in closed form, all others by privacy loss
    distributions. It is not below the truth by more than 1e-4, and above it by less than 0.2 % unless delta
    comes close to what double precision can tell (1e-16 for every sampled release) or epsilon is below 0.002.

    Args:
        spent: Events and how often each happened.
        delta: The delta to state it at.
        adjacency: The relation to state it for.
        interval: Width of the grid of privacy losses. None finds one that is fine enough.

    Returns:
        Epsilon, or infinity where nothing can be claimed.

    Raises:
        PlanError: Delta is no probability, or nothing is known of an event under that relation.

    >>> from tacit.core.events import GaussianEvent
    >>> round(epsilon({GaussianEvent(noise_multiplier=10.0): 100}, 1e-5, "add_remove"), 5)
    4.37718
    """
    _check(delta)
    spend = Spend.of(spent)
    if interval is None:
        return converged(spend, delta, adjacency)[0]
    return epsilon_at_interval(spend, delta, adjacency, interval)


def epsilon_curve(
    event: PrivacyEvent, count: int, delta: float, adjacency: Adjacency, points: int = 20
) -> Curve:
    """Return epsilon along a run of equal events.

    The counts lie closer together at the start, where epsilon grows faster. Between two of them the later
    one counts: ``epsilon_at`` reads the curve so, and never says less than what was spent.
    """
    _check(delta)
    counts = sorted({math.ceil(count * (point / points) ** 2) for point in range(1, points + 1)})
    last, interval = converged(Spend.of({event: count}), delta, adjacency)
    curve = [(count, last)]
    for earlier in reversed(counts[:-1]):
        # A grid twice as coarse is good enough between the ends, and still on the safe side.
        value = epsilon_at_interval(Spend.of({event: earlier}), delta, adjacency, 2 * interval)
        curve.append((earlier, min(value, curve[-1][1])))
    return tuple(reversed(curve))


def epsilon_at(curve: Curve, count: int) -> float:
    """Read a curve at a count, upward: epsilon of its first point that is not before it.

    >>> epsilon_at(((1, 0.5), (10, 2.0)), 2)
    2.0
    """
    return next((value for point, value in curve if point >= count), math.inf) if count else 0.0


def affordable(
    event: PrivacyEvent,
    spent: Spent,
    epsilon: float,
    delta: float,
    adjacency: Adjacency,
    most: int = _MOST,
) -> int:
    """Return how many further events keep everything within epsilon and delta, up to ``most``.

    The answer agrees with ``epsilon`` to the last event, and is to be kept: as long as nothing else is
    spent, a reservation is a comparison with it.

    Args:
        event: The further event.
        spent: What was spent so far.
        epsilon: The limit.
        delta: The delta of the limit.
        adjacency: The relation to account under.
        most: Not more than that are asked for, such as the rounds that are left.
    """

    def over(further: int) -> float:
        total = {**spent, event: spent.get(event, 0) + further}
        return converged(Spend.of(total), delta, adjacency)[0] - epsilon

    _check(delta)
    low, high = (0, over(0)), (min(most, _FIRST), over(min(most, _FIRST)))
    if low[1] > 0:
        return 0
    while high[1] <= 0:
        if high[0] >= most:
            return most
        further = min(most, high[0] * 8)
        low, high = high, (further, over(further))
    return _last_within(over, low, high)


def _last_within(over: Callable[[int], float], low: tuple[int, float], high: tuple[int, float]) -> int:
    """Return the last count that is not over a limit, between one that is not and one that is.

    Epsilon grows about as the root of the count, so that interpolating in roots needs few steps; every
    third one halves instead, whatever the curve looks like.
    """
    for step in itertools.count(1):
        (within, below), (beyond, above) = low, high
        if beyond - within == 1:
            break
        share = 0.5 if step % 3 == 0 or not math.isfinite(above) else below / (below - above)
        root = math.sqrt(within) + share * (math.sqrt(beyond) - math.sqrt(within))
        guess = min(max(round(root**2), within + 1), beyond - 1)
        value = over(guess)
        low, high = ((guess, value), high) if value <= 0 else (low, (guess, value))
    return low[0]


def _check(delta: float) -> None:
    if not 0 < delta < 1:
        raise PlanError("T174", f"delta is {delta:g}", fix="Choose a delta above 0 and below 1.")
