"""How far two updates are apart."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def relative_error(update: Floats, expected: Floats) -> float:
    """Return the L2 norm of the difference as a share of that of ``expected``."""
    difference = update.astype(np.float64) - expected
    return math.sqrt(float(np.square(difference).sum() / np.square(expected.astype(np.float64)).sum()))
