"""Standard normal and Laplace draws in float64, each from 64 random bits or more."""

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tacit.privacy.noise.keystream import Keystream, Words, derive

Draws = npt.NDArray[np.float64]
"""Standard draws, float64, shape (size,)."""

BLOCK = 1 << 15
"""Draws made at once: their scratch memory stays in the core's own cache. Part of what a key means."""
LARGEST_NORMAL = 13.4
"""No standard normal draw is larger: ``sqrt(2 * 128 * ln 2)``, from the smallest of 128-bit uniforms."""
LARGEST_LAPLACE = 89.0
"""No standard Laplace draw is larger: ``128 * ln 2``."""

_RARE = 2.0**-31  # uniforms below it want more than 64 bits


class Stream(Protocol):
    """The draws of one key, in order."""

    def fill(self, out: Draws, scale: float, scratch: "Scratch") -> None:
        """Overwrite ``out`` with ``scale`` (above 0) times the next draws; even, and at most ``BLOCK``."""
        ...


class Scratch:
    """Memory for one block of draws, used again for every block and for every stream."""

    def __init__(self, size: int) -> None:
        size = even(min(size, BLOCK))
        self.words: Words = np.empty(2 * size, dtype=np.int64)
        self.floats = np.empty(size)


class NormalStream:
    """Standard normals from one key (Box & Muller 1958).

    Two words give two draws: ``r cos a`` and ``r sin a`` with ``r = sqrt(-2 ln u)``. The first word ``k``,
    signed, stands for the uniform number ``u = |k + w| 2^-63``, ``w`` in [0, 1) for all the bits that would
    follow. They are beyond float64's precision unless ``|k|`` is small, which is where the tail comes from:
    below 2^32, once in 2^31 times, 64 further bits are really drawn. So the radius is as fine at ten
    deviations as it is at one, and its tail ends at 13.3 deviations (probability 2^-128) instead of the 9.4
    that 64 bits would give. The second word gives the half angle ``a / 2`` in [-pi/2, pi/2).
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._words = Keystream(key)
        self._tail: Keystream | None = None

    def fill(self, out: Draws, scale: float, scratch: Scratch) -> None:
        pairs = len(out) // 2
        words = scratch.words[: len(out)]
        self._words.fill(words)
        radius, tangent, share = out[:pairs], out[pairs:], scratch.floats[:pairs]
        self._radius(words[:pairs], scale, radius)
        np.copyto(tangent, words[pairs:], casting="unsafe")
        np.multiply(tangent, math.pi * 2.0**-64, out=tangent)
        np.tan(tangent, out=tangent)
        # With t = tan(a / 2): sin a = 2t / (1 + t^2), cos a = 2 / (1 + t^2) - 1; NumPy's tan is four times
        # as quick as its sin and cos.
        np.multiply(tangent, tangent, out=share)
        np.add(share, 1.0, out=share)
        np.divide(radius, share, out=share)
        np.multiply(share, tangent, out=tangent)
        np.multiply(radius, 0.5, out=radius)
        np.subtract(share, radius, out=radius)

    def _radius(self, words: Words, scale: float, out: Draws) -> None:
        """Write ``2 scale r`` of each word: ``sqrt(-4 scale^2 ln u^2)``."""
        np.copyto(out, words, casting="unsafe")
        np.multiply(out, 2.0**-63, out=out)
        np.multiply(out, out, out=out)
        if out.min() < _RARE**2:
            rare = np.flatnonzero(out < _RARE**2)
            out[rare] = self._refined(words[rare]) ** 2
        np.log(out, out=out)
        np.multiply(out, -4.0 * scale**2, out=out)
        np.sqrt(out, out=out)

    def _refined(self, words: Words) -> Draws:
        """Return the uniforms of words that want more bits."""
        if self._tail is None:
            self._tail = Keystream(derive(self._key, "tail"))
        more = np.empty_like(words)
        self._tail.fill(more)
        return uniforms(words, more)


def uniforms(words: Words, more: Words) -> Draws:
    """Return ``|k + w| 2^-63`` with ``w`` in [0, 1) from ``more``: never 0, exact but for one rounding."""
    pairs = zip(words.tolist(), more.tolist(), strict=True)
    # Integers of 129 bits, the last of which is set.
    return np.array([math.ldexp(abs((k << 65) + ((m + 2**63) << 1) + 1), -128) for k, m in pairs])


class LaplaceStream:
    """Standard Laplace draws from one key: ``-ln u`` with the sign of a fair coin.

    Two words give one draw: ``x = (k + w) 2^-63``, uniform on [-1, 1) with all its 128 bits where it is
    small, has ``u = |x|`` and the sign. A tail of probability 2^-127 is cut off: what is claimed as pure
    epsilon holds but for that delta in each coordinate.
    """

    def __init__(self, key: bytes) -> None:
        self._words = Keystream(key)

    def fill(self, out: Draws, scale: float, scratch: Scratch) -> None:
        words = scratch.words[: 2 * len(out)]
        self._words.fill(words)
        signed, low = scratch.floats[: len(out)], out
        np.multiply(words[: len(out)], 2.0**-63, out=signed)
        np.multiply(words[len(out) :], 2.0**-127, out=low)
        np.add(low, 2.0**-64, out=low)
        np.add(signed, low, out=signed)
        np.abs(signed, out=low)
        np.maximum(low, 2.0**-128, out=low)
        np.log(low, out=low)
        np.multiply(low, scale, out=low)
        np.copysign(low, signed, out=out)


def standard_normals(key: bytes, size: int) -> Draws:
    """Return the normals of deviation 1 that belong to a key of 32 random bytes.

    The same key gives the same draws; on another processor or NumPy the last bit of a draw may differ.

    >>> standard_normals(bytes(32), 1_000_000).std().round(2)
    np.float64(1.0)
    """
    return _drawn(NormalStream(key), size)


def standard_laplace(key: bytes, size: int) -> Draws:
    """Return the Laplace draws of scale 1 that belong to a key of 32 random bytes.

    >>> abs(standard_laplace(bytes(32), 1_000_000)).mean().round(2)
    np.float64(1.0)
    """
    return _drawn(LaplaceStream(key), size)


def _drawn(stream: Stream, size: int) -> Draws:
    out, scratch = np.empty(even(size)), Scratch(size)
    for start in range(0, size, BLOCK):
        stream.fill(out[start : start + BLOCK], 1.0, scratch)
    return out[:size]


def even(size: int) -> int:
    """Return the size, or one more if that is odd: normals come in pairs."""
    return size + size % 2
