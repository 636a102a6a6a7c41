"""Taking a share of each client's examples: how many, and which."""

import numpy as np
import numpy.typing as npt

from tacit.core.randomness import generator
from tacit.data.table import Rows


def taken(sizes: Rows, share: float) -> Rows:
    """Return how many examples a share of each client's is: the nearest whole number, and never all.

    Halves round up; of a client's examples at least one stays.

    >>> taken(np.array([0, 1, 2, 3, 10]), 0.2)
    array([0, 0, 0, 1, 2])
    >>> taken(np.array([0, 1, 2, 3, 10]), 0.99)
    array([0, 0, 1, 2, 9])
    """
    # The hair makes 0.1 * 5 a half, whatever its last bit.
    nearest = np.floor(sizes * share + 0.5 + 1e-9).astype(np.int64)
    most = np.maximum(sizes - 1, 0)
    return np.asarray(np.minimum(nearest, most), np.int64)


def choose(order: Rows, offsets: Rows, share: float, seed: int, purpose: str) -> npt.NDArray[np.bool_]:
    """Return which of the rows in ``order`` are taken when a share is taken of each client's.

    What is taken of one client depends on its rows, the seed and the purpose alone.
    """
    sizes = np.diff(offsets)
    client = np.repeat(np.arange(len(sizes)), sizes)
    # One key for each row of the table, so that other clients' rows change nothing.
    keys = generator(seed, "data", purpose).random(int(order.max()) + 1 if len(order) else 0)
    ranked = np.lexsort((keys[order], client))
    rank = np.arange(len(order)) - offsets[client]
    chosen = np.zeros(len(order), bool)
    chosen[ranked] = rank < taken(sizes, share)[client]
    return chosen
