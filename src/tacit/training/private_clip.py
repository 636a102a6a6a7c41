"""The sum of clipped gradients and its noise: one record moves the sum by no more than the clipping bound."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tacit.core.layout import Rows, squared_norms
from tacit.training.private_draws import Normals

Total = npt.NDArray[np.float64]
"""A sum of gradients in float64, shape (parameters,)."""
_HAIR = 1 - 2.0**-30  # more than float64 can lose in the sum of thousands of gradients
_GRID_BITS = 20  # the grid is that many bits finer than the noise: its own variance adds 1e-13 of the noise's
_BLOCK = 1 << 16  # numbers converted at once: a block of float64 stays in the core's own cache


def add_clipped(total: Total, gradients: Sequence[Rows], bound: float) -> None:
    """Add some examples' gradients to ``total``, each scaled down to L2 norm ``bound``.

    The norm runs over all parameters and is taken in float64, and so is the sum. A gradient that is not
    finite counts as zero.

    Args:
        total: The sum so far, changed in place.
        gradients: One matrix per parameter, shape (examples, parameter size), in the order of ``total``.
        bound: The clipping bound.
    """
    scales = _scales(np.sqrt(sum(squared_norms(rows) for rows in gradients)), bound)
    start = 0
    for rows in gradients:
        _add_scaled(total[start : start + rows.shape[1]], rows, scales)
        start += rows.shape[1]


def add_noise(total: Total, normals: Normals, std: float) -> Total:
    """Return the total plus Gaussian noise, rounded to a fixed grid far finer than the noise.

    What is released lies on a grid that depends on ``std`` alone, so that the last bits of a floating-point
    sum tell nothing of what was summed (Mironov 2012).
    """
    assert normals.shape == total.shape
    grid = 2.0 ** (math.floor(math.log2(std)) - _GRID_BITS)
    noisy = normals * std
    noisy += total
    noisy /= grid
    np.rint(noisy, out=noisy)
    noisy *= grid
    return noisy


def _scales(norms: npt.NDArray[np.float64], bound: float) -> npt.NDArray[np.float64]:
    """Return what to multiply each gradient with; 0 for one that is not finite."""
    largest = bound * _HAIR
    scales = np.divide(largest, norms, out=np.ones_like(norms), where=norms > largest)
    return np.where(np.isfinite(norms), scales, 0.0)


def _add_scaled(total: Total, rows: Rows, scales: npt.NDArray[np.float64]) -> None:
    used = scales > 0
    if not used.all():  # zero times infinity is no zero
        rows, scales = rows[used], scales[used]
    width = max(1, min(_BLOCK // max(len(rows), 1), rows.shape[1]))
    room = np.empty((len(rows), width))
    for left in range(0, rows.shape[1], width):
        part = rows[:, left : left + width]
        block = room[:, : part.shape[1]]
        np.copyto(block, part)  # into memory that is at hand: astype would fetch new pages for every block
        total[left : left + width] += scales @ block
