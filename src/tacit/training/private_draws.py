"""The secret draws of record-level training: who is in a batch, the noise, the model's own draws."""

import os
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tacit.core.randomness import generator, seed64

Members = npt.NDArray[np.bool_]
"""For each record of a site whether it takes part in a step, shape (records,)."""
Normals = npt.NDArray[np.float64]
"""Independent draws from the standard normal distribution, shape (size,)."""
_KEY_BYTES = 32


class RecordDraws(Protocol):
    """All randomness that the guarantee rests on; whoever can predict it has no guarantee to rely on.

    The same call may or may not give the same draws again. Draws that repeat must never meet other inputs:
    two sums under one noise give away their difference.
    """

    def membership(self, round: int, client: str, step: int, records: int, rate: float) -> Members:
        """Draw who takes part in a step: every record independently, with probability ``rate``."""
        ...

    def noise(self, round: int, client: str, step: int, size: int) -> Normals:
        """Draw the noise of a step before it is scaled."""
        ...

    def model_seed(self, round: int, client: str) -> int:
        """Return the 63-bit seed of what the model draws in a round, dropout for example.

        It is secret, too: with masks that are known, a record that leaves the batch would hand its mask to
        the next one, and the sum would move by more than one clipped gradient.
        """
        ...


class SecureRecordDraws:
    """Fresh draws from the operating system, each of them once: a retry is a release of its own.

    Args:
        standard_normals: Expands a secret key of 32 bytes to that many standard normals, float64.
        entropy: Returns that many secret random bytes.
    """

    def __init__(
        self, standard_normals: Callable[[bytes, int], Normals], entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._standard_normals, self._entropy = standard_normals, entropy

    def membership(self, round: int, client: str, step: int, records: int, rate: float) -> Members:
        words = np.frombuffer(self._entropy(8 * records), dtype="<u8")
        return np.asarray((words >> np.uint64(11)) * 2.0**-53 < rate)

    def noise(self, round: int, client: str, step: int, size: int) -> Normals:
        return self._standard_normals(self._entropy(_KEY_BYTES), size)

    def model_seed(self, round: int, client: str) -> int:
        return int.from_bytes(self._entropy(8), "little") >> 1


class SeededRecordDraws:
    """Draws that follow from a seed and their address: for simulations and tests, and not private.

    Args:
        seed: The job's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def membership(self, round: int, client: str, step: int, records: int, rate: float) -> Members:
        uniform = generator(self._seed, round, "client", client, "record-membership", step).random(records)
        return np.asarray(uniform < rate)

    def noise(self, round: int, client: str, step: int, size: int) -> Normals:
        return generator(self._seed, round, "client", client, "record-noise", step).standard_normal(size)

    def model_seed(self, round: int, client: str) -> int:
        return seed64(self._seed, round, "client", client, "record-model")
