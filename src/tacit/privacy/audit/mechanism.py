"""Audit a mechanism by itself: rows in, what is released out, nothing else."""

from collections.abc import Callable

import numpy as np

from tacit.core.layout import Rows
from tacit.privacy.audit.bounds import Bound, canary_bounds
from tacit.privacy.audit.canaries import Canaries, RunScores
from tacit.privacy.audit.claim import Claim
from tacit.privacy.audit.guesses import Floats

Release = Callable[[Rows], "np.typing.NDArray[np.floating]"]
"""One step: from the cohort's updates, shape (clients, size), to the released vector, shape (size,)."""


def audit_mechanism(
    release: Release,
    size: int,
    claim: Claim,
    rng: np.random.Generator,
    *,
    canaries: int = 100,
    runs: int = 1,
    length: float = 1.0,
    confidence: float = 0.99,
) -> tuple[Bound, ...]:
    """Return the lower bounds that canaries find on a mechanism of one step.

    Args:
        release: What clips, adds up and adds noise; may scale its result, always by the same factor.
        size: Number of coordinates of an update.
        claim: What one step is said to cost.
        rng: What draws directions and coins.
        canaries: Clients that are included, or send zeros, by a fair coin each.
        runs: How often it is tried, with fresh coins.
        length: L2 norm of a canary's update; above the clipping bound the clip is tried, too.
        confidence: Probability with which all bounds hold.
    """
    return canary_bounds([_run(release, size, canaries, length, rng) for _ in range(runs)], claim, confidence)


def _run(release: Release, size: int, canaries: int, length: float, rng: np.random.Generator) -> RunScores:
    directions = Canaries(2 * canaries, size, rng)
    included = rng.random(canaries) < 0.5
    rows = np.zeros((canaries, size), dtype=np.float32)
    for index in np.flatnonzero(included).tolist():
        rows[index] = directions.row(index, length)
    scores: Floats = directions.scores(release(rows))[None, :]
    return RunScores(scores[:, :canaries], scores[:, canaries:], np.ones((1, canaries), np.bool_), included)
