"""What honest noise looks like: checks whose false alarms have a probability of about one in a million.

Each check returns a p-value or a list of the faults that it found, so that a test can show both sides: honest
noise has none, and noise that was weakened is flagged.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
from scipy import stats

from tacit.privacy.mechanisms import Distribution
from tacit.privacy.noise.draws import BLOCK

Samples = npt.NDArray[np.float64]

ALARM = 1e-6
"""Probability of a false alarm of one check."""
ENOUGH = 1_300_000
"""So many normals show a variance that is 1 % off: it lies 8 deviations out, and the alarm is at 4.9."""
PARTS = 10
CHECKS = ("variance", "part", "shape", "coordinates", "releases", "repeats")


def noise_faults(
    releases: Samples, scale: float, distribution: Distribution = "normal", checks: Collection[str] = CHECKS
) -> list[str]:
    """Return what is wrong with noise that should be independent, shape (releases, coordinates).

    Args:
        releases: What was released of sums that are zero; steps of one run, or of several runs.
        scale: The noise's scale: a normal's standard deviation.
        distribution: Of the noise.
        checks: Those to make.
    """
    assert releases.size >= ENOUGH
    standard = releases / scale
    return [check for check in checks if _p_value(check, standard, distribution) < ALARM]


def _p_value(check: str, standard: Samples, distribution: Distribution) -> float:
    match check:
        case "variance":
            return variance_p(standard, distribution)
        case "part":
            return _smallest(variance_p(part, distribution) for part in _parts(standard))
        case "shape":
            return shape_p(standard, distribution)
        case "coordinates":
            return _smallest(_neighbours(standard))
        case "releases":
            return _smallest(_pairs(standard))
        case "repeats":
            return 0.0 if repeats(standard) else 1.0
    raise AssertionError(check)


def variance_p(standard: Samples, distribution: Distribution = "normal") -> float:
    """Return how likely a mean square so far from the true one is; two-sided."""
    if distribution == "normal":
        total = float(np.sum(standard**2))
        return 2 * min(stats.chi2.cdf(total, standard.size), stats.chi2.sf(total, standard.size))
    # |x| of Laplace is exponential, and a sum of exponentials is half of chi-square.
    total = float(np.sum(np.abs(standard)))
    return 2 * min(stats.gamma.cdf(total, standard.size), stats.gamma.sf(total, standard.size))


def shape_p(standard: Samples, distribution: Distribution = "normal") -> float:
    """Return how likely a distribution so far from the true one is (Kolmogorov and Smirnov)."""
    law = stats.norm if distribution == "normal" else stats.laplace
    return float(stats.kstest(standard.ravel(), law.cdf).pvalue)


def correlation_p(a: Samples, b: Samples) -> float:
    """Return how likely a correlation so far from none is; the mean is known to be zero."""
    norm = math.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    share = float(np.vdot(a, b)) / norm if norm else 1.0
    return 2 * float(stats.norm.sf(abs(share) * math.sqrt(a.size)))


def covariance_p(releases: Samples, expected: Samples) -> float:
    """Return how likely a covariance of releases, (steps, steps), so far from the expected one is."""
    size = releases.shape[1]
    found = releases @ releases.T / size
    deviation = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / size)
    worst = float(np.max(np.abs(found - expected) / deviation))
    return min(1.0, expected.size * 2 * float(stats.norm.sf(worst)))


def repeats(standard: Samples) -> int:
    """Return how many runs of four coordinates occur more than once, anywhere."""
    fours = standard[:, : standard.shape[1] // 4 * 4].reshape(-1, 4)
    marks = np.sort(fours @ np.sqrt([2.0, 3.0, 5.0, 7.0]))
    return int((np.diff(marks) == 0).sum())


def _smallest(values: Iterator[float]) -> float:
    """Return the smallest of several p-values, times their number (Bonferroni)."""
    found = list(values)
    return min(found) * len(found) if found else 1.0


def _parts(standard: Samples) -> Iterator[Samples]:
    """Yield each release, and each tenth of the coordinates over all releases."""
    yield from standard
    yield from np.array_split(standard, min(PARTS, standard.shape[1]), axis=1)


def _neighbours(standard: Samples) -> Iterator[float]:
    """Compare coordinates with their neighbours, near and far, in value and in size."""
    half = standard.shape[1] // 2
    assert half > BLOCK
    for lag in (1, 2, 3, 8, BLOCK // 2, BLOCK, half // 2, half):
        a, b = standard[:, :-lag], standard[:, lag:]
        yield correlation_p(a, b)
        yield correlation_p(np.abs(a) - np.abs(a).mean(), np.abs(b) - np.abs(b).mean())


def _pairs(standard: Samples) -> Iterator[float]:
    """Compare every two releases."""
    for later in range(1, len(standard)):
        for earlier in range(later):
            yield correlation_p(standard[earlier], standard[later])
