"""What a device makes of an encoded update before it leaves for a secure sum."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tacit.core.layout import Vector
from tacit.core.rule import Grid, Rule
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.ring import Ring


def packed(row: Vector, rule: Rule, grid: Grid, ring: Ring) -> npt.NDArray[np.uint64]:
    """Return an encoded row as the words of a ring, not masked yet.

    Args:
        row: What left the chain, on the grid, shape (grid.size,).
        rule: How updates become one.
        grid: The grid.
        ring: Its integers as words.

    Returns:
        The words, shape (ring.words,).

    Raises:
        RemoteProtocolError: The row is not finite, or beyond its declared bounds.
    """
    return ring.pack(rule.lift(row[None], grid).total)


def masked(row: Vector, rule: Rule, grid: Grid, ring: Ring, masks: Iterable[Mask]) -> npt.NDArray[np.uint64]:
    """Return an encoded row as words that only look random; as ``packed``, with a client's masks added."""
    words = packed(row, rule, grid, ring)
    add_masks(words, tuple(masks))
    return words
