"""Guessing from scores which canaries were included, and how many to guess about."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tacit.privacy.audit.gaussian import cdf

Floats = npt.NDArray[np.float64]
"""Scores, one a canary."""
Coins = npt.NDArray[np.bool_]
"""Whether each canary was included; fair coins that the mechanism's own draws know nothing of."""
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # of the canaries, to guess about
_PARTS = (1, 2, 4, 8, 16)  # of all canaries, one in so many is looked at
_MOST = 2000  # guesses; more add little and take long to judge


class Guesses(NamedTuple):
    """What became of an attacker's guesses about fair coins.

    Attributes:
        correct: How many were right.
        made: How many were made; about the other canaries the attacker said nothing.
        canaries: How many coins were tossed.
    """

    correct: int
    made: int
    canaries: int


def guess(scores: Floats, included: Coins, made: int, canaries: int | None = None) -> Guesses:
    """Guess that the highest scores were included and the lowest left out, half of ``made`` each.

    Numbers are fixed before anybody looks at the scores: the bounds of one run rest on that.

    Args:
        scores: The canaries' scores.
        included: Their coins.
        made: How many guesses.
        canaries: Look at so many canaries, the first ones; None: at all.

    >>> guess(np.array([3.0, -1.0, 0.1, 2.0]), np.array([True, False, False, True]), made=4)
    Guesses(correct=4, made=4, canaries=4)
    """
    scores, included = scores[:canaries], included[:canaries]
    low, high = made - made // 2, made // 2
    order: npt.NDArray[Any] = np.argsort(scores, kind="stable")
    right = int((~included[order[:low]]).sum()) + int(included[order[len(order) - high :]].sum())
    return Guesses(right, made, len(scores))


def planned(
    canaries: int, mu: float | None, bound: Callable[[Guesses], float], *, all_of_them: bool = False
) -> Guesses:
    """Return how many canaries to look at, and how many guesses to make, before any score is seen.

    Args:
        canaries: How many coins will be tossed.
        mu: How far apart the scores of included and left-out canaries are expected to lie, in standard
            deviations; None: so far that no guess will be wrong.
        bound: What guesses would be worth.
        all_of_them: Look at all canaries. Fewer can be worth more where there is a delta, which allows a
            mechanism to give any of them away.

    Returns:
        What is expected of the plan that promises most.
    """
    parts = (1,) if all_of_them else _PARTS
    plans = {_expected(max(1, canaries // part), share, mu) for part in parts for share in _SHARES}
    # Where nothing is promised, many guesses: what comes out may be better than expected.
    return max(sorted(plans), key=lambda guesses: (bound(guesses), guesses.made))


def _expected(canaries: int, share: float, mu: float | None) -> Guesses:
    # With half of the guesses on either side, all of them can only be right if as many coins fell that way.
    most = max(2.0, canaries - 2 * math.sqrt(canaries))
    made = min(canaries, max(2, 2 * round(min(most, canaries * share, _MOST) / 2)))
    return Guesses(int(made * _accuracy(made / canaries, mu)), made, canaries)


def _accuracy(share: float, mu: float | None) -> float:
    """Return the share of guesses expected to be right when the outermost scores are guessed about."""
    if mu is None:
        return 1.0
    low, high = 0.0, mu / 2 + 10.0
    for _ in range(60):  # where the upper half of the guesses begins: P(score > place) = share / 2
        place = (low + high) / 2
        beyond = (cdf(mu / 2 - place) + cdf(-mu / 2 - place)) / 2
        low, high = (place, high) if beyond > share / 2 else (low, place)
    inside, outside = cdf(mu / 2 - low), cdf(-mu / 2 - low)
    return inside / (inside + outside)
