"""Randomness with an address, so that a run depends on neither worker count nor arrival order.

Noise that protects somebody never comes from here: it comes from the operating system.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Address = str | int
"""One word of an address: a purpose, a round's number, a client's id."""


def generator(seed: int, *address: Address) -> np.random.Generator:
    """Return the generator that belongs to one address of one run.

    The same seed and address give the same stream on every machine; any other address gives an
    independent one (Philox keyed by a hash of both).

    >>> a, b = generator(0, 3, "client", "ann"), generator(0, 3, "client", "ann")
    >>> bool(a.random() == b.random())
    True
    """
    # NumPy documents ISeedSequence for this, but its types name SeedSequence alone.
    return np.random.Generator(np.random.Philox(seed=_Key(_digest(seed, address))))  # type: ignore[arg-type]


class _Key(np.random.bit_generator.ISeedSequence):
    """Hands Philox a ready key; given a bare ``key`` it would ask the system for entropy and drop it."""

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def generate_state(self, n_words: int, dtype: npt.DTypeLike = np.uint32) -> npt.NDArray[Any]:
        return np.frombuffer(self._digest, dtype="<u8").astype(dtype)[:n_words]


def seed64(seed: int, *address: Address) -> int:
    """Return the 63-bit seed of an address, for libraries that draw for themselves (torch)."""
    return int.from_bytes(_digest(seed, address)[:8], "little") >> 1


def _digest(seed: int, address: tuple[Address, ...]) -> bytes:
    # Lengths are part of the text: ("ab", "c") and ("a", "bc") are different addresses.
    # NumPy's numbers and strings count as Python's: an id is the same client wherever it was read.
    words = [f"{_kind(word)}{len(str(word))}:{word}" for word in (seed, *address)]
    return hashlib.blake2b("".join(words).encode(), digest_size=16, person=b"tacit.rng").digest()


def _kind(word: Address) -> str:
    return "str" if isinstance(word, str) else "int"
