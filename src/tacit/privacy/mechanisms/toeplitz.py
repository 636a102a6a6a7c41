"""Lower triangular Toeplitz matrices, kept as their first column.

With ``A`` the matrix of prefix sums, all ones on and below the diagonal, ``A^(1/2)`` has the power series
of ``(1 - x)^(-1/2)`` as its first column and ``A^(-1/2)`` that of ``(1 - x)^(1/2)``: a product of such
matrices is the product of their series.
"""

import math

import numpy as np

from tacit.core.errors import PlanError
from tacit.privacy.mechanisms.mechanism import Coefficients


def square_root(rows: int) -> Coefficients:
    """Return ``1, 1/2, 3/8, 5/16, ...``: the first column of ``A^(1/2)``.

    >>> square_root(4).tolist()
    [1.0, 0.5, 0.375, 0.3125]
    """
    return _series(-1, rows)


def inverse_square_root(rows: int) -> Coefficients:
    """Return ``1, -1/2, -1/8, -1/16, ...``: the first column of ``A^(-1/2)``.

    >>> inverse_square_root(4).tolist()
    [1.0, -0.5, -0.125, -0.0625]
    """
    return _series(+1, rows)


def inverse(column: Coefficients, rows: int) -> Coefficients:
    """Return the first column, ``rows`` long, of the inverse of a band matrix with a diagonal of ones.

    >>> inverse(np.array([1.0, -0.5]), 4).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    result = np.zeros(rows)
    result[0] = 1.0
    backward = column[:0:-1]
    for row in range(1, rows):
        past = result[max(0, row - len(backward)) : row]
        result[row] = -np.dot(backward[len(backward) - len(past) :], past)
    return result


def sensitivity(column: Coefficients, steps: int, min_separation: int) -> float:
    """Return the L2 sensitivity of a strategy ``C`` for clients at steps ``min_separation`` or more apart.

    For a first column that is not negative and never increases, the worst case is a client at steps 0, b,
    2b, ... that sends the same unit vector each time (Kalinin & Lampert 2024, arXiv 2405.13763, theorem 2).
    Why: the square of what a client at steps ``s_1 < s_2 < ...`` moves is at most the sum over all pairs of
    ``G[s_i, s_j]``, ``G = C^T C``, as no entry of ``G`` is negative. For ``i <= j`` that entry is
    ``sum_(u < steps - s_j) c_u c_(u + s_j - s_i)``: it grows if ``s_j`` gets smaller, and if the gap does.
    Earliest and closest, that is at multiples of b, every pair is at its largest at once.

    Args:
        column: First column of ``C``, at least ``steps`` long or a band.
        steps: Steps of the whole run.
        min_separation: Least distance of two steps of one client: 1 for every step.
    """
    check_run(steps, min_separation)
    assert (column >= 0).all()
    assert (np.diff(column) <= 1e-12).all()
    min_separation = min(min_separation, steps)
    participations = math.ceil(steps / min_separation)
    moved = np.zeros(participations * min_separation)
    used = min(steps, len(column))
    moved[:used] = column[:used]
    # moved[t] = c[t] + c[t - b] + c[t - 2b] + ...
    moved = np.cumsum(moved.reshape(participations, min_separation), axis=0).ravel()[:steps]
    return float(np.linalg.norm(moved))


def _series(sign: int, rows: int) -> Coefficients:
    """Return the power series of ``(1 - x)^(sign / 2)``: ``a_k = a_(k-1) (1 - (1 + sign / 2) / k)``."""
    ratios = np.ones(rows)
    ratios[1:] = 1 - (1 + sign / 2) / np.arange(1, rows)
    return np.multiply.accumulate(ratios)


def check_run(steps: int, min_separation: int) -> None:
    """Refuse a run without steps, or with clients more often than once a step.

    Raises:
        PlanError: ``steps`` or ``min_separation`` is below 1.
    """
    for name, value in (("steps", steps), ("min_separation", min_separation)):
        if value < 1:
            raise PlanError("T186", f"{name} must be at least 1, not {value}", fix="Give a number from 1 on.")
