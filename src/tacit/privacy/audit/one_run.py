"""Lower bounds from one run in which every canary was included by a fair coin of its own."""

import math
from collections.abc import Callable

import numpy as np

from tacit.privacy.audit.gaussian import cdf, quantile
from tacit.privacy.audit.guesses import Guesses

_MOST_EPSILON, _MOST_MU = 64.0, 16.0
_STEPS = 24  # of bisection: far finer than any audit


def one_run_epsilon(guesses: Guesses, delta: float, confidence: float) -> float:
    """Return the largest epsilon that the guesses refute: no (epsilon, delta)-DP mechanism lets them succeed.

    Holds for every mechanism and every attack. Steinke, Nasr and Jagielski 2023, theorem 5.2 and appendix D.

    >>> round(one_run_epsilon(Guesses(correct=75, made=100, canaries=1000), delta=1e-4, confidence=0.95), 3)
    0.673
    """
    return _largest(lambda epsilon: p_value(guesses, epsilon, delta) < 1 - confidence, _MOST_EPSILON)


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Return the largest probability, under (epsilon, delta)-DP, of at least that many correct guesses."""
    from scipy.stats import binom  # late: it takes half a second to import

    # Under epsilon-DP each guess is right with the odds of randomised response at best.
    right = 1 / (1 + math.exp(-epsilon))
    above = float(binom.sf(guesses.correct - 1, guesses.made, right))
    if delta == 0 or guesses.correct == 0:
        return min(1.0, above)
    # With probability delta a canary is given away: that can lift a count of up to i below to where it is.
    lift = np.arange(1, guesses.correct + 1)
    below = np.cumsum(binom.pmf(guesses.correct - lift, guesses.made, right))
    return min(1.0, above + 2 * guesses.canaries * delta * float(np.max(below / lift)))


def one_run_mu(guesses: Guesses, confidence: float) -> float:
    """Return the largest mu that the guesses refute: no mu-GDP mechanism lets them succeed.

    Holds for every attack, and for every mechanism as hard to see through as a Gaussian one with that mu.
    After Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-Differential Privacy in One Run".
    """
    return _largest(lambda mu: _is_refuted(guesses, mu, 1 - confidence), _MOST_MU)


def _is_refuted(guesses: Guesses, mu: float, probability: float) -> bool:
    """Tell whether under mu-GDP so many correct guesses have at most that probability.

    Let p_i be the probability of i correct guesses out of ``made``, R_j the sum of i p_i / canaries over
    i >= j, and H_j that of (made - i) p_i / canaries. Flipping one canary's coin turns a correct guess about
    it into a wrong one, so the definition of GDP, averaged over canaries, says that
    R_{j+1} <= Phi(Phi^-1(H_j) + mu). Were the tail's probability larger than ``probability``, these
    inequalities would make all probabilities together larger than one.
    """
    made, canaries = guesses.made, guesses.canaries
    correct = probability * guesses.correct / canaries
    wrong = probability * (made - guesses.correct) / canaries
    for count in range(guesses.correct - 1, -1, -1):
        least = max(wrong, cdf(quantile(correct) - mu))
        correct += count / (made - count) * (least - wrong)
        wrong = least
    return correct + wrong > made / canaries


def _largest(is_refuted: Callable[[float], bool], most: float) -> float:
    """Return the largest value below ``most`` that is refuted, 0 if none is."""
    if not is_refuted(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_refuted(middle) else (low, middle)
    return low
