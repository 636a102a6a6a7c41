"""Canary clients: updates in directions of their own, and the scores of what is released."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.core.errors import PlanError
from tacit.core.layout import Vector
from tacit.privacy.audit.guesses import Coins, Floats
from tacit.privacy.mechanisms import Mechanism

_LEAST_IDLE = 16  # directions; fewer may look alike by chance
_SAME = 1 - 1e-6  # cosine of equal vectors, but for rounding


class Canaries:
    """Directions of length one, orthogonal to each other, that hide among all coordinates.

    After Andrew et al. 2024, "One-shot Empirical Privacy Estimation for Federated Learning", whose random
    directions are nearly orthogonal in high dimension. These are exactly so in any: each is a random subset
    of the coordinates with random signs. What is released in a direction that nobody uses is noise.

    Args:
        count: How many directions.
        size: Number of coordinates of an update.
        rng: What draws them.

    Raises:
        PlanError: There are more directions than coordinates.
    """

    def __init__(self, count: int, size: int, rng: np.random.Generator) -> None:
        if not 1 <= count <= size:
            fix = "Use fewer canaries: half as many as the model has parameters at most."
            raise PlanError("T195", f"{count} directions do not fit into {size} parameters", fix=fix)
        self.count, self.size, self.width = count, size, size // count
        self._places = rng.permutation(size)[: count * self.width]
        self._signs = rng.choice(np.array([-1.0, 1.0]), count * self.width)

    def row(self, index: int, length: float) -> Vector:
        """Return the update of one canary, of that L2 norm, shape (size,)."""
        own = slice(index * self.width, (index + 1) * self.width)
        row = np.zeros(self.size, dtype=np.float32)
        row[self._places[own]] = self._signs[own] * (length / math.sqrt(self.width))
        return row

    def scores(self, released: npt.NDArray[np.floating]) -> Floats:
        """Return how far a released vector, shape (size,), reaches in each direction, shape (count,)."""
        products = released[self._places].astype(np.float64) * self._signs
        return np.asarray(products.reshape(self.count, self.width).sum(axis=1) / math.sqrt(self.width))


@dataclass(frozen=True)
class RunScores:
    """What the releases of one run say about its canaries.

    Attributes:
        scores: Each canary's score in each step, shape (steps, canaries).
        idle: Scores of directions that nobody uses, shape (steps, directions): they measure the noise.
        taken: Whether each canary is in the step's cohort, included or not; shape (steps, canaries).
        included: The coins: whether each canary sends its row, or zeros in its place.
    """

    scores: Floats
    idle: Floats
    taken: Coins
    included: Coins

    @property
    def is_noiseless(self) -> bool:
        """Whether nothing at all hides the canaries."""
        return not self.idle.any()


@dataclass(frozen=True)
class Exposure:
    """What the releases of a run say about each canary, all steps together.

    Attributes:
        scores: In units of the noise's standard deviation, shape (canaries,); a left-out canary's mean is 0.
        weights: The mean of an included canary's score is its weight over the noise multiplier.
        included: The coins.
    """

    scores: Floats
    weights: Floats
    included: Coins


def exposure(run: RunScores, strategy: Floats | None = None) -> Exposure:
    """Combine all steps in the way that tells most (a matched filter), knowing who took part in which.

    Canaries that took part in none are left out: who they are says nothing about the coins.

    Args:
        run: The run.
        strategy: What correlates the noise over steps, see ``strategy_of``; None: it is independent.
    """
    kept = run.taken.any(axis=0)
    scores, idle, signals = run.scores[:, kept], run.idle, run.taken[:, kept].astype(np.float64)
    if strategy is not None:
        scores, idle, signals = strategy @ scores, strategy @ idle, strategy @ signals
    weights = np.sqrt(np.sum(signals**2, axis=0))
    combined = np.sum(signals * _in_units_of(idle, scores), axis=0) / weights
    return Exposure(combined, weights, run.included[kept])


def repeated_steps(run: RunScores, strategy: Floats | None = None) -> tuple[int, int] | None:
    """Return two steps with the very same noise, if there are any: their difference has none."""
    idle = run.idle if strategy is None else strategy @ run.idle
    lengths = np.linalg.norm(idle, axis=1, keepdims=True)
    if idle.shape[1] < _LEAST_IDLE or not lengths.all():
        return None
    alike = np.tril((idle / lengths) @ (idle / lengths).T, k=-1)
    later, earlier = np.unravel_index(np.argmax(alike), alike.shape)
    return (int(earlier), int(later)) if alike[later, earlier] > _SAME else None


def blind_scores(run: RunScores) -> Floats:
    """Combine all steps without knowing who took part: what is left where sampling is kept secret."""
    return np.asarray(np.sum(_in_units_of(run.idle, run.scores), axis=0))


def strategy_of(
    mechanism: Mechanism, steps: int, min_separation: int, run_steps: int | None = None
) -> Floats:
    """Return the matrix that makes correlated noise independent again, over the sensitivity of its input.

    A mechanism releases ``S + scale * W z``; ``W^-1`` of that is ``W^-1 S + scale * z``, and ``scale`` is
    the noise multiplier times the sensitivity of ``W^-1 S``.

    Args:
        mechanism: What correlates the noise.
        steps: How many steps are looked at.
        min_separation: Least distance of two steps at which one client takes part.
        run_steps: How many steps the noise is calibrated for; None: as many as are looked at.
    """
    mixing = np.zeros((steps, steps))
    for step in range(steps):
        weights = mechanism.weights(step, min_separation)
        mixing[step, step + 1 - len(weights) : step + 1] = weights[::-1]
    sensitivity = mechanism.sensitivity(run_steps or steps, min_separation)
    return np.asarray(np.linalg.inv(mixing) / sensitivity, dtype=np.float64)


def _in_units_of(idle: Floats, scores: Floats) -> Floats:
    """Divide each step's scores by the noise's standard deviation, as directions that nobody uses show it."""
    spread = np.sqrt(np.mean(idle**2, axis=1, keepdims=True))
    return scores / np.where(spread > 0, spread, 1.0)
