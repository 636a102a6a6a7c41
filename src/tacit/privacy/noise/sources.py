"""Noise in standard units, block by block: drawn from keys as it is needed, or kept as a vector."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tacit.privacy.mechanisms.mechanism import Distribution
from tacit.privacy.noise.draws import (
    BLOCK,
    LARGEST_LAPLACE,
    LARGEST_NORMAL,
    Draws,
    LaplaceStream,
    NormalStream,
    Scratch,
    even,
)


class Noise(Protocol):
    """One step's vector of noise, before it is scaled."""

    @property
    def largest(self) -> float:
        """No coordinate is larger in absolute value."""
        ...

    def blocks(self, size: int, scale: float = 1.0) -> Iterator[Draws]:
        """Yield ``scale`` times the vector's coordinates in order, each block at most ``BLOCK`` long.

        A block may be overwritten, and is valid until the next one is asked for.
        """
        ...


@dataclass(frozen=True)
class FreshNoise:
    """A weighted sum of independent vectors of standard draws, one for each key.

    It is a function of its keys and weights and of nothing else, so that a step's noise can be drawn again;
    memory is that of one block, however long the vector.

    Attributes:
        keys: One for each vector; never shown.
        weights: What each vector enters with.
        distribution: Of the draws.

    >>> float(next(FreshNoise((bytes(32),)).blocks(1_000_000)).std().round(1))
    1.0
    """

    keys: tuple[bytes, ...] = field(repr=False)
    weights: tuple[float, ...] = (1.0,)
    distribution: Distribution = "normal"

    def __post_init__(self) -> None:
        assert len(self.keys) == len(self.weights)
        assert self.weights[0] > 0

    @property
    def largest(self) -> float:
        one = LARGEST_NORMAL if self.distribution == "normal" else LARGEST_LAPLACE
        return one * math.fsum(map(abs, self.weights))

    def blocks(self, size: int, scale: float = 1.0) -> Iterator[Draws]:
        kind = NormalStream if self.distribution == "normal" else LaplaceStream
        streams = [kind(key) for key in self.keys]
        scratch, total, drawn = Scratch(size), *np.empty((2, even(min(size, BLOCK))))
        for start in range(0, size, BLOCK):
            length = even(min(BLOCK, size - start))
            for index, (stream, weight) in enumerate(zip(streams, self.weights, strict=True)):
                out = drawn[:length] if index else total[:length]
                stream.fill(out, abs(weight) * scale, scratch)
                if index:
                    (np.add if weight > 0 else np.subtract)(total[:length], out, out=total[:length])
            yield total[: size - start]


@dataclass(frozen=True)
class StoredNoise:
    """Noise that was drawn before.

    Attributes:
        vector: The noise in standard units; never shown.
    """

    vector: Draws = field(repr=False)

    @property
    def largest(self) -> float:
        return float(max(self.vector.max(), -self.vector.min())) if len(self.vector) else 0.0

    def blocks(self, size: int, scale: float = 1.0) -> Iterator[Draws]:
        assert size == len(self.vector)
        for start in range(0, size, BLOCK):
            yield self.vector[start : start + BLOCK] * scale
