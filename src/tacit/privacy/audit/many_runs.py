"""Lower bounds from many independent runs, each with or without one canary."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tacit.privacy.audit.guesses import Floats

_LEAST = 2  # scores of either kind in either half, below which nothing is said
_Counts = npt.NDArray[np.integer[Any]]


class _Rates(NamedTuple):
    """How well thresholds tell runs with the canary from runs without it, one entry a threshold.

    Attributes:
        found: Runs with the canary that score at least the threshold: their share is at least this.
        alarmed: Runs without it that do: their share is at most this.
    """

    found: Floats
    alarmed: Floats


def many_runs_epsilon(included: Floats, left_out: Floats, delta: float, confidence: float) -> float:
    """Return the largest epsilon that the scores refute, at that delta.

    Holds for every mechanism and every attack: (epsilon, delta)-DP keeps the true positive rate below
    exp(epsilon) times the false positive rate plus delta (Kairouz, Oh, Viswanath 2015). Both rates are
    bounded after Clopper and Pearson, at a threshold that is chosen on every other score and judged on the
    rest (Jagielski, Ullman, Oprea 2020).

    Args:
        included: Scores of the runs with the canary, in an order that knows nothing of them.
        left_out: Scores of the runs without it.
        delta: The claim's delta.
        confidence: Probability with which the bound holds.
    """
    return _bound(included, left_out, confidence, lambda rates: _epsilon(rates, delta))


def many_runs_mu(included: Floats, left_out: Floats, confidence: float) -> float:
    """Return the largest mu that the scores refute: no mu-GDP mechanism lets them lie so far apart.

    mu-GDP keeps quantile(true positives) - quantile(false positives) at mu or below, whatever the threshold
    (Dong, Roth, Su 2022); the Gaussian mechanism reaches it at every one (Nasr et al. 2023).
    """
    return _bound(included, left_out, confidence, _mu)


def clopper_pearson(successes: _Counts, trials: int, confidence: float) -> tuple[Floats, Floats]:
    """Return lower and upper bounds on probabilities; each holds with that confidence by itself.

    >>> low, high = clopper_pearson(np.array([0]), 10, confidence=0.95)
    >>> float(low[0]), round(float(high[0]), 4)
    (0.0, 0.2589)
    """
    from scipy.special import betaincinv  # late: slow to import

    # At 0 and at all of them a bound is the end of the interval itself, where the inverse is not defined.
    low = betaincinv(np.maximum(successes, 1), trials - np.maximum(successes, 1) + 1, 1 - confidence)
    high = betaincinv(
        np.minimum(successes, trials - 1) + 1, trials - np.minimum(successes, trials - 1), confidence
    )
    return np.where(successes > 0, low, 0.0), np.where(successes < trials, high, 1.0)


def _bound(included: Floats, left_out: Floats, confidence: float, worth: Callable[[_Rates], Floats]) -> float:
    """Choose a threshold on every other score and return what it is worth on the rest; 0 if they are few."""
    if min(len(included), len(left_out)) < 2 * _LEAST:
        return 0.0
    thresholds = np.unique(np.concatenate([included[::2], left_out[::2]]))
    tried = worth(_rates(included[::2], left_out[::2], thresholds, confidence))
    chosen = thresholds[[int(np.argmax(tried))]]
    return max(0.0, float(worth(_rates(included[1::2], left_out[1::2], chosen, confidence))[0]))


def _rates(included: Floats, left_out: Floats, thresholds: Floats, confidence: float) -> _Rates:
    each = (1 + confidence) / 2  # two bounds, and both have to hold
    found, _ = clopper_pearson(_reaching(included, thresholds), len(included), each)
    _, alarmed = clopper_pearson(_reaching(left_out, thresholds), len(left_out), each)
    return _Rates(found, alarmed)


def _reaching(scores: Floats, thresholds: Floats) -> _Counts:
    """Return for each threshold how many scores are at least as large."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _epsilon(rates: _Rates, delta: float) -> Floats:
    """Return what follows from the rates, and from those of the opposite guess."""
    ways = ((rates.found, rates.alarmed), (1 - rates.alarmed, 1 - rates.found))
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [np.log(np.maximum(true - delta, 0.0) / false) for true, false in ways]
    return np.asarray(np.max(np.nan_to_num(each, nan=-np.inf), axis=0))


def _mu(rates: _Rates) -> Floats:
    from scipy.special import ndtri

    difference = ndtri(rates.found) - ndtri(rates.alarmed)
    return np.asarray(np.nan_to_num(difference, nan=-np.inf))
